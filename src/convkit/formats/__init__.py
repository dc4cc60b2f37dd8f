"""The formats by name. Each is a module of its own, imported when it is used.

Packages add formats through the entry point group ``convkit.formats`` (name -> a ``Format`` instance). One that can't
be used is passed over, unless it is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from convkit.checkpoint import Checkpoint, Format
from convkit.checkpoint.source_files import Ranged, readable
from convkit.errors import ConvkitError, UsageError, meant
from convkit.files.stores import place
from convkit.formats.contents import FLAX, Contents, contents_of
from convkit.formats.surroundings import broken_link, surroundings
from convkit.plugins import Group, Plugin
from convkit.state import flax_msgpack

__all__ = ["OTHERS", "check_name", "detect_format", "every", "get_format", "names", "open_checkpoint"]

#: In the order of preference where a folder holds several: safetensors wins, as in transformers.
_MODULES = {
    "safetensors": "convkit.formats.safetensors",
    "torch": "convkit.formats.torch.format",
    "cerebras-h5": "convkit.formats.cerebras_h5.format",
    "pax": "convkit.formats.pax",
    "t5x": "convkit.formats.t5x.format",
    "folders": "convkit.formats.folders.of_safetensors",
    "folders-torch": "convkit.formats.folders.of_torch",
    # last, as T5X and Pax save through Orbax
    "orbax-v0": "convkit.formats.orbax.v0",
    "orbax-v1": "convkit.formats.orbax.v1",
}

#: a name of a model on the Hub, and of something in a store, as a path spells it
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")
_STORE = re.compile(r"(hf|s3|gs|https?|generated|package):/+(.+)")


def _fault(plugin: Plugin, found: Any) -> str:
    """Why an object isn't a format of this name."""
    if not isinstance(found, Format):
        return f"it is {type(found).__name__}, not an instance of convkit.checkpoint.Format"
    if lacking := [name for name in ("name", "folder", "summary") if not hasattr(found, name)]:
        return f"it has no {' and no '.join(lacking)}, as formats of this convkit have"
    return "" if found.name == plugin.name else f"it calls itself {found.name}"


#: the formats of other packages
OTHERS = Group("formats", _MODULES, _fault)


def names() -> list[str]:
    """Names of all formats, ours first, then those of other packages."""
    return [*_MODULES, *OTHERS.names()]


def every() -> Iterator[tuple[str, Format]]:
    """Every format that can be used, by name; other packages are looked through last."""
    yield from ((name, get_format(name)) for name in _MODULES)
    yield from OTHERS.each()


def get_format(name: str) -> Format:
    """The format with this name.

    Raises:
        UsageError: no format has this name; the message lists those that exist.
        ConvkitError: it can't be used; the message names the package that brings it.
    """
    if name in _MODULES:
        return import_module(_MODULES[name]).FORMAT
    if name in OTHERS.names():
        return OTHERS.get(name)
    raise UsageError(f"no format is called {name!r}", remedy=f"{meant(name, names())}formats: {', '.join(names())}")


def detect_format(path: Path) -> tuple[Format, str]:
    """The format of ``path``, and how it was recognised. What a file holds counts more than its name.

    Raises:
        ConvkitError: the path doesn't exist, or no format recognises it: what lies there is said, and the way on.
    """
    _check_there(path)
    found = _by_name(path)
    if path.is_dir():
        if found is None:
            raise _said(path)
        return found
    contents = _contents(path)
    if contents is None or (found is not None and found[0].name not in _MODULES):
        if found is None:
            remedy = OTHERS.remedy(f"formats: {', '.join(names())}; name one with --source-format")
            raise ConvkitError("isn't a checkpoint of a known format", path=path, remedy=remedy)
        return found
    if contents is FLAX:  # several formats lie in it
        if found is None:
            raise _flax(path)
        return found
    if not contents.format:
        raise ConvkitError(contents.what, path=path, remedy=contents.remedy)
    if found is None or found[0].name != contents.format:
        return get_format(contents.format), f"the file {contents.what}, whatever its name"
    return found


