"""Cerebras `.mdl` checkpoints."""
