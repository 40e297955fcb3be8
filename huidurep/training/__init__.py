"""Stored or simulated templates -> several noisy spikes of each unit -> a trained encoder."""
