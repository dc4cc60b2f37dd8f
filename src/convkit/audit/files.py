"""The sha256 of files, and one digest of a directory that binds their names.

The directory digest is in-toto's ``dirHash``, Go's Hash1: the sha256 of the lines that ``sha256sum`` prints of all
files, paths with ``/`` and in the order of their UTF-8 bytes. In the folder, this prints it::

    find . -type f | cut -c3- | LC_ALL=C sort | xargs -r sha256sum | sha256sum
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from convkit.checkpoint.progress import unmeasured
from convkit.checkpoint.threads import workers
from convkit.errors import ConvkitError, visible
from convkit.files.written import files_below

#: bytes of a file that are digested at a time, and files at a time
_BLOCK, THREADS = 1 << 20, 4


def sha256_of(path: Path, advance: Callable[[int], object] = unmeasured) -> str:
    """The sha256 of a file, hexadecimal; ``advance`` is called with the bytes of each block.

    Raises:
        OSError: it can't be read.
    """
    running, block = hashlib.sha256(), memoryview(bytearray(_BLOCK))
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(block):
            running.update(block[:length])
            advance(length)
    return running.hexdigest()


def digested(files: Mapping[str, Path], advance: Callable[[int], object] = unmeasured) -> dict[str, str]:
    """The sha256 of each file, by its name, in the order of the names' UTF-8 bytes.

    Raises:
        ConvkitError: one is a link, has a name that ``sha256sum`` would escape, or can't be read.
    """
    names = sorted(files, key=os.fsencode)
    for name in names:
        _check(name, files[name])
    with workers(THREADS, total_bytes(files)) as pool:
        return dict(zip(names, pool.map(lambda name: _digest(files[name], advance), names), strict=True))


def directory_digest(digests: Mapping[str, str]) -> str:
    """The digest of a directory that holds just these files, from the sha256 of each, hexadecimal.

    >>> directory_digest({"b": "0" * 64, "a": "1" * 64})[:16]
    'fabf5fb920fd6814'
    """
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests, key=os.fsencode))
    return hashlib.sha256(lines.encode()).hexdigest()


def files_in(path: Path) -> dict[str, Path]:
    """The files of a folder by their paths from it, or the one file by its name."""
    if not path.is_dir():
        return {path.name: path}
    return {name.partition("/")[2]: file for name, file in files_below(path.parent, path.name)}


def total_bytes(files: Mapping[str, Path]) -> int:
    """The bytes of all files that are there."""
    return sum(path.stat().st_size for path in _there(files.values()))


def _there(paths: Iterable[Path]) -> Iterable[Path]:
    return (path for path in paths if path.is_file())


def _digest(path: Path, advance: Callable[[int], object]) -> str:
    try:
        return sha256_of(path, advance)
    except OSError as error:
        raise ConvkitError(f"can't be read: {error.strerror}", path=path, remedy="let this user read it") from error


def _check(name: str, path: Path) -> None:
    if path.is_symlink():
        raise ConvkitError("is a link, which no digest binds", path=path, remedy="put the file itself there")
    if "\\" in name or visible(name) != name or not _is_unicode(name):
        raise ConvkitError("has a name that sha256sum escapes", path=path, remedy="give it a plain name")


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
