"""Recorded conversions of the original tools: archives at ``$CONVKIT_GOLDENS``, else ``../shared/goldens``.

A test that needs one calls :func:`golden_dir`, and is skipped, visibly, where the archive isn't.
"""

from __future__ import annotations

import os
import tarfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

_REPOSITORY = Path(__file__).parent.parent


def golden_archive(name: str) -> Path:
    """The archive's path; skips the test where there is none."""
    folder = Path(os.environ.get("CONVKIT_GOLDENS") or _REPOSITORY.parent / "shared" / "goldens")
    archive = folder / name
    if not archive.is_file():
        pytest.skip(f"golden {name} isn't there (CONVKIT_GOLDENS names its folder)")
    return archive


def golden_dir(name: str, *members: str) -> Path:
    """The archive's contents, unpacked once a process: all, or only what starts with ``members``.

    They lie in a folder called as the archive, or at the archive's top.

    >>> golden_dir("cerebras.tar.gz", "llama_gqa/hf", "_format")  # doctest: +SKIP
    """
    return _unpack(golden_archive(name), members)


@cache
def _unpack(archive: Path, members: tuple[str, ...]) -> Path:
    top = archive.name.split(".")[0]
    folder = Path(_scratch().name) / f"{top}-{abs(hash(members)):x}"

    def wanted(entry: tarfile.TarInfo) -> bool:
        return entry.name.removeprefix("./").removeprefix(f"{top}/").startswith(members or ("",))

    with tarfile.open(archive) as opened:
        opened.extractall(folder, (entry for entry in opened if wanted(entry)), filter="data")
    return folder / top if (folder / top).is_dir() else folder


@cache
def _scratch() -> TemporaryDirectory:
    """A folder that goes with the process."""
    return TemporaryDirectory(prefix="convkit-goldens-")
