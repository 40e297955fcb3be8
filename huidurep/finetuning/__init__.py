"""Fine-tuning a checkpoint on the recordings of a lab."""
