"""flax's msgpack: a tree of dicts with arrays inside the file, read without copying them.

Source: flax ``flax/serialization.py`` (the same from 0.3 to 0.12): msgpack with three extension types: 1 an ndarray and
3 a numpy scalar, both (shape, dtype name, bytes in C order), and 2 a complex number, (real, imaginary). An array over 1
GiB is chunked: a dict with ``__msgpack_chunked_array__``, ``shape`` and ``chunks``, the last two being dicts by
position. First bytes follow the msgpack specification. A file is walked once, past the bytes of large arrays.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec import Struct

from convkit.checkpoint import TensorSpec
from convkit.checkpoint.source_files import SourceFiles, Span, truncated
from convkit.errors import ConvkitError
from convkit.state.budget import Budget

if TYPE_CHECKING:
    import numpy as np

_NDARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_CHUNKED = "__msgpack_chunked_array__"
#: bytes of an array that are read with the tree; more are left in the file
_SMALL = 4096
#: deepest nesting: flax's own trees are a dozen or so levels deep
_DEPTH = 100

#: first byte -> struct format of the value that follows
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d",
    0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
#: first byte -> bytes of the length that follows
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_STRINGS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAYS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
#: first byte -> bytes of the data
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


class ArrayBytes(Struct, frozen=True):
    """An array: its spec, and its bytes in C order, little-endian, in one or several pieces, in memory or in a file."""

    spec: TensorSpec
    pieces: tuple[bytes | Span, ...]

    def read(self, files: SourceFiles, start: int, stop: int, key: str | None = None) -> np.ndarray:
        """The bytes of the elements ``[start, stop)``: 1-D, uint8.

        Raises:
            ConvkitError: the file can't be read, or was cut short.
        """
        import numpy as np

        low, high = start * self.spec.itemsize, stop * self.spec.itemsize
        data, first = np.empty(high - low, np.uint8), 0
        for piece in self.pieces:
            begin, end = max(low, first), min(high, first + len(piece))
            if begin < end:
                into = data[begin - low : end - low]
                if isinstance(piece, Span):
                    files.fill(piece.path, piece.start + begin - first, into, key)
                else:
                    into[:] = np.frombuffer(piece, np.uint8)[begin - first : end - first]
            first += len(piece)
        return data

    def tobytes(self) -> bytes:
        """All bytes."""
        return self.read(SourceFiles(), 0, self.spec.size).tobytes()


def load(path: Path) -> Any:
    """Read a file's tree: dicts, lists, None, bool, int, float, str and :class:`ArrayBytes`.

    Raises:
        ConvkitError: truncated, not msgpack, or an object that flax doesn't write.
    """
    if path.stat().st_size == 0:
        raise ConvkitError("is truncated: 0 bytes", path=path, remedy="fetch the file again")
    with path.open("rb") as file:
        walk = _Walk(path, file, path.stat().st_size)
        tree = walk.object(())
    if walk.position != walk.size:
        raise walk.error(f"holds {walk.size - walk.position} bytes after its end")
    return tree


def dumps(tree: Any) -> bytes:
    """The tree as msgpack; arrays must be under 1 GiB, because larger ones would have to be chunked.

    Raises:
        OverflowError: an int of more than 64 bits.
    """
    import msgpack

    def array(value: ArrayBytes) -> msgpack.ExtType:
        parts = (value.spec.shape, value.spec.dtype, value.tobytes())
        return msgpack.ExtType(_NDARRAY, msgpack.packb(parts))

    return msgpack.packb(tree, default=array)


class _Walk:
    """Reads one object after another from a file."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path = path
        self.file = file
        self.size = size
        self.position = 0
        self._budget = Budget(path)

    def error(self, problem: str, where: tuple[str, ...] = ()) -> ConvkitError:
        """The error to raise; ``where`` is the path in the tree."""
        return ConvkitError(problem, path=self.path, key=".".join(where) or None, remedy="fetch the file again")

    def object(self, where: tuple[str, ...]) -> Any:
        """Read the object at the position, which is at ``where`` in the tree."""
        if len(where) > _DEPTH:
            raise self.error(f"is nested more than {_DEPTH} deep")
        self._budget.take(".".join(where))
        kind = self.take(1, where)[0]
        if kind <= 0x7F:
            return kind
        if kind >= 0xE0:
            return kind - 0x100
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        if kind in _NUMBERS:
            form = _NUMBERS[kind]
            return struct.unpack(form, self.take(struct.calcsize(form), where))[0]
        if kind <= 0x8F or kind in _MAPS:
            return self.map(kind & 0xF if kind <= 0x8F else self.length(_MAPS[kind], where), where)
        if kind <= 0x9F or kind in _ARRAYS:
            count = kind & 0xF if kind <= 0x9F else self.length(_ARRAYS[kind], where)
            return [self.object((*where, str(i))) for i in range(count)]
        if kind <= 0xBF or kind in _STRINGS:
            return self.text(kind & 0x1F if kind <= 0xBF else self.length(_STRINGS[kind], where), where)
        if kind in _FIXED_EXTENSIONS or kind in _EXTENSIONS:
            size = _FIXED_EXTENSIONS.get(kind) or self.length(_EXTENSIONS[kind], where)
            return self.extension(size, where)
        raise self.error(f"is not flax's msgpack: byte {kind:#04x} at {self.position - 1}", where)

    def take(self, count: int, where: tuple[str, ...]) -> bytes:
        """The next bytes."""
        start = self.advance(count, where)
        taken = self.file.read(count)
        if len(taken) < count:
            raise truncated(self.path, ".".join(where) or None, start, count - len(taken))
        return taken

    def advance(self, count: int, where: tuple[str, ...]) -> int:
        """Count the next bytes as read; the offset of the first."""
        start, self.position = self.position, self.position + count
        if self.position > self.size:
            raise self.error(f"is truncated: {self.size} bytes, of at least {self.position}", where)
        return start

    def length(self, width: int, where: tuple[str, ...]) -> int:
        """An unsigned number of ``length`` bytes."""
        return int.from_bytes(self.take(width, where), "big")

    def text(self, count: int, where: tuple[str, ...]) -> str:
        """A string of ``length`` bytes."""
        try:
            return str(self.take(count, where), "utf-8")
        except UnicodeDecodeError:
            raise self.error(f"holds a string that isn't UTF-8, before byte {self.position}", where) from None

    def map(self, count: int, where: tuple[str, ...]) -> Any:
        """A dict of ``count`` entries, or the chunked array that it represents."""
        entries: dict[str, Any] = {}
        for _ in range(count):
            name = self.object(where)
            if not isinstance(name, str) or name in entries:
                raise self.error(f"holds {name!r} as a name" + (" twice" if isinstance(name, str) else ""), where)
            entries[name] = self.object((*where, name))
        return self.joined(entries, where) if _CHUNKED in entries else entries

    def joined(self, entries: dict[str, Any], where: tuple[str, ...]) -> ArrayBytes:
        """An array that is stored in chunks."""
        try:
            shape = tuple(entries["shape"][str(axis)] for axis in range(len(entries["shape"])))
            chunks = [entries["chunks"][str(i)] for i in range(len(entries["chunks"]))]
            spec = TensorSpec(shape, chunks[0].spec.dtype)
            pieces = tuple(piece for chunk in chunks for piece in chunk.pieces)
        except (KeyError, TypeError, AttributeError, IndexError):
            raise self.error("is cut into chunks without a valid description", where) from None
        return self.array(spec, pieces, where)

    def extension(self, size: int, where: tuple[str, ...]) -> ArrayBytes:
        """An object of one of flax's extension types."""
        kind, end = self.take(1, where)[0], self.position + size
        if kind not in (_NDARRAY, _COMPLEX, _SCALAR):
            raise self.error(f"holds a type {kind} that isn't flax's", where)
        header = self.take(1, where)[0]
        if header != (0x92 if kind == _COMPLEX else 0x93):
            raise self.error("holds an array of another form than flax's", where)
        if kind == _COMPLEX:
            numbers = self.object(where), self.object(where)
            if not all(isinstance(number, int | float) for number in numbers):
                raise self.error("holds a complex number that isn't two numbers", where)
            try:
                parts = struct.pack("<2d", *numbers)
            except (struct.error, OverflowError):
                raise self.error("holds a complex number that isn't two numbers", where) from None
            array = ArrayBytes(TensorSpec((), "complex128"), (parts,))
        else:
            array = self.ndarray(where)
        if self.position != end:
            raise self.error("holds an array of another length than it says", where)
        return array

    def ndarray(self, where: tuple[str, ...]) -> ArrayBytes:
        """The array in a triple of shape, dtype name and bytes."""
        shape, name = self.object(where), self.take(self._raw_length(where), where)
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise self.error("holds an array without a shape", where)
        spec = TensorSpec.found(shape, str(name, "ascii", "replace"), self.path, ".".join(where))
        return self.array(spec, (self._raw(where),), where)

    def _raw(self, where: tuple[str, ...]) -> bytes | Span:
        """The bytes of an array, or their place if they are many."""
        count = self._raw_length(where)
        if count <= _SMALL:
            return self.take(count, where)
        start = self.advance(count, where)
        self.file.seek(self.position)
        return Span(self.path, start, count)

    def _raw_length(self, where: tuple[str, ...]) -> int:
        """The length of a string or a bin that follows; flax's readers accept either."""
        kind = self.take(1, where)[0]
        if 0xA0 <= kind <= 0xBF:
            return kind & 0x1F
        width = (_STRINGS | _BYTES).get(kind)
        if width is None:
            raise self.error("holds an array of another form than flax's", where)
        return self.length(width, where)

    def array(self, spec: TensorSpec, pieces: tuple[bytes | Span, ...], where: tuple[str, ...]) -> ArrayBytes:
        """The array, after checking its length."""
        stored = sum(len(piece) for piece in pieces)
        if stored != spec.nbytes:
            raise self.error(f"{spec.dtype}{list(spec.shape)} needs {spec.nbytes} bytes, {stored} are there", where)
        return ArrayBytes(spec, pieces)
