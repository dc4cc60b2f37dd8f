"""Compare the files of an output with what its receipt says of each: none other, none more, none less.

What a file's digest covers, :mod:`convkit.files.written` says. Nothing here reads a format, so that a damaged file is
found before anything is made of what it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET, Struct

from convkit.checkpoint.digests import BlockDigests, combine, digest_file
from convkit.checkpoint.progress import unmeasured
from convkit.checkpoint.threads import workers
from convkit.files.neighbours import files_of_output
from convkit.files.receipt import SCHEMA, receipt_path
from convkit.files.receipt_json import WrittenFile
from convkit.files.seal import FIELD, unbroken
from convkit.files.written import Span, called_today
from convkit.verify.documents import DigestedFile, Receipt
from convkit.verify.roundtrip.examine import THREADS
from convkit.verify.verdict import Fault

#: files by their names: where each lies, or its bytes if a fault is planted in it
Files = dict[str, Path | bytes]

#: bytes of the largest file in which a fault is planted, in memory
_PLANTED = 1 << 22
#: the verdict on a receipt whose seal is broken: what it says is not to be relied on
_BROKEN = (
    "the receipt isn't as it was written: it was edited or damaged, so it vouches for nothing"
    " (restore it, or make the output again)"
)
#: what verdicts say under a receipt that records no digests of files
_EARLIER = (
    "the receipt is of an earlier release: of what it doesn't record, nothing was compared"
    " (the receipt itself, and the files' bytes beyond leaves and config)"
)


class Listing(Struct, frozen=True):
    """The files of an output: those that are there, and those that its receipt records, by the same names.

    Names of files in a folder are paths from that folder, those of files beside the target are their own.
    """

    found: Files
    recorded: Mapping[str, WrittenFile | DigestedFile]

    @property
    def nbytes(self) -> int:
        """The bytes that are to be digested."""
        whole = sum(file.bytes for file in self.recorded.values())
        return whole - sum(stop - start for file in self.recorded.values() for start, stop in _left_out(file))

    def altered(self, advance: Callable[[int], object] = unmeasured) -> dict[str, str]:
        """Each file that isn't as the receipt says, and what is wrong with it."""

        def problem(name: str) -> str:
            return _problem(self.found.get(name), self.recorded.get(name), advance)

        names = [*self.recorded, *(name for name in self.found if name not in self.recorded)]
        with workers(THREADS, self.nbytes) as pool:
            return {name: what for name, what in zip(names, pool.map(problem, names), strict=True) if what}

    def planted(self) -> Iterator[Fault]:
        """Plant faults in the smallest file, in memory; the same function must find them."""
        there = {name: file for name, file in self.found.items() if name in self.recorded}
        for name, files, keys in spoiled(there, {name: _left_out(file) for name, file in self.recorded.items()}):
            recorded = {key: self.recorded[key] for key in keys if key in self.recorded}
            yield Fault(name, bool(Listing(files, recorded).altered()))


def written_files(path: Path, receipt: Receipt) -> Listing:
    """The files of the output at ``path``, whose receipt records what was written."""
    made_as, recorded = Path(receipt.target.path).name, {}
    found: Files = {}
    for entry in receipt.written or ():
        name = called_today(entry.name, made_as, path.name)
        recorded[_short(path, name)] = entry
        if (file := path.parent / name).is_file():
            found[_short(path, name)] = file
    found |= {_short(path, name): file for name, file in files_of_output(path)}
    return Listing(found, recorded)


def seal_of(path: Path, document: Mapping[str, Any]) -> tuple[list[str], list[Fault]]:
    """What is wrong with the seal of the receipt of ``path``, and a fault planted in the receipt, in memory.

    There is neither where the receipt is of an earlier release, which didn't seal it.
    """
    if document["schema"] != SCHEMA or not {FIELD, "written"} & set(document):
        return [], []
    receipt = receipt_path(path)
    data = receipt.read_bytes()
    if not unbroken(data, document):
        return [f"{receipt.name}: {_BROKEN}"], []
    middle, whole = len(data) // 2, memoryview(data)  # not copied: it may be long
    spoiled = (whole[:middle], bytes([data[middle] ^ 1]), whole[middle + 1 :])
    return [], [Fault("one bit of the receipt flipped", not unbroken(spoiled, document))]


def about(receipt: Receipt) -> dict[str, Any]:
    """What a verdict says of the receipt, with what couldn't be compared for want of it."""
    known = {"plan": receipt.plan_digest, "convkit": receipt.convkit, "started": receipt.started}
    return known if receipt.written is not UNSET else known | {"not_compared": _EARLIER}


def spoiled(
    files: Files, left_out: Mapping[str, list[Span]] | None = None
) -> Iterator[tuple[str, Files, Collection[str]]]:
    """Faults by name, each with the files in question as they are with that fault, in memory, and their names.

    ``left_out`` are the ranges, by the file's name, in which no bit is flipped.
    """
    sizes = sorted((file.stat().st_size, name) for name, file in files.items() if isinstance(file, Path))
    for _, name in [entry for entry in sizes if 0 < entry[0] <= _PLANTED][:1]:
        data = bytearray(bytes_of(files[name]))
        spans = (left_out or {}).get(name)
        data[(spans[0][1] if spans[0][0] == 0 else 0) if spans else len(data) // 2] ^= 1
        yield "one bit flipped", {name: bytes(data)}, [name]
        yield "a file cut", {name: bytes(data[:-1])}, [name]
        yield "a file missing", {}, [name]
    yield "a file too many", {"surprise": b""}, ["surprise"]


def size(file: Path | bytes) -> int:
    """The bytes of a file."""
    return file.stat().st_size if isinstance(file, Path) else len(file)


def bytes_of(file: Path | bytes) -> bytes:
    """What a file holds."""
    return file.read_bytes() if isinstance(file, Path) else file


def _problem(
    file: Path | bytes | None, recorded: WrittenFile | DigestedFile | None, advance: Callable[[int], object]
) -> str:
    """What is wrong with one file; nothing if it is as recorded."""
    if file is None:
        return "the file is missing"
    if recorded is None:
        return "is not in the receipt"
    try:
        if size(file) != recorded.bytes:
            return f"the file has {size(file)} bytes, the receipt says {recorded.bytes}"
        same = _digest(file, recorded, advance) == recorded.digest
    except OSError as error:
        return f"can't be read: {error.strerror}"
    return "" if same else "its digest differs from the receipt"


def _digest(file: Path | bytes, like: WrittenFile | DigestedFile, advance: Callable[[int], object]) -> str:
    algorithm, without = like.digest.partition(":")[0], _left_out(like)
    if isinstance(file, Path):
        return digest_file(algorithm, file, advance, without=without)
    blocks = []
    edges = [0, *(end for span in without for end in span), len(file)]
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        digests = BlockDigests(algorithm)
        digests.update(np.frombuffer(file[start:stop], np.uint8))
        blocks += digests.blocks()
    return combine(algorithm, blocks)


def _left_out(file: WrittenFile | DigestedFile) -> list[Span]:
    """The ranges that the file's digest doesn't cover."""
    return (file.leaf_bytes or []) if isinstance(file, WrittenFile) else []


def _short(path: Path, name: str) -> str:
    return name.removeprefix(f"{path.name}/")
