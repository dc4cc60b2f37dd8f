"""Check whether two checkpoints are the same model."""

from convkit.verify.equivalence.check import equivalence

__all__ = ["equivalence"]
