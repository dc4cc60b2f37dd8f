"""Tensors stored uncompressed in files, read through memory maps without copying; no file is kept open."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convkit.checkpoint import Checkpoint, Leaf
from convkit.checkpoint.tensors import carrier
from convkit.errors import ConvkitError


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor's place: its file, the byte offset of its first element, byte strides (None: C order)."""

    file: Path
    offset: int
    strides: tuple[int, ...] | None = None


class MappedCheckpoint(Checkpoint):
    """A checkpoint in which every tensor has a :class:`Place`. Files are mapped when first needed."""

    def __init__(
        self,
        path: Path,
        format: str,
        *,
        leaves: Mapping[str, Leaf],
        places: Mapping[str, Place],
        metadata: Mapping[str, Any],
        files: Sequence[Path],
    ) -> None:
        self.path = path
        self.format = format
        self.leaves = dict(leaves)
        self.metadata = dict(metadata)
        self._places = dict(places)
        self._files = list(files)
        self._maps: dict[Path, mmap.mmap] = {}

    def view(self, key: str) -> np.ndarray:
        """The tensor in its shape, carrier dtype, read-only; its bytes may be unaligned or strided."""
        spec, place = self.spec(key), self._places[key]
        try:
            return np.ndarray(spec.shape, carrier(spec.dtype), self._map(place.file), place.offset, place.strides)
        except (OSError, ValueError) as error:
            raise ConvkitError(
                f"can't be mapped: {error}", path=place.file, key=key, remedy="fetch the file again"
            ) from error

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Elements ``[start, stop)`` in C order: a view into the file; of strided tensors a copy."""
        view = self.view(key)
        flat = view.reshape(-1) if view.flags.c_contiguous else view.flat
        return flat[start:stop]

    def files(self) -> list[Path]:
        """The files that hold the bytes."""
        return list(self._files)

    def leaf_bytes(self) -> dict[Path, list[tuple[int, int]]]:
        """The places of all tensors, except strided ones."""
        found: dict[Path, list[tuple[int, int]]] = {}
        for key, place in self._places.items():
            if place.strides is None:
                found.setdefault(place.file, []).append((place.offset, place.offset + self.spec(key).nbytes))
        return found

    def close(self) -> None:
        """Drop the maps; each is unmapped when the last view into it is gone."""
        self._maps.clear()

    def _map(self, file: Path) -> mmap.mmap:
        mapped = self._maps.get(file)
        if mapped is None:
            with file.open("rb") as opened:
                mapped = self._maps.setdefault(file, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        return mapped
