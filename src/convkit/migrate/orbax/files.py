"""Describe and make the files of a folder, each a file of the source or new bytes.

Data files share their bytes with the source's where the file system allows it. Files that Orbax may write in
place (metadata, manifests) are always copied, and so are small files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from convkit.errors import ConvkitError
from convkit.files.sharing import copy_file, share_file
from convkit.state.orbax import arrays, layout, step, texts, tree

#: files by their paths below the folder: a file of the source, or new bytes; ``x/`` is an empty folder
Files = dict[str, Path | bytes]

#: files under this size are copied: sharing them saves nothing
_SMALL = 1 << 16
_METADATA = {tree.FILE, step.FILE, step.COMMIT, arrays.SHARDING_FILE, layout.MANIFEST, texts.FILE}


def listed(folder: Path) -> Files:
    """List every file and empty folder below, in the order of their paths.

    Raises:
        ConvkitError: a link to a folder, or a broken link.
    """
    found: Files = {}
    for place, folders, names in os.walk(folder):
        here = Path(place)
        for path in (here / name for name in folders):
            if path.is_symlink():
                raise ConvkitError("is a link to a folder", path=path, remedy="put the folder itself there")
        for path in (here / name for name in names):
            if not path.is_file():
                raise ConvkitError("isn't a file", path=path, remedy="remove it, or repair the link")
            found[path.relative_to(folder).as_posix()] = path
        if not folders and not names and here != folder:
            found[here.relative_to(folder).as_posix() + "/"] = b""
    return dict(sorted(found.items()))


def is_metadata(name: str) -> bool:
    """Whether a file of a pytree holds no array data."""
    path = PurePosixPath(name)
    return path.name in _METADATA or arrays.ARRAYS_FOLDER in path.parts


def under(prefix: str, files: Mapping[str, Path | bytes]) -> Files:
    """Move files into a folder of that name; an empty name leaves them where they are."""
    return {f"{prefix}/{name}" if prefix else name: origin for name, origin in files.items()}


def below(prefix: str, files: Mapping[str, Path | bytes]) -> Files:
    """Select the files in the folder of that name, by their paths in it."""
    start = f"{prefix}/"
    return {name.removeprefix(start): origin for name, origin in files.items() if name.startswith(start)}


def make(folder: Path, files: Mapping[str, Path | bytes], *, link: bool) -> None:
    """Make the folder with these files in it.

    Args:
        folder: is made, with its parents; files of these names that are there are replaced.
        files: the files to make.
        link: whether data files may be hard links to the source's.

    Raises:
        OSError: one can't be read or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, origin in files.items():
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if isinstance(origin, bytes):
            path.write_bytes(origin)
            continue
        file = origin.resolve()  # follow a link to the file itself
        status = file.stat()
        if status.st_size < _SMALL or is_metadata(name):
            copy_file(file, path)
        else:
            share_file(file, path, link=link)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