def open_checkpoint(path: str | Path, format: str | None = None) -> Checkpoint:
    """Open a checkpoint without reading a tensor; the format is detected unless it is named.

    Raises:
        ConvkitError: it can't be opened. A file that is something else than the format's is called what it is.
    """
    path = place(path) if isinstance(path, str) else path
    if format is None:
        found = detect_format(path)[0]
    else:
        _check_there(path)
        found = get_format(format)
    try:
        return found.open(path)
    except ConvkitError as error:
        raise _explained(error, path, found) from None


def check_name(path: Path, format: str) -> None:
    """Check that a file to be written isn't named as one of another format; a folder shows what it holds.

    Raises:
        UsageError: it is.
    """
    asked = get_format(format)
    if asked.folder or path.suffix in asked.suffixes:
        return
    others = [name for name in _MODULES if path.suffix in get_format(name).suffixes]
    if others:
        raise UsageError(
            f"is named as {others[0]}, but {format} is to be written",
            path=path,
            remedy=f"name it {path.with_suffix(asked.suffixes[0])}, or choose --format {others[0]}",
        )


def _by_name(path: Path) -> tuple[Format, str] | None:
    """The first format that recognises a file or folder, and why."""
    for name, candidate in every():
        try:
            reason = candidate.detect(path)
        except Exception:
            if name in _MODULES:
                raise
            continue  # what isn't ours to mend doesn't stand in the way of the others
        if reason:
            return candidate, reason
    return None


def _check_there(path: Path) -> None:
    """Refuse what doesn't exist.

    Raises:
        ConvkitError: it doesn't; a name of the Hub or of a store is recognised as one.
    """
    if isinstance(path, Ranged):
        path.check_finished()
    if path.exists():
        return
    if isinstance(path, Ranged):
        raise ConvkitError("no such file or folder", path=path, remedy="check the URI")
    if (said := broken_link(path)) is not None:
        raise ConvkitError(said[0], path=path, remedy=said[1])
    remedy = "check the path"
    if found := _STORE.match(str(path)):
        remedy = f"fetch it first: convkit fetch {found[1]}://{found[2]} FOLDER"
    elif _HUB.fullmatch(str(path)) and (not path.suffix if len(path.parts) == 1 else not path.parent.exists()):
        remedy = f"check the path; a model of the Hub is fetched first: convkit fetch hf://{path} FOLDER"
    raise ConvkitError("no such file or folder", path=path, remedy=remedy)


def _contents(file: Path) -> Contents | None:
    """What a file is; an index of shards is what its name says."""
    with readable(file):
        return None if file.suffix == ".json" or not file.is_file() else contents_of(file)


def _said(folder: Path) -> ConvkitError:
    """What lies in a folder that no format recognises."""
    with readable(folder):
        if not any(folder.iterdir()):
            return ConvkitError("the folder is empty", path=folder, remedy="name a folder that holds a checkpoint")
        problem, remedy = surroundings(folder, lambda inner: (found := _by_name(inner)) and found[0].name)
    return ConvkitError(problem, path=folder, remedy=OTHERS.remedy(remedy))


def _flax(file: Path) -> ConvkitError:
    """What is wrong with a file of flax's msgpack that no format recognises."""
    try:
        flax_msgpack.load(file)
    except ConvkitError as error:
        return error
    return ConvkitError(FLAX.what, path=file, remedy=FLAX.remedy)


def _explained(error: ConvkitError, path: Path, format: Format) -> ConvkitError:
    """The error of a format, or what the file is that it couldn't read."""
    file = path if error.path in (None, str(path)) else place(str(error.path))
    contents = _contents(file) if file.is_file() and format.suffixes else None
    if contents is None or contents is FLAX or contents.format == format.name:
        return error
    if not contents.format:
        return ConvkitError(contents.what, path=file, remedy=contents.remedy)
    named = f"leave out --source-format, or say {contents.format}"
    remedy = named if file == path else f"its name and its folder's say {format.name}: correct them, or name the file"
    return ConvkitError(f"{contents.what}, not {format.name}", path=file, remedy=remedy)
