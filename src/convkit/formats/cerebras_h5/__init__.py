"""The `.mdl` checkpoints of Cerebras."""
