"""Reads a checkpoint's tensors and digests them on the way, so that a verdict can say what it was about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convkit.checkpoint.digests import BlockDigests, combine, digest_leaf
from convkit.errors import ConvkitError

if TYPE_CHECKING:
    import numpy as np

    from convkit.checkpoint.read import Tensors

#: bytes that are read together where elements must be decoded in smaller groups
_TOGETHER = 64 << 10


@dataclass
class _Progress:
    """The digests of a tensor up to an element."""

    blocks: BlockDigests
    upto: int = 0


class DigestedReader:
    """Elements of a checkpoint's tensors, as they are stored.

    Attributes:
        digests: as a receipt has them, of each tensor that was read from its start to its end.
    """

    def __init__(self, tensors: Tensors, algorithm: str) -> None:
        self._tensors = tensors
        self._algorithm = algorithm
        self._progress: dict[str, _Progress] = {}
        self.digests: dict[str, str] = {}

    def recall(self, digests: Mapping[str, str]) -> bool:
        """Take over digests of an earlier run, if all tensors still have them; each is read whole for it."""
        for key, digest in digests.items():
            if digest_leaf(self._tensors, key, self._algorithm) != digest:
                return False
        self.digests |= digests
        return True

    def range(self, key: str, start: int, stop: int) -> Iterator[np.ndarray]:
        """The elements ``[start, stop)``, block by block. Ranges that follow one another from 0 on are digested.

        Raises:
            ConvkitError: they can't be read, or the tensor has changed since it was digested.
        """
        if start == 0:
            self._progress[key] = _Progress(BlockDigests(self._algorithm))
        progress = self._progress.get(key)
        for at, data in self._tensors.blocks(key, start=start, stop=stop):
            if progress and progress.upto == at:
                progress.blocks.update(data)
                progress.upto += data.size
            yield data
        if progress and progress.upto == self._tensors.spec(key).size:
            self._note(key, self._progress.pop(key).blocks)

    def ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
        """The elements of several ranges, which are in order and apart. No block has elements of two of them.

        A tensor without a digest is read whole for it, block by block.

        Raises:
            ConvkitError: they can't be read.
        """
        yield from self._picked(key, ranges) if key in self.digests else self._digested(key, ranges)

    def _picked(self, key: str, ranges: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
        """Read no more than what is decoded together with the ranges, and that once."""
        spec, grain = self._tensors.spec(key), self._tensors.granularity(key)
        if grain == 1:
            for start, stop in ranges:
                yield from (data for _, data in self._tensors.blocks(key, start=start, stop=stop))
            return
        unit = grain * max(1, _TOGETHER // (grain * spec.itemsize))
        low, data = -1, None
        for start, stop in ranges:
            at = start
            while at < stop:
                first = at - at % unit
                if data is None or first != low:
                    low, data = first, self._tensors.read(key, first, min(first + unit, spec.size))
                end = min(stop, first + unit)
                yield data[at - first : end - first]
                at = end

    def _digested(self, key: str, ranges: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
        """Read everything, for the digest, and yield what lies in the ranges."""
        blocks, waiting = BlockDigests(self._algorithm), iter(ranges)
        start, stop = next(waiting, (None, None))
        for at, data in self._tensors.blocks(key):
            blocks.update(data)
            while start is not None and stop is not None and start < at + data.size:
                end = min(stop, at + data.size)
                yield data[start - at : end - at]
                start, stop = (end, stop) if end < stop else next(waiting, (None, None))
        self._note(key, blocks)

    def _note(self, key: str, blocks: BlockDigests) -> None:
        self.rely({key: combine(self._algorithm, blocks.blocks())})

    def rely(self, digests: Mapping[str, str]) -> None:
        """Take these digests as those of what was read.

        Raises:
            ConvkitError: a tensor has another one by now.
        """
        for key, digest in digests.items():
            if self.digests.setdefault(key, digest) == digest:
                continue
            where, remedy = getattr(self._tensors, "path", None), "let nothing write to it, and start again"
            raise ConvkitError("changed while it was read", path=where, key=key, remedy=remedy)
