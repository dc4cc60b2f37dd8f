"""PyTorch checkpoints, read without unpickling."""
