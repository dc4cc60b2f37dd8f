"""Checkpoints whose tensors are zarr arrays, in folders or in an OCDBT database."""
