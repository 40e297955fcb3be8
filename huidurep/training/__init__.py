"""Stored or simulated templates -> pairs of noisy views -> a trained encoder."""
