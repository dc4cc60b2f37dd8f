"""T5X checkpoints."""
