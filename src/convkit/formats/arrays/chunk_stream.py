"""Decodes one chunk from its start on, in slices, so that a chunk of any length takes little memory.

A chunk that unpacks to more or less than its array says is refused, as is one whose checksum (gzip, zlib, bz2) is
wrong: both show once its end is read.
"""

from __future__ import annotations

import bz2
import zlib
from pathlib import Path
from typing import Any, Protocol

from convkit.errors import ConvkitError
from convkit.formats.arrays.zarr import REFETCH

#: zlib's window of 32 KiB, with the container of each compressor
WINDOWS = {"gzip": 15 + 16, "zlib": 15}
PACKINGS = (None, *WINDOWS, "bz2", "zstd")
#: packed bytes that are read at once
PIECE = 1 << 18


class Packed(Protocol):
    """The stored bytes of a chunk, read in order."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""

    def seek(self, position: int, /) -> int:
        """Go on from there."""

    def close(self) -> None:
        """Release them."""


def unpacker(packing: str) -> Any:
    """What unpacks gzip, zlib or bz2; Intel's library where it is installed, which takes two thirds of zlib's time."""
    if packing not in WINDOWS:
        return bz2.BZ2Decompressor()
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.decompressobj(WINDOWS[packing])
    return isal_zlib.decompressobj(WINDOWS[packing])


def unpacking_errors() -> tuple[type[Exception], ...]:
    """What :func:`unpacker` raises where bytes are damaged."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.error, OSError, EOFError, ValueError
    of_isal: Any = isal_zlib.error  # its stubs call it an instance
    return zlib.error, of_isal, OSError, EOFError, ValueError


class ChunkStream:
    """One chunk, being decoded. For one thread at a time.

    Args:
        packed: its bytes.
        packing: its compressor; None if it is stored as it is.
        expected: its bytes once decoded.
        path: of the file, for errors.
        key: the leaf's, for errors.

    Attributes:
        position: the bytes that were decoded so far.
    """

    def __init__(self, packed: Packed, packing: str | None, expected: int, path: Path | str, key: str) -> None:
        self.position = 0
        self._packed = packed
        self._expected = expected
        self._path, self._key = path, key
        self._decoder: _Zstd | _Deflated | None = None
        if packing == "zstd":
            self._decoder = _Zstd(packed)
        elif packing is not None:
            self._decoder = _Deflated(packed, packing)

    def readinto(self, view: memoryview) -> None:
        """Fill a view with the next bytes.

        Raises:
            ConvkitError: the chunk is damaged, or ends before.
        """
        while view.nbytes:
            count = self._some(view)
            if not count:
                raise self._refused(f"is no whole chunk: it unpacks to {self.position} bytes of {self._expected}")
            self.position += count
            view = view[count:]

    def skip(self, position: int) -> None:
        """Decode up to a position, and drop what was decoded; what isn't packed is left out."""
        if self._decoder is None and self.position < position:
            self.position = self._packed.seek(position)
        drop = memoryview(bytearray(min(PIECE, position - self.position)))
        while self.position < position:
            self.readinto(drop[: position - self.position])

    def end(self) -> None:
        """Check that the chunk ends here.

        Raises:
            ConvkitError: it goes on, or its checksum is wrong.
        """
        self.skip(self._expected)
        if self._some(memoryview(bytearray(1))):
            raise self._refused(f"is no whole chunk: it unpacks to over {self._expected} bytes of {self._expected}")
        if self._decoder is not None and not self._decoder.ended:
            raise self._refused("is no whole chunk: it is cut off")
        self.close()

    def close(self) -> None:
        """Release the bytes."""
        self._packed.close()

    def _some(self, view: memoryview) -> int:
        """Put at least one byte into the view, unless the chunk ends; returns how many."""
        try:
            if self._decoder is not None:
                return self._decoder.readinto(view)
            data = self._packed.read(view.nbytes)
        except unpacking_errors() as error:
            raise self._refused(f"can't be read: {error}") from None
        view[: len(data)] = data
        return len(data)

    def _refused(self, problem: str) -> ConvkitError:
        self.close()
        return ConvkitError(problem, path=self._path, key=self._key, remedy=REFETCH)


class _Zstd:
    """zstd frames; their structure was checked when the checkpoint was opened."""

    ended = True

    def __init__(self, packed: Packed) -> None:
        import zstandard

        opened: Any = zstandard.ZstdDecompressor().stream_reader
        self._reader: Any = opened(packed, read_size=PIECE, read_across_frames=True, closefd=False)
        self._error = zstandard.ZstdError

    def readinto(self, view: memoryview) -> int:
        try:
            return int(self._reader.readinto(view))
        except self._error as error:
            raise ValueError(str(error)) from None


class _Deflated:
    """gzip, zlib or bz2."""

    def __init__(self, packed: Packed, packing: str) -> None:
        self._packed = packed
        self._unpacker = unpacker(packing)
        self._left = b""

    @property
    def ended(self) -> bool:
        return bool(self._unpacker.eof)

    def readinto(self, view: memoryview) -> int:
        while not self.ended:
            pieces = self._left or self._packed.read(PIECE)
            made = self._unpacker.decompress(pieces, view.nbytes)
            self._left = getattr(self._unpacker, "unconsumed_tail", b"")
            if made:
                view[: len(made)] = made
                return len(made)
            if not pieces:
                return 0
        return 0
