"""Recorded conversions of the original tools: archives at ``$CONVKIT_GOLDENS``, else ``../shared/goldens``.

A test that needs one is marked ``golden`` and calls :func:`golden_dir`, and is skipped, visibly, where the
archive isn't. A test that calls it without the mark fails, wherever it runs.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from once import once

_REPOSITORY = Path(__file__).parent.parent

#: What a skipped test says.
MISSING = "isn't there (CONVKIT_GOLDENS names the folder of goldens)"
#: The test that runs, if any; ``conftest.py`` says it.
running: pytest.Item | None = None


def golden_archive(name: str) -> Path:
    """The archive's path; skips the test where there is none."""
    if running is not None and running.get_closest_marker("golden") is None:
        pytest.fail(f"takes the golden {name} without the mark: @pytest.mark.golden", pytrace=False)
    if not _path(name).is_file():
        pytest.skip(_missing(name))
    return _path(name)


def golden_cases(name: str, cases: Callable[[], Iterable[Any]]) -> list[Any]:
    """Parameters that an archive holds, each marked ``golden``; where it isn't, one that is skipped."""
    if not _path(name).is_file():
        return [pytest.param(None, marks=[pytest.mark.golden, pytest.mark.skip(_missing(name))], id="missing")]
    return [pytest.param(case, marks=pytest.mark.golden) for case in cases()]


def _path(name: str) -> Path:
    return Path(os.environ.get("CONVKIT_GOLDENS") or _REPOSITORY.parent / "shared" / "goldens") / name


def _missing(name: str) -> str:
    return f"{name} {MISSING}"


def golden_dir(name: str, *members: str) -> Path:
    """The archive's contents, unpacked once a run: all, or of a large archive only what starts with ``members``.

    They lie in a folder called as the archive (where there are members), or at the archive's top; tests copy what
    they change.

    >>> golden_dir("cerebras_more.tar.xz", "config/")  # doctest: +SKIP
    """
    return _unpacked(golden_archive(name), members)


@cache
def _unpacked(archive: Path, members: tuple[str, ...]) -> Path:
    """Where another process of this run has unpacked the archive, if one has."""
    top = archive.name.split(".")[0]
    said = sha256(repr((archive, members)).encode()).hexdigest()
    folder = once(f"{top}-{said[:16]}", partial(_unpack, archive, members))
    return folder / top if (folder / top).is_dir() else folder


def _unpack(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    """Unpack with tar, which takes a tenth of the time that Python's own takes."""
    top = archive.name.split(".")[0]
    wanted = ["--wildcards", *(f"{top}/{member}*" for member in members)] if members else []
    subprocess.run(["tar", "--no-same-owner", "--touch", "-xf", archive, "-C", folder, *wanted], check=True)
