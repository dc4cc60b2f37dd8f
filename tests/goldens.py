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
    """The archive's top folder, unpacked once a process: whole, or only what starts with ``members``.

    >>> golden_dir("cerebras.tar.gz", "llama_gqa/hf", "_format")  # doctest: +SKIP
    """
    return _unpack(golden_archive(name), members)


@cache
def _unpack(archive: Path, members: tuple[str, ...]) -> Path:
    top = archive.name.split(".")[0]
    wanted = tuple(f"{top}/{member}" for member in members) or top
    folder = Path(_scratch().name) / f"{top}-{abs(hash(members)):x}"
    with tarfile.open(archive) as opened:
        opened.extractall(folder, (entry for entry in opened if entry.name.startswith(wanted)), filter="data")
    return folder / top


@cache
def _scratch() -> TemporaryDirectory:
    """A folder that goes with the process."""
    return TemporaryDirectory(prefix="convkit-goldens-")
