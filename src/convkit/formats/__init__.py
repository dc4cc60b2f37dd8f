"""The formats by name. Each is a module of its own, imported when it is used.

Packages add formats through the entry point group ``convkit.formats`` (name -> a ``Format`` instance).
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from convkit.checkpoint import Checkpoint, Format
from convkit.errors import ConvkitError, UsageError

__all__ = ["detect_format", "get_format", "names", "open_checkpoint"]

#: In the order of preference where a folder holds several: safetensors wins, as in transformers.
_MODULES = {
    "safetensors": "convkit.formats.safetensors",
    "torch": "convkit.formats.torch.format",
    "cerebras-h5": "convkit.formats.cerebras_h5.format",
    "pax": "convkit.formats.pax",
    "t5x": "convkit.formats.t5x.format",
    # last, as T5X and Pax save through Orbax
    "orbax-v0": "convkit.formats.orbax.v0",
    "orbax-v1": "convkit.formats.orbax.v1",
}


def names() -> list[str]:
    """Names of all formats, ours first, then those of other packages."""
    return list(_names())


def _names() -> Iterator[str]:
    """Yield the names of ours before other packages are looked through."""
    yield from _MODULES
    yield from (name for name in _plugins() if name not in _MODULES)


def get_format(name: str) -> Format:
    """The format with this name.

    Raises:
        UsageError: no format has this name; the message lists those that exist.
    """
    if name in _MODULES:
        return import_module(_MODULES[name]).FORMAT
    plugins = _plugins()
    if name in plugins:
        return plugins[name].load()
    raise UsageError(f"no format is called {name!r}", remedy=f"formats: {', '.join(names())}")


def detect_format(path: Path) -> tuple[Format, str]:
    """The format of ``path``, and how it was recognised.

    Raises:
        ConvkitError: the path doesn't exist, or no format recognises it.
    """
    if not path.exists():
        raise ConvkitError("no such file or folder", path=path, remedy="check the path")
    for name in _names():
        candidate = get_format(name)
        reason = candidate.detect(path)
        if reason:
            return candidate, reason
    if path.is_dir() and not any(path.iterdir()):
        raise ConvkitError("the folder is empty", path=path, remedy="name a folder that holds a checkpoint")
    raise ConvkitError(
        "holds no checkpoint of a known format",
        path=path,
        remedy=f"formats: {', '.join(names())}; name one with --source-format",
    )


def open_checkpoint(path: str | Path, format: str | None = None) -> Checkpoint:
    """Open a checkpoint without reading a tensor; the format is detected unless it is named."""
    path = Path(path)
    if format is None:
        return detect_format(path)[0].open(path)
    if not path.exists():
        raise ConvkitError("no such file or folder", path=path, remedy="check the path")
    return get_format(format).open(path)


def _plugins() -> dict:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group="convkit.formats")}
