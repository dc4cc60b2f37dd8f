"""Carry out a plan: streamed, in bounded memory, with any number of threads."""

from convkit.checkpoint.progress import Progress
from convkit.execute.chain import plan_chain
from convkit.execute.conversion import convert
from convkit.files.part import Part

__all__ = ["Part", "Progress", "convert", "plan_chain"]
