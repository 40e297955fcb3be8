"""Fine-tuning a checkpoint on recordings of the user's own probe."""
