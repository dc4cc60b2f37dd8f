"""Carry out a plan: streamed, in bounded memory, with any number of threads."""

from convkit.checkpoint.progress import Progress
from convkit.execute.chain import plan_chain
from convkit.execute.conversion import convert

__all__ = ["Progress", "convert", "plan_chain"]
