"""Carry out a plan in parts, each a process of its own, on any machines that share a file system."""

from convkit.execute.in_parts.finish import finish
from convkit.execute.in_parts.part import make_part

__all__ = ["finish", "make_part"]
