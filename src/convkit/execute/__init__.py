"""Carrying a plan out: streamed, in bounded memory, with any number of threads."""

from convkit.execute.chain import plan_chain
from convkit.execute.conversion import Progress, convert

__all__ = ["Progress", "convert", "plan_chain"]
