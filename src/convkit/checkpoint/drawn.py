"""Tensors that a checkpoint lacks, drawn from a seed: the weights of a layer before it is trained.

A number of a tensor is ``bound * (2 u - 1)``, where ``u`` are the first 53 bits of a 64-bit word over 2**53: uniform in
[-bound, bound). The words are the raw stream of PCG64, seeded by the sha256 of ``<seed>:<key>`` as a little-endian
number; numpy guarantees that stream forever (NEP 19). The numbers are float64 before they are rounded to the dtype.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from convkit.checkpoint.read import Checkpoint, Leaf, Tensors
from convkit.checkpoint.tensors import TensorSpec, carrier, value_dtype
from convkit.checkpoint.views import Overlay

if TYPE_CHECKING:
    import numpy as np


class Drawn(Struct, frozen=True):
    """A tensor that is drawn.

    Attributes:
        key: its name.
        shape: its shape.
        dtype: what it is rounded to.
        bound: the numbers lie between this and minus this.
        seed: of the numbers.
    """

    key: str
    shape: tuple[int, ...]
    dtype: str
    bound: float
    seed: int

    @property
    def spec(self) -> TensorSpec:
        """Its shape and dtype."""
        return TensorSpec(tuple(self.shape), self.dtype)

    def values(self, start: int, stop: int) -> np.ndarray:
        """Its elements from ``start`` to ``stop`` in C order, 1-D, in the carrier dtype."""
        import numpy as np

        entropy = int.from_bytes(hashlib.sha256(f"{self.seed}:{self.key}".encode()).digest(), "little")
        words = np.random.PCG64(entropy).advance(start).random_raw(stop - start).astype("<u8", copy=False)
        numbers = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        drawn = self.bound * (2 * numbers - 1)
        return drawn.astype(np.float32).astype(value_dtype(self.dtype)).view(carrier(self.dtype))


class Completed(Overlay):
    """A checkpoint with tensors that are drawn beside its own."""

    def __init__(self, checkpoint: Checkpoint, drawn: Iterable[Drawn]) -> None:
        self._drawn = {one.key: one for one in drawn}
        leaves = dict(checkpoint.leaves) | {key: Leaf(key, one.spec) for key, one in self._drawn.items()}
        super().__init__(checkpoint, leaves)
        self.described = checkpoint.described

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :meth:`Tensors.read`; nothing that is drawn is kept."""
        if key not in self._drawn:
            return super().read(key, start, stop)
        size = self.spec(key).size
        return self._drawn[key].values(start, size if stop is None else min(stop, size))

    def lies_open(self, key: str) -> bool:
        """See :meth:`Tensors.lies_open`."""
        return key not in self._drawn and super().lies_open(key)

    def rows(self, key: str, starts: Sequence[int], length: int) -> np.ndarray:
        """See :meth:`Tensors.rows`."""
        return Tensors.rows(self, key, starts, length) if key in self._drawn else super().rows(key, starts, length)

    def granularity(self, key: str) -> int:
        """See :meth:`Tensors.granularity`."""
        return 1 if key in self._drawn else super().granularity(key)

    def continues(self, key: str) -> bool:
        """See :meth:`Tensors.continues`."""
        return key not in self._drawn and super().continues(key)

    def leaf_bytes(self) -> dict[Path, list[tuple[int, int]]]:
        """See :meth:`Checkpoint.leaf_bytes`."""
        return self._checkpoint.leaf_bytes()

    def close(self) -> None:
        """Close the checkpoint below."""
        self._checkpoint.close()
