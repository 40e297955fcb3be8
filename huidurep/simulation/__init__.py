"""Cells -> templates on a probe -> training waveforms and ground-truth recordings."""
