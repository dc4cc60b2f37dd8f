"""What is finished of a database: a log for each process that writes to it.

A record says of one array, segment by segment, the length of each chunk, and the data file of the segment; of a small
array the chunks themselves. A record is appended when the array is finished, so what was finished outlives the process.
Only the last record of a log can be cut short. Nobody writes to the log of another process.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convkit.formats.arrays.ocdbt_layout import ArrayLayout
from convkit.formats.arrays.ocdbt_node import Place
from convkit.formats.arrays.ocdbt_tree import NAME_BYTES

SUFFIX = ".log"
#: an array's number, and the length of what follows
_HEAD = struct.Struct("<QQ")
_LENGTH = struct.Struct("<Q")


class Log:
    """The log of this process; thread-safe. The file is made with the first record."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._lock = threading.Lock()

    def append(self, number: int, segments: Sequence[tuple[list[int], bytes]]) -> None:
        """Record an array as finished, by the lengths of each segment's chunks, and its file's name or their bytes."""
        parts = [part for lengths, data in segments for part in (*map(_LENGTH.pack, lengths), data)]
        record = b"".join((_HEAD.pack(number, sum(map(len, parts))), *parts))
        with self._lock:
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            start, rest = os.lseek(self._file, 0, os.SEEK_CUR), memoryview(record)
            try:
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            except OSError:  # the disk is full
                os.ftruncate(self._file, start)
                os.lseek(self._file, start, os.SEEK_SET)
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


@dataclass(frozen=True, slots=True)
class Record:
    """What a log says of an array: ``start`` is where it does."""

    layout: ArrayLayout
    file: int
    start: int

    def chunks(self) -> list[bytes | Place]:
        """Where each chunk lies: of a large array in a data file; of a small one, its bytes."""
        found: list[bytes | Place] = []
        at = self.start
        for segment in self.layout.segments():
            lengths = self._lengths(at, len(segment))
            at += _LENGTH.size * len(lengths)
            if self.layout.small:
                data = os.pread(self.file, sum(lengths), at)
                found += (data[start : start + length] for start, length in _spans(lengths))
            else:
                name = os.pread(self.file, NAME_BYTES, at).decode()
                found += (Place(name, start, length) for start, length in _spans(lengths))
                at += NAME_BYTES
        return found

    def _lengths(self, at: int, count: int) -> list[int]:
        return [length for (length,) in _LENGTH.iter_unpack(os.pread(self.file, _LENGTH.size * count, at))]


def _spans(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for length in lengths:
        yield start, length
        start += length


def read_logs(files: Sequence[int], layouts: Mapping[str, ArrayLayout]) -> dict[str, Record]:
    """The last record of each array in some opened logs."""
    names = list(layouts)
    found: dict[str, Record] = {}
    for file in files:
        at, end = 0, os.fstat(file).st_size
        while at + _HEAD.size <= end:
            number, length = _HEAD.unpack(os.pread(file, _HEAD.size, at))
            at += _HEAD.size
            if at + length <= end:
                found[names[number]] = Record(layouts[names[number]], file, at)
            at += length
    return found
