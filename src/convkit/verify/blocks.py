"""Read a tensor block by block: the only loop over a leaf's elements in ``verify``.

The engine has its own loop, which isn't used here: if both sides of a check used the same loop and it
skipped the last block, the check wouldn't notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from convkit.checkpoint import Tensors
from convkit.checkpoint.progress import unmeasured

if TYPE_CHECKING:
    import numpy as np

#: bytes of a block: it stays in a second-level cache while it is rearranged, compared and digested
BLOCK = 2 << 20


def spans(size: int, most: int, unit: int = 1) -> Iterator[tuple[int, int]]:
    """Cut ``[0, size)`` into ranges of at most ``most`` indices; each start is a multiple of ``unit``.

    >>> list(spans(10, 4)), list(spans(10, 4, unit=3))
    ([(0, 4), (4, 8), (8, 10)], [(0, 3), (3, 6), (6, 9), (9, 10)])
    """
    step = max(1, most // unit) * unit
    for start in range(0, size, step):
        yield start, min(start + step, size)


def blocks(tensors: Tensors, key: str) -> Iterator[np.ndarray]:
    """Yield a tensor's elements in C order, in its carrier dtype, about :data:`BLOCK` bytes at a time.

    Raises:
        ConvkitError: the tensor doesn't exist, or its bytes can't be read.
    """
    spec = tensors.spec(key)
    for start, stop in spans(spec.size, BLOCK // spec.itemsize):
        yield tensors.read(key, start, stop)


def same_bits(
    one: Tensors, key: str, other: Tensors, as_key: str, advance: Callable[[int], object] = unmeasured
) -> bool:
    """Whether two tensors of one shape and dtype have the same bits; elements decoded together are read together.

    ``advance`` is called with the bytes that are compared, counted once, up to the first difference.

    Raises:
        ConvkitError: one of them isn't there, or its bytes can't be read.
    """
    import numpy as np

    spec = one.spec(key)
    unit = max(one.granularity(key), other.granularity(as_key))
    for start, stop in spans(spec.size, BLOCK // spec.itemsize, unit):
        if not np.array_equal(one.read(key, start, stop), other.read(as_key, start, stop)):
            return False
        advance((stop - start) * spec.itemsize)
    return True
