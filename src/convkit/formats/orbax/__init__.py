"""The checkpoints of Orbax."""
