"""Carry out a plan: streamed, in bounded memory, with any number of threads."""

from typing import TYPE_CHECKING

from convkit.deferred import exported

if TYPE_CHECKING:
    from convkit.checkpoint.progress import Progress
    from convkit.execute.chain import plan_chain
    from convkit.execute.conversion import convert
    from convkit.files.part import Part

__all__ = ["Part", "Progress", "convert", "plan_chain"]
__getattr__ = exported(
    __name__,
    {
        "Part": "convkit.files.part",
        "Progress": "convkit.checkpoint.progress",
        "convert": "convkit.execute.conversion",
        "plan_chain": "convkit.execute.chain",
    },
)
