"""The checkpoints of PyTorch, read without unpickling."""
