"""The checkpoints of T5X."""
