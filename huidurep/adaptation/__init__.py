"""Adapting a checkpoint to one recording, without labels."""
