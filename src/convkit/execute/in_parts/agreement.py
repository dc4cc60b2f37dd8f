"""What the parts of one output must have in common, on whichever machine they run."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import convkit
from convkit.checkpoint import WriteOptions
from convkit.checkpoint.digests import digest_value
from convkit.execute.conversion import plugins_of
from convkit.execute.laid_out import identity_of
from convkit.files.shared import Agreed
from convkit.files.unchanged import seen_anywhere
from convkit.plan import Plan, Source
from convkit.version import commit

#: packages that have a part in the bytes that are written
_PACKAGES = ("numpy", "tensorstore", "h5py")


def agreed(source: Source, plan: Plan, options: WriteOptions, digest: str, count: int) -> Agreed:
    """What a part of this plan has in common with the others."""
    identity = identity_of(source, plan, options, digest, None)
    folder = source.path if source.path.is_dir() else source.path.parent
    return Agreed(
        convkit=convkit.__version__,
        commit=commit(),
        versions=_versions() | {one.package: one.version for one in plugins_of(plan) if one},
        parts=count,
        identity=identity | {"source": digest_value("sha256", seen_anywhere(folder, source.checkpoint.files()))},
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
