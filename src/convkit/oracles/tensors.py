"""Tensors of a model that are read when they are asked for, and counted as long as they are in use.

An oracle takes a mapping from keys to float32 tensors. The mappings here hold none of them: :class:`ReadTensors` reads
a checkpoint, :class:`Overlay` replaces some tensors of another mapping. A plain dict serves as well.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convkit.checkpoint.tensors import value_dtype

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

    def count(self, array: np.ndarray) -> None:
        """Count an array until it is freed. Tensors that share its memory keep it from that."""
        self.bytes += array.nbytes
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(array, self._free, array.nbytes)

    def _free(self, nbytes: int) -> None:
        self.bytes -= nbytes


class OnDemand(Mapping[str, "Tensor"]):
    """Float32 tensors by key. Each access makes the tensor anew; the mapping keeps none."""

    @abstractmethod
    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""

    def same(self, one: str, other: str) -> bool:
        """Whether two tensors have the same values."""
        import torch

        return torch.equal(self[one], self[other])


class ReadTensors(OnDemand):
    """The float tensors of an open checkpoint whose keys start with ``within``, cast to float32 as they are read."""

    def __init__(self, checkpoint: Tensors, within: str = "", alive: Alive | None = None) -> None:
        self._checkpoint = checkpoint
        self._leaves: dict[str, Leaf] = {}
        #: the dtype in which each tensor is stored
        self.dtypes: dict[str, str] = {}
        self.alive = alive or Alive()
        for key, leaf in checkpoint.leaves.items():
            if leaf.spec is not None and "float" in leaf.spec.dtype and key.startswith(within):
                self._leaves[key] = leaf
                self.dtypes[key] = leaf.spec.dtype

    def __getitem__(self, key: str) -> Tensor:
        import numpy as np
        import torch

        spec = self._checkpoint.spec(self._leaves[key].key)
        dtype = value_dtype(spec.dtype)
        values = np.empty(spec.size, dtype=np.float32)
        self.alive.count(values)
        for start, block in self._checkpoint.blocks(key):
            values[start : start + block.size] = block.view(dtype)
        return torch.from_numpy(values).reshape(spec.shape)

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
        """See :meth:`OnDemand.same`; they are read block by block, and not where both are the same stored bytes."""
        import numpy as np

        if (self._leaves[one].same_as or one) == (self._leaves[other].same_as or other):
            return True
        spec, tensors = self._checkpoint.spec(one), self._checkpoint
        if spec != tensors.spec(other) or tensors.granularity(one) != tensors.granularity(other):
            return super().same(one, other)
        pairs = zip(tensors.blocks(one), tensors.blocks(other), strict=True)
        dtype = value_dtype(spec.dtype)
        return all(np.array_equal(a.view(dtype), b.view(dtype)) for (_, a), (_, b) in pairs)


@dataclass(frozen=True)
class Made:
    """A tensor that is made when it is asked for: its shape, and how it's made."""

    shape: tuple[int, ...]
    make: Callable[[], Tensor]


class Overlay(OnDemand):
    """Another mapping with some tensors replaced or added. A :class:`Made` one is made at each access."""

    def __init__(self, below: Mapping[str, Tensor], above: Mapping[str, Tensor | Made]) -> None:
        self._below = below
        self._above = dict(above)

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._above:
            return self._below[key]
        found = self._above[key]
        return found.make() if isinstance(found, Made) else found

    def __iter__(self) -> Iterator[str]:
        yield from self._below
        yield from (key for key in self._above if key not in self._below)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return key in self._above or key in self._below

    def shape(self, key: str) -> tuple[int, ...]:
        """See :meth:`OnDemand.shape`."""
        return tuple(self._above[key].shape) if key in self._above else shape_of(self._below, key)

    def same(self, one: str, other: str) -> bool:
        """See :meth:`OnDemand.same`."""
        return super().same(one, other) if {one, other} & self._above.keys() else same(self._below, one, other)


def shape_of(tensors: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    """The shape of a tensor, which isn't read for it where the mapping reads on demand."""
    return tensors.shape(key) if isinstance(tensors, OnDemand) else tuple(tensors[key].shape)


def same(tensors: Mapping[str, Tensor], one: str, other: str) -> bool:
    """Whether two tensors have the same values."""
    import torch

    return tensors.same(one, other) if isinstance(tensors, OnDemand) else torch.equal(tensors[one], tensors[other])
