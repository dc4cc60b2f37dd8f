"""What the parts of one output must have in common, on whichever machine they run."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import convkit
from convkit.checkpoint import WriteOptions
from convkit.checkpoint.digests import digest_value
from convkit.execute.conversion import plugins_of
from convkit.execute.laid_out import identity_of
from convkit.files.shared import Agreed
from convkit.plan import Plan, Source
from convkit.version import commit

#: packages that have a part in the bytes that are written
_PACKAGES = ("numpy", "tensorstore", "h5py")


def agreed(source: Source, plan: Plan, options: WriteOptions, digest: str, count: int) -> Agreed:
    """What a part of this plan has in common with the others."""
    identity = identity_of(source, plan, options, digest, None)
    return Agreed(
        convkit=convkit.__version__,
        commit=commit(),
        versions=_versions() | {one.package: one.version for one in plugins_of(plan) if one},
        parts=count,
        identity=identity | {"source": digest_value("sha256", _states(source.path, source.checkpoint.files()))},
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _states(source: Path, files: Iterable[Path]) -> list[list[Any]]:
    """What cheaply says on any machine that files are others than before. A shared file system has another device on
    each, and may be mounted elsewhere.
    """
    states = ((path, path.stat()) for path in files)
    folder = source if source.is_dir() else source.parent
    return [
        [str(path.relative_to(folder) if path.is_relative_to(folder) else path), s.st_ino, s.st_size, s.st_mtime_ns]
        for path, s in states
    ]
