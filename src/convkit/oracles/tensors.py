"""Tensors of a model that are read when they are asked for, and counted as long as they are in use.

An oracle takes a mapping from keys to float32 tensors. :class:`ReadTensors` reads those of a checkpoint and holds none
of them. A plain dict serves as well.
"""

from __future__ import annotations

import math
import weakref
from abc import abstractmethod
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convkit.checkpoint.tensors import value_dtype
from convkit.oracles.digested import DigestedReader
from convkit.oracles.windows import Rows, Window, cut, spread, table

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from convkit.checkpoint import Leaf
    from convkit.checkpoint.read import Tensors


@dataclass
class Alive:
    """Bytes of the tensors that were read and are in use.

    Attributes:
        bytes: those in use now.
        peak: the most that were in use at one time.
    """

    bytes: int = 0
    peak: int = 0

    def count(self, array: np.ndarray, nbytes: int) -> None:
        """Count what is used of an array until it is freed. Tensors that share its memory keep it from that."""
        self.bytes += nbytes
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(array, self._free, nbytes)

    def _free(self, nbytes: int) -> None:
        self.bytes -= nbytes


#: the device of tensors that are read
CPU = "cpu"


class OnDemand(Mapping[str, "Tensor"]):
    """Float32 tensors by key. Each access makes the tensor anew; the mapping keeps none."""

    @property
    def device(self) -> str:
        """Where the tensors are given."""
        return CPU

    @abstractmethod
    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""

    def part(self, key: str, window: Window) -> Tensor:
        """What a window shows of a tensor, without more of it in memory than needed."""
        return cut(self[key], window)

    def window(self, key: str) -> Window | None:
        """The part of a tensor that is seen now; None for all of it."""
        return None

    def copy(self, key: str) -> Tensor:
        """A copy that can be written to."""
        return self[key].clone()

    def same(self, one: str, other: str) -> bool:
        """Whether two tensors have the same values."""
        import torch

        return torch.equal(self[one], self[other])


class ReadTensors(OnDemand):
    """The float tensors of an open checkpoint, cast to float32 as they are read, and digested as they are stored.

    Args:
        checkpoint: where they are read.
        within: how their keys start.
        alive: counts what was read and is in use.
        algorithm: of the digests (:mod:`convkit.checkpoint.digests`).
        without: keys that are left out.
    """

    def __init__(
        self,
        checkpoint: Tensors,
        within: str = "",
        alive: Alive | None = None,
        *,
        algorithm: str = "xxh3-128",
        without: Container[str] = (),
    ) -> None:
        self._checkpoint = checkpoint
        self._reader = DigestedReader(checkpoint, algorithm)
        self._leaves: dict[str, Leaf] = {}
        self._same: dict[tuple[str, str], bool] = {}
        #: the dtype in which each tensor is stored
        self.dtypes: dict[str, str] = {}
        self.alive = alive or Alive()
        for key, leaf in checkpoint.leaves.items():
            if leaf.spec is None or "float" not in leaf.spec.dtype or key in without or not key.startswith(within):
                continue
            self._leaves[key] = leaf
            self.dtypes[key] = leaf.spec.dtype

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each tensor that was read: whole, in slices from its first to its last, or some rows of it."""
        return self._reader.digests

    def recall(self, digests: Mapping[str, str]) -> bool:
        """Whether these tensors still have the digests that an earlier reader took; if so, they count as read."""
        return digests.keys() <= self._leaves.keys() and self._reader.recall(digests)

    def rely(self, digests: Mapping[str, str]) -> None:
        """Take these digests as those of what was read, by somebody whose word counts.

        Raises:
            ConvkitError: a tensor has another one by now.
        """
        self._reader.rely(digests)

    def __getitem__(self, key: str) -> Tensor:
        spec = self._checkpoint.spec(self._leaves[key].key)
        return self._filled(key, self._reader.range(key, 0, spec.size), spec.shape)

    def part(self, key: str, window: Window) -> Tensor:
        """See :meth:`OnDemand.part`."""
        shape, axis = self.shape(key), window.axis
        length, inner = shape[axis], math.prod(shape[axis + 1 :])
        if isinstance(window, Rows):
            return self._rows(key, window, length * inner)
        starts = [outer * length * inner for outer in range(math.prod(shape[:axis]))]
        ranges = [(start + window.start * inner, start + window.stop * inner) for start in starts]
        one = self._reader.range(key, *ranges[0]) if len(ranges) == 1 else self._reader.ranges(key, ranges)
        return self._filled(key, one, (*shape[:axis], window.length, *shape[axis + 1 :]))

    def _rows(self, key: str, window: Rows, each: int) -> Tensor:
        """A table of some rows. Where rows aren't in one piece, whole ones of the axes before are read, one by one."""
        import numpy as np
        import torch

        shape, rows, axis = self.shape(key), window.rows, window.axis
        inner = math.prod(shape[axis + 1 :])
        found = torch.empty(math.prod(shape[:axis]), len(rows), inner, device=CPU)
        if axis == 0:
            pieces = self._reader.ranges(key, [(row * inner, (row + 1) * inner) for row in rows])
            self._fill(found.numpy().reshape(-1), key, pieces)
        else:
            ranges = [(outer * each, (outer + 1) * each) for outer in range(found.shape[0])]
            whole, at = np.empty(each, np.float32), 0
            for piece in self._reader.ranges(key, ranges):
                outer, start = divmod(at, each)
                at += self._cast(whole[start:], key, piece)
                if at % each == 0:
                    found[outer] = torch.from_numpy(whole).view(-1, inner)[rows]
        into = table(window, shape)
        self.alive.count(into, 4 * found.numel())
        turned = found.movedim(1, 0).reshape(len(rows), *shape[:axis], *shape[axis + 1 :])
        return spread(turned, window, into)

    def _filled(self, key: str, pieces: Iterable[np.ndarray], shape: Sequence[int]) -> Tensor:
        import numpy as np
        import torch

        values = np.empty(math.prod(shape), dtype=np.float32)
        self.alive.count(values, values.nbytes)
        self._fill(values, key, pieces)
        return torch.from_numpy(values).reshape(tuple(shape))

    def _fill(self, values: np.ndarray, key: str, pieces: Iterable[np.ndarray]) -> None:
        at = 0
        for piece in pieces:
            at += self._cast(values[at:], key, piece)

    def _cast(self, values: np.ndarray, key: str, piece: np.ndarray) -> int:
        """Write stored elements as float32; their number."""
        import torch

        dtype, into = value_dtype(self.dtypes[key]), values[: piece.size]
        if dtype.name == "float16":  # numpy takes 20 times as long
            torch.from_numpy(into).copy_(torch.from_numpy(piece.view(dtype).copy()))
        else:
            into[:] = piece.view(dtype)
        return piece.size

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)

    def __contains__(self, key: object) -> bool:
        return key in self._leaves

    def shape(self, key: str) -> tuple[int, ...]:
        """See :meth:`OnDemand.shape`."""
        return self._checkpoint.spec(self._leaves[key].key).shape

    def same(self, one: str, other: str) -> bool:
        """See :meth:`OnDemand.same`; they are read once, block by block, unless both are the same stored bytes."""
        if (one, other) not in self._same:
            stored = {self._leaves[key].same_as or key for key in (one, other)}
            self._same[one, other] = len(stored) == 1 or self._equal(one, other)
        return self._same[one, other]

    def _equal(self, one: str, other: str) -> bool:
        import numpy as np

        spec, tensors = self._checkpoint.spec(one), self._checkpoint
        if spec != tensors.spec(other) or tensors.granularity(one) != tensors.granularity(other):
            return super().same(one, other)
        pairs = zip(tensors.blocks(one), tensors.blocks(other), strict=True)
        dtype = value_dtype(spec.dtype)
        return all(np.array_equal(a, b) or np.array_equal(a.view(dtype), b.view(dtype)) for (_, a), (_, b) in pairs)


