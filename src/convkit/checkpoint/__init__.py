"""Checkpoints: an index of leaves whose elements are read on demand, and the writer's side of it."""

from convkit.checkpoint.read import Checkpoint, Leaf, Opaque, Tensors, UnknownObject
from convkit.checkpoint.tensors import TensorSpec
from convkit.checkpoint.write import Format, WriteOptions, Writer

__all__ = ["Checkpoint", "Format", "Leaf", "Opaque", "TensorSpec", "Tensors", "UnknownObject", "WriteOptions", "Writer"]
