"""convkit: converts model checkpoints between frameworks and proves each conversion right.

The Python interface is the modules themselves; the ones a caller needs first:

- :func:`convkit.formats.open_checkpoint` opens a checkpoint without reading a tensor,
- :func:`convkit.plan.make_plan` decides the fate of every leaf,
- :func:`convkit.execute.convert` carries a plan out,
- :mod:`convkit.verify` judges the result.

Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"
