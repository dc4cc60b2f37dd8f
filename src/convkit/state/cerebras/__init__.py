"""The training state in Cerebras checkpoints."""