class Within(OnDemand):
    """The tensors whose keys begin with a prefix, under the rest of their keys, except those that then begin with one
    of ``without``; what is there may change.
    """

    def __init__(self, whole: Mapping[str, Tensor], prefix: str, without: tuple[str, ...] = ()) -> None:
        self._whole, self._prefix, self._without = whole, prefix, without

    def __getitem__(self, key: str) -> Tensor:
        return self._whole[self._prefix + key]

    def part(self, key: str, window: Window) -> Tensor:
        """See :meth:`OnDemand.part`."""
        whole = self._whole
        return whole.part(self._prefix + key, window) if isinstance(whole, OnDemand) else super().part(key, window)

    @property
    def device(self) -> str:
        """See :attr:`OnDemand.device`."""
        return self._whole.device if isinstance(self._whole, OnDemand) else CPU

    def __iter__(self) -> Iterator[str]:
        own = (key.removeprefix(self._prefix) for key in self._whole if key.startswith(self._prefix))
        return (key for key in own if not key.startswith(self._without))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        seen = isinstance(key, str) and not key.startswith(self._without)
        return seen and f"{self._prefix}{key}" in self._whole

    def shape(self, key: str) -> tuple[int, ...]:
        """See :meth:`OnDemand.shape`."""
        return shape_of(self._whole, self._prefix + key)

    def window(self, key: str) -> Window | None:
        """See :meth:`OnDemand.window`."""
        return window_of(self._whole, self._prefix + key)

    def copy(self, key: str) -> Tensor:
        """See :meth:`OnDemand.copy`."""
        return copy_of(self._whole, self._prefix + key)

    def same(self, one: str, other: str) -> bool:
        """See :meth:`OnDemand.same`."""
        return same(self._whole, self._prefix + one, self._prefix + other)


def shape_of(tensors: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    """The shape of a tensor, which isn't read for it where the mapping reads on demand."""
    return tensors.shape(key) if isinstance(tensors, OnDemand) else tuple(tensors[key].shape)


def window_of(tensors: Mapping[str, Tensor], key: str) -> Window | None:
    """The part of a tensor that is seen now; None for all of it."""
    return tensors.window(key) if isinstance(tensors, OnDemand) else None


def copy_of(tensors: Mapping[str, Tensor], key: str) -> Tensor:
    """A copy of a tensor that can be written to."""
    return tensors.copy(key) if isinstance(tensors, OnDemand) else tensors[key].clone()


def same(tensors: Mapping[str, Tensor], one: str, other: str) -> bool:
    """Whether two tensors have the same values."""
    import torch

    return tensors.same(one, other) if isinstance(tensors, OnDemand) else torch.equal(tensors[one], tensors[other])
