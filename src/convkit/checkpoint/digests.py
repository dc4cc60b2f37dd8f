"""Digest tensors, files and values; a digest covers the digests of fixed blocks, so threads may work in any order.

A leaf's digest is ``H(H(block 0) || H(block 1) || ...)`` over its bytes in C order, little-endian,
in blocks of :data:`BLOCK` bytes (the last one shorter; an empty leaf has no block). It covers the
bytes alone: shape and dtype are recorded beside it. Written ``algorithm:hex``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import FileIO
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from convkit.checkpoint.progress import unmeasured
from convkit.checkpoint.threads import workers
from convkit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from convkit.checkpoint.read import Tensors

#: Part of the digest's definition: never change it.
BLOCK = 1 << 20

#: bytes of a file that one thread digests at a time; a multiple of the block
_RUN = 64 * BLOCK

ALGORITHMS = ("xxh3-128", "blake3", "sha256")


class Hash(Protocol):
    """What the objects of hashlib, xxhash and blake3 have in common."""

    def update(self, data: Any, /) -> Any:
        """Feed bytes."""

    def digest(self) -> bytes:
        """The digest of the bytes so far."""


def hasher(algorithm: str) -> Callable[[], Hash]:
    """Return the constructor of a running hash.

    Raises:
        UsageError: no such algorithm.
    """
    if algorithm == "xxh3-128":
        import xxhash

        return xxhash.xxh3_128
    if algorithm == "blake3":
        import blake3

        return blake3.blake3
    if algorithm == "sha256":
        import hashlib

        return hashlib.sha256
    raise UsageError(f"unknown digest {algorithm!r}", remedy=f"digests: {', '.join(ALGORITHMS)}")


class BlockDigests:
    """Digests of the blocks of a byte range that starts on a block boundary, fed in order."""

    def __init__(self, algorithm: str) -> None:
        self._new = hasher(algorithm)
        self._running = self._new()
        self._filled = 0
        self._done: list[bytes] = []

    def update(self, data: np.ndarray) -> None:
        """Feed the next bytes (a contiguous array of any dtype)."""
        raw = data.reshape(-1).view("uint8").data
        while raw.nbytes:
            take = min(BLOCK - self._filled, raw.nbytes)
            self._running.update(raw[:take])
            self._filled += take
            raw = raw[take:]
            if self._filled == BLOCK:
                self._close_block()

    def blocks(self) -> list[bytes]:
        """End the range and return its digests."""
        if self._filled:
            self._close_block()
        return self._done

    def _close_block(self) -> None:
        self._done.append(self._running.digest())
        self._running = self._new()
        self._filled = 0


def combine(algorithm: str, blocks: Iterable[bytes]) -> str:
    """Compute a leaf's digest from the digests of its blocks, in order."""
    running = hasher(algorithm)()
    for block in blocks:
        running.update(block)
    return f"{algorithm}:{running.digest().hex()}"


def digest_array(algorithm: str, data: np.ndarray) -> str:
    """Digest a tensor that is in memory (C order)."""
    import numpy as np

    blocks = BlockDigests(algorithm)
    blocks.update(np.ascontiguousarray(data))
    return combine(algorithm, blocks.blocks())


def digest_leaf(tensors: Tensors, key: str, algorithm: str, advance: Callable[[int], object] = unmeasured) -> str:
    """Digest a stored tensor, which is read block by block; ``advance`` is called with the bytes of each.

    Raises:
        ConvkitError: it can't be read.
    """
    digests = BlockDigests(algorithm)
    for _, data in tensors.blocks(key):
        digests.update(data)
        advance(data.nbytes)
    return combine(algorithm, digests.blocks())


def digest_file(
    algorithm: str,
    path: Path,
    advance: Callable[[int], object] = unmeasured,
    *,
    without: Sequence[tuple[int, int]] = (),
) -> str:
    """Digest a file's bytes; ``advance`` is called with the size of each block.

    ``without`` are ranges of bytes to leave out, each ``[start, stop)``, in order. The blocks then begin anew after
    each of them.

    Raises:
        OSError: it can't be read.
    """
    starts, stops = (0, *(stop for _, stop in without)), (*(start for start, _ in without), path.stat().st_size)
    return combine(
        algorithm,
        (
            block
            for start, stop in zip(starts, stops, strict=True)
            if start < stop
            for block in _blocks(algorithm, path, start, stop, advance)
        ),
    )


def digest_files(algorithm: str, paths: Iterable[Path], threads: int) -> list[str]:
    """Digest files, large ones with several threads.

    Raises:
        OSError: one can't be read.
    """
    sizes = [(path, path.stat().st_size) for path in paths]
    with workers(threads, sum(size for _, size in sizes)) as pool:
        runs = [
            [pool.submit(_blocks, algorithm, path, start, start + _RUN) for start in range(0, max(1, size), _RUN)]
            for path, size in sizes
        ]
        return [combine(algorithm, (block for run in file for block in run.result())) for file in runs]


def _blocks(
    algorithm: str, path: Path, start: int, stop: int, advance: Callable[[int], object] = unmeasured
) -> list[bytes]:
    """Digest the blocks of a file in ``[start, stop)``; a block begins at ``start``."""
    new, blocks = hasher(algorithm), []
    buffer = memoryview(bytearray(max(0, min(BLOCK, stop - start))))
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while start < stop and (length := _fill(file, buffer[: stop - start])):
            running = new()
            running.update(buffer[:length])
            blocks.append(running.digest())
            start += length
            advance(length)
    return blocks


def _fill(file: FileIO, buffer: memoryview) -> int:
    """Read until the buffer is full or the file ends; returns the number of bytes."""
    filled = 0
    while filled < len(buffer) and (count := file.readinto(buffer[filled:])):
        filled += count
    return filled


class InPieces:
    """A JSON value that isn't in memory as a whole, such as a table of a long document."""

    def canonical_pieces(self) -> Iterator[bytes]:
        """Its canonical text, piece by piece."""
        raise NotImplementedError


def digest_value(algorithm: str, value: Any) -> str:
    """Digest a JSON value, by its canonical text."""
    running = hasher(algorithm)()
    for piece in canonical_pieces(value, whole=False):  # the text of a huge plan takes gigabytes
        running.update(piece)
    return f"{algorithm}:{running.digest().hex()}"


def canonical_pieces(value: Any, *, whole: bool = True) -> Iterator[bytes]:
    """The canonical text of a value: whole, unless it is an object of entries that come :class:`InPieces`, or is one
    itself.
    """
    if isinstance(value, InPieces):
        yield from value.canonical_pieces()
        return
    entries = value.values() if isinstance(value, Mapping) else ()
    if entries and (not whole or any(isinstance(entry, InPieces) for entry in entries)):
        yield from canonical_object(sorted(value.items(), key=itemgetter(0)))
    else:
        yield canonical_json(value)


def canonical_object(entries: Iterable[tuple[str, Any]]) -> Iterator[bytes]:
    """The canonical text of an object of these entries, at least one, in the order of their names."""
    for number, (name, entry) in enumerate(entries):
        yield (b"," if number else b"{") + canonical_json(name) + b":"
        yield from canonical_pieces(entry)
    yield b"}"


def canonical_json(value: Any) -> bytes:
    """Spell a JSON value in the one canonical way: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
