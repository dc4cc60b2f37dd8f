"""The format ``acorn``: one file of tensors behind a JSON header. It knows bytes, and no model.

Eight bytes ``ACORN\\0\\1\\n``; eight bytes for the header's length (little-endian); the header, padded with spaces; the
tensors, each in C order at the next multiple of 64 bytes. The header is ``{key: {"dtype", "shape", "offset"}}``, where
an offset counts from the end of the header, or ``{key: {"same_as": other key}}`` for a second name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convkit.checkpoint import Format, Leaf, TensorSpec, WriteOptions, Writer
from convkit.errors import ConvkitError
from convkit.formats.plain.placed import Place, PlacedCheckpoint
from convkit.formats.plain.preallocated import FileLayout, PreallocatedWriter
from convkit.formats.plain.shards import parse_json

MAGIC, SUFFIX, SINGLE = b"ACORN\0\1\n", ".acorn", "model.acorn"
#: bytes before the header, and in whose multiples tensors begin
_START, _ALIGNMENT = 16, 64
_REFETCH = "fetch the file again"


class Acorn(Format):
    """A file ``*.acorn``, or a folder that holds ``model.acorn``."""

    name = "acorn"
    summary = "Acorn: tensors behind a JSON header, one file"
    folder = True
    suffixes = (SUFFIX,)
    ties = True  # a second name costs no bytes
    holds_values = False
    mapped = True  # tensors lie in the file as they are
    same_bytes = True

    def detect(self, path: Path) -> str | None:
        """By the first bytes, whatever the file's name."""
        file = path / SINGLE if path.is_dir() else path
        if not file.is_file():
            return None
        with file.open("rb") as opened:
            return f"{file.name} begins as Acorn's files do" if opened.read(len(MAGIC)) == MAGIC else None

    def open(self, path: Path) -> PlacedCheckpoint:
        """Read the header, and check every place that it names against the file's size."""
        file = path / SINGLE if path.is_dir() else path
        leaves, places = _read(file)
        return PlacedCheckpoint(path, self.name, leaves=leaves, places=places, metadata={}, files=[file])

    def create(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, *, resume: bool = False) -> Writer:
        """Lay the file out whole; its header is written last, so that a run that finds it can go on.

        Raises:
            ConvkitError: a leaf isn't a tensor.
        """
        for leaf in leaves:
            if leaf.spec is None:
                raise ConvkitError("is a value, and acorn holds tensors only", path=path, key=leaf.key, remedy="--drop")
        folder = None if path.suffix == SUFFIX else path
        specs = {leaf.key: leaf.spec for leaf in leaves if leaf.spec}
        layout = _layout(folder / SINGLE if folder else path, leaves)
        return PreallocatedWriter([layout], specs, folder=folder, resume=resume)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _layout(file: Path, leaves: Sequence[Leaf]) -> FileLayout:
    """The header, and a place for every tensor that isn't another's second name."""
    header: dict[str, Any] = {}
    offsets: dict[str, int] = {}
    end = 0
    for leaf in leaves:
        if leaf.same_as:
            header[leaf.key] = {"same_as": leaf.same_as}
        elif leaf.spec:
            offsets[leaf.key] = _aligned(end)
            end = offsets[leaf.key] + leaf.spec.nbytes
            header[leaf.key] = {"dtype": leaf.spec.dtype, "shape": leaf.spec.shape, "offset": offsets[leaf.key]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (_aligned(_START + len(text)) - _START - len(text))
    head = MAGIC + len(text).to_bytes(8, "little") + text
    return FileLayout(file, len(head) + end, head, {key: len(head) + offset for key, offset in offsets.items()})


def _read(file: Path) -> tuple[dict[str, Leaf], dict[str, Place]]:
    """The leaves and their places.

    Raises:
        ConvkitError: the file is cut, or its header says what can't be.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(_START)
        length = int.from_bytes(start[8:], "little")
        if len(start) < _START or start[:8] != MAGIC or _START + length > size:
            raise ConvkitError("is cut, or not a file of Acorn's", path=file, remedy=_REFETCH)
        header = parse_json(opened.read(length), file)
    if not isinstance(header, dict) or not all(isinstance(entry, dict) for entry in header.values()):
        raise ConvkitError("the header isn't an object of objects", path=file, remedy=_REFETCH)
    stored = {key: _stored(file, key, entry) for key, entry in header.items() if "same_as" not in entry}
    _check_places(file, stored, size - _START - length)
    names = {key: key if key in stored else entry["same_as"] for key, entry in header.items()}
    for key, name in names.items():
        if not isinstance(name, str) or name not in stored:
            raise ConvkitError(
                f"is said to be the same as {name!r}, which isn't stored", path=file, key=key, remedy=_REFETCH
            )
    leaves = {key: Leaf(key, stored[name][0], same_as=None if name == key else name) for key, name in names.items()}
    return leaves, {key: Place(file, _START + length + stored[name][1]) for key, name in names.items()}


def _stored(file: Path, key: str, entry: Mapping[str, Any]) -> tuple[TensorSpec, int]:
    """The spec and the offset of a tensor, which are numbers and a dtype, whatever the file says."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "offset": offset} if all(map(_counts, [*shape, offset])):
            return TensorSpec.found(shape, dtype, file, key), offset
    raise ConvkitError("its entry has no dtype, shape and offset", path=file, key=key, remedy=_REFETCH)


def _counts(number: object) -> bool:
    return type(number) is int and number >= 0


def _check_places(file: Path, stored: Mapping[str, tuple[TensorSpec, int]], size: int) -> None:
    """Refuse tensors that overlap, lie apart, or leave bytes of the file to nobody."""
    end = 0
    for key, (spec, offset) in sorted(stored.items(), key=lambda item: (item[1][1], item[1][0].nbytes)):
        if offset != _aligned(end):
            raise ConvkitError(
                f"begins at {offset}, but its place is {_aligned(end)}", path=file, key=key, remedy=_REFETCH
            )
        end = offset + spec.nbytes
    if end != size:
        raise ConvkitError(f"holds {size} bytes of tensors, the header says {end}", path=file, remedy=_REFETCH)


FORMAT = Acorn()
