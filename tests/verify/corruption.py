"""Damage to checkpoints on disk: bytes flipped and exchanged, leaves lost, files truncated."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the filters
import numpy as np

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.formats import get_format, open_checkpoint
from convkit.formats.plain.placed import PlacedCheckpoint


def edit(path: Path, key: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Put other elements (1-D, carrier) in the place of a stored leaf's."""
    with open_checkpoint(path) as checkpoint:
        old = np.array(checkpoint.read(key))
        new = change(old.copy())
        if isinstance(checkpoint, PlacedCheckpoint):
            place = checkpoint.places[key]
            with place.file.open("r+b") as file:
                file.seek(place.offset)
                file.write(new.tobytes())
            return
        shape = checkpoint.leaves[key].spec.shape  # type: ignore[union-attr]
    with h5py.File(path, "r+") as file:
        dataset = file[key]
        dataset[...] = new.view(dataset.dtype).reshape(shape)


def flip_a_bit(path: Path, key: str, at: int = -1) -> None:
    def flipped(array: np.ndarray) -> np.ndarray:
        array.view(np.uint8).reshape(array.size, -1)[at, 0] ^= 1
        return array

    edit(path, key, flipped)


def swap(path: Path, one: str, other: str) -> None:
    with open_checkpoint(path) as checkpoint:
        arrays = {key: np.array(checkpoint.read(key)) for key in (one, other)}
    edit(path, one, lambda _: arrays[other])
    edit(path, other, lambda _: arrays[one])


def cut_short(path: Path, nbytes: int = 100) -> None:
    file = next(iter(sorted(path.glob("*model*")))) if path.is_dir() else path
    os.truncate(file, file.stat().st_size - nbytes)


def copy(
    path: Path,
    target: Path,
    format: str | None = None,
    *,
    gone: Collection[str] = (),
    extra: Mapping[str, tuple[TensorSpec, np.ndarray] | int | str] | None = None,
) -> Path:
    """The leaves of a checkpoint written again, in full: perhaps in another format, without some, with others."""
    extra = extra or {}
    with open_checkpoint(path) as checkpoint:
        written = get_format(format or checkpoint.format)
        leaves = [leaf for key, leaf in checkpoint.leaves.items() if key not in gone]
        arrays = {leaf.key: checkpoint.read(leaf.key) for leaf in leaves if leaf.spec and not leaf.same_as}
        for key, value in extra.items():
            if isinstance(value, tuple):
                leaves.append(Leaf(key, value[0]))
                arrays[key] = value[1].reshape(-1)
            else:
                leaves.append(Leaf(key, value=value))
        if written.folder:
            target.mkdir(exist_ok=True)
        writer = written.create(target, leaves, WriteOptions())
        for key, array in arrays.items():
            writer.write(key, 0, np.ascontiguousarray(array))
            writer.finish(key)
        writer.commit()
        writer.close()
    return target
