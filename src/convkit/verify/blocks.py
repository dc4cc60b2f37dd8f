"""Read a tensor block by block: the only loop over a leaf's elements in ``verify``.

The engine has its own loop, which isn't used here: if both sides of a check used the same loop and it
skipped the last block, the check wouldn't notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

    Elements decoded together are read once.

    Raises:
        ConvkitError: the tensor doesn't exist, or its bytes can't be read.
    """
    spec, held = tensors.spec(key), Held(tensors)
    for start, stop in spans(spec.size, BLOCK // spec.itemsize):
        yield held.read(key, start, stop)


class Held(Tensors):
    """The same tensors, whose ranges may end anywhere at no extra cost: what is decoded together is decoded once and
    held, of each tensor what the last range lay in. For one thread.
    """

    def __init__(self, tensors: Tensors) -> None:
        self.leaves = tensors.leaves
        self._tensors = tensors
        self._held: dict[str, tuple[int, np.ndarray]] = {}

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :meth:`Tensors.read`."""
        import numpy as np

        spec, grain = self._tensors.spec(key), self._tensors.granularity(key)
        if grain > 1 and self._tensors.continues(key):
            grain = BLOCK // spec.itemsize
        stop = spec.size if stop is None else stop
        if grain == 1 or start >= stop:
            return self._tensors.read(key, start, stop)
        first, data = self._held.get(key, (0, None))
        if data is not None and first <= start and stop <= first + data.size:
            return data[start - first : stop - first]
        before = None
        if data is not None and first <= start < first + data.size:
            before, first = data[start - first :].copy(), first + data.size
        else:
            first = start - start % grain
        del data  # before more is read
        self._held.pop(key, None)
        data = self._tensors.read(key, first, min(spec.size, -(-stop // grain) * grain))
        self._held[key] = first, data
        part = data[max(0, start - first) : stop - first]
        return part if before is None else np.concatenate([before, part])

    def granularity(self, key: str) -> int:
        """See :meth:`Tensors.granularity`."""
        return self._tensors.granularity(key)

    def continues(self, key: str) -> bool:
        """See :meth:`Tensors.continues`."""
        return self._tensors.continues(key)

    def lies_open(self, key: str) -> bool:
        """See :meth:`Tensors.lies_open`."""
        return self._tensors.lies_open(key)

    def rows(self, key: str, starts: Sequence[int], length: int) -> np.ndarray:
        """See :meth:`Tensors.rows`."""
        return self._tensors.rows(key, starts, length)

    def release(self) -> None:
        """Let go of what is held."""
        self._held.clear()


def same_bits(
    one: Tensors, key: str, other: Tensors, as_key: str, advance: Callable[[int], object] = unmeasured
) -> bool:
    """Whether two tensors of one shape and dtype have the same bits; elements decoded together are read once.

    ``advance`` is called with the bytes that are compared, counted once, up to the first difference.

    Raises:
        ConvkitError: one of them isn't there, or its bytes can't be read.
    """
    import numpy as np

    spec = one.spec(key)
    ours, theirs = Held(one), Held(other)
    for start, stop in spans(spec.size, BLOCK // spec.itemsize):
        if not np.array_equal(ours.read(key, start, stop), theirs.read(as_key, start, stop)):
            return False
        advance((stop - start) * spec.itemsize)
    return True
