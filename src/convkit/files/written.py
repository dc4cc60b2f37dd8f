"""What a receipt records of every file that was written, beside itself.

Of each file: its path from the folder in which the target lies, its size, its time of change and a digest. The set is
the target with all files in it, the config, the companions, the complement, and what a format puts beside the target.

A file's digest covers all its bytes, except the ranges that ``leaf_bytes`` names: there lie elements of leaves as they
are, and the digests of the leaves cover them. So that large tensors aren't read a second time for the receipt, those of
plain formats are left out (safetensors, torch, uncompressed tensors in ``.mdl``). What is covered by the file's digest
then are headers, small tensors, gaps, padding and trailers. The ranges are part of the receipt, whose seal covers them:
as long as the rest of the file is the same, the format finds each leaf at the same place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import UNSET, Struct, field

from convkit.checkpoint.digests import digest_file, digest_files
from convkit.files.receipt_json import WrittenFile

Span = tuple[int, int]

#: smaller ranges are digested with the file: to name them costs more than to read them
LEAST_SPAN = 4096


class Digesting(Struct, frozen=True):
    """How the files of an output are digested.

    Attributes:
        algorithm: of the digests.
        threads: that digest at a time.
        leaf_bytes: by file, the ranges that the digests of leaves cover, in any order, adjacent ones in pieces.
        known: digests of whole files by this algorithm that aren't to be computed again.
    """

    algorithm: str = "xxh3-128"
    threads: int = 1
    leaf_bytes: Mapping[Path, Iterable[Span]] = field(default_factory=dict)
    known: Mapping[Path, str] = field(default_factory=dict)


def recorded(folder: Path, names: Iterable[str], how: Digesting) -> list[WrittenFile]:
    """What the receipt says of the files in ``folder`` that have these names, or lie below these folders.

    Raises:
        OSError: one can't be read.
    """
    files = [(name, path) for top in names for name, path in files_below(folder, top)]
    spans = {path: found for path, pieces in how.leaf_bytes.items() if (found := _joined(pieces))}
    digests = {path: digest_file(how.algorithm, path, without=found) for path, found in spans.items()}
    digests |= {path: digest for path, digest in how.known.items() if path not in spans}
    rest = [path for _, path in files if path not in digests]
    digests |= zip(rest, digest_files(how.algorithm, rest, how.threads), strict=True)
    return [_entry(name, path, digests[path], spans.get(path)) for name, path in files]


def files_below(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """All that isn't a folder at this name or below it, by names from ``folder``, in order.

    Links below it aren't followed; if the name itself is a link, it stands for what it leads to.
    """
    path = folder / name
    if not path.is_dir():
        if path.exists() or path.is_symlink():
            yield name, path
        return
    for inner in sorted(path.iterdir()):
        below = f"{name}/{inner.name}"
        if inner.is_dir() and not inner.is_symlink():
            yield from files_below(folder, below)
        else:
            yield below, inner


def called_today(name: str, made_as: str, target: str) -> str:
    """What a file of the set is called now that the target, made under the name ``made_as``, is called ``target``.

    >>> [called_today(name, "a.mdl", "b.mdl") for name in ("a.mdl", "a.mdl.companions/LICENSE", "a.yaml", "c.yaml")]
    ['b.mdl', 'b.mdl.companions/LICENSE', 'b.yaml', 'c.yaml']
    """
    top, slash, below = name.partition("/")
    if top == made_as or top.startswith(f"{made_as}."):
        top = target + top.removeprefix(made_as)
    elif not slash and made_as and top == Path(made_as).with_suffix(Path(top).suffix).name:
        top = Path(target).with_suffix(Path(top).suffix).name
    return top + slash + below


def _entry(name: str, path: Path, digest: str, spans: Sequence[Span] | None) -> WrittenFile:
    status = path.stat()
    return WrittenFile(
        name=name,
        bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        digest=digest,
        leaf_bytes=[*spans] if spans else UNSET,
    )


def _joined(pieces: Iterable[Span]) -> list[Span]:
    """The ranges in order, adjacent and overlapping ones as one, without short ones."""
    joined: list[Span] = []
    for start, stop in sorted(pieces):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return [(start, stop) for start, stop in joined if stop - start >= LEAST_SPAN]
