"""``folders`` and ``folders-torch``: a folder with a folder a component, each a checkpoint of transformers' own.

Models that one framework packs into one checkpoint often are several elsewhere: a vision tower in ``image_model/`` and
a language model in ``text_model/``. Keys begin with the component's name. The config has a section a component, which
is the ``config.json`` in its folder; the section ``preprocessor_config`` has those of components in turn.

Either format reads safetensors and files of ``torch.save``, single files or shards; what they write differs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec.structs import replace

from convkit.checkpoint import Checkpoint, Format, Leaf, WriteOptions, Writer
from convkit.checkpoint.source_files import readable
from convkit.errors import ConvkitError
from convkit.formats import safetensors
from convkit.formats.folders.checkpoint import FoldersCheckpoint
from convkit.formats.folders.configs import CONFIG, PREPROCESSORS, documents, read_configs
from convkit.formats.folders.writer import FoldersWriter
from convkit.formats.plain.shards import INDEX
from convkit.formats.surroundings import surroundings
from convkit.formats.torch import format as torch_format

#: what a component may be called: a folder of another name, such as ``checkpoint-100``, isn't one
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
#: names that show that folders are components, and not several checkpoints in one place
_ROLE = re.compile(r"\w+_(model|encoder|decoder|tower)", re.ASCII)
_FORMATS = (safetensors.FORMAT, torch_format.FORMAT)


class Folders(Format):
    """Component folders, written in the format ``inner``."""

    folder = True
    holds_config = True
    components = True
    mapped = True
    same_bytes = True

    def __init__(self, name: str, inner: Format) -> None:
        self.name = name
        self.inner = inner
        self.holds_values = inner.holds_values
        self.summary = f"component folders, each {inner.name} with its config.json (Hugging Face)"

    def detect(self, path: Path) -> str | None:
        """Recognise a folder with at least two components in it, if all checkpoints in it are called like components.

        One whose weights are missing counts: :meth:`open` says so.
        """
        if not path.is_dir() or any(found.detect(path) for found in _FORMATS):
            return None
        parts = dict(_components(path))
        if not parts or not all(map(_ROLE.fullmatch, parts)):
            return None
        inner = {format.name for format in parts.values()}
        own = inner == {"torch"} if self.inner is torch_format.FORMAT else "safetensors" in inner
        several = len(parts) + len(_without_weights(path, parts)) > 1
        return f"the folder holds the checkpoints {', '.join(parts)}" if several and own else None

    def open(self, path: Path) -> Checkpoint:
        """Open every component.

        Raises:
            ConvkitError: there is none, one can't be opened, or one has no config or no weights though others have.
        """
        found = dict(_components(path))
        if not found:
            remedy = "name the folder that holds the components' folders"
            raise ConvkitError("holds no folder with a checkpoint", path=path, remedy=remedy)
        if lacking := _without_weights(path, found):
            problem, remedy = surroundings(path / lacking[0], lambda inner: None)
            raise ConvkitError(problem, path=path / lacking[0], remedy=remedy)
        with ExitStack() as opened:
            parts = {name: opened.enter_context(format.open(path / name)) for name, format in found.items()}
            config, others = read_configs(path, parts), list(_others(path, parts))
            opened.pop_all()
        return FoldersCheckpoint(path, self.name, parts, config, others)

    def create(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, *, resume: bool = False) -> Writer:
        """Lay out a folder a component; the config's sections become files in them.

        Raises:
            ConvkitError: a key that doesn't begin with a component's name, or a leaf that the inner format can't hold.
        """
        parts: dict[str, list[Leaf]] = {}
        for leaf in leaves:
            name, dot, key = leaf.key.partition(".")
            if not dot or not _NAME.fullmatch(name):
                remedy = "keys begin with the name of a component"
                raise ConvkitError("belongs to no component", path=path, key=leaf.key, remedy=remedy)
            parts.setdefault(name, []).append(replace(leaf, key=key))
        path.mkdir(parents=True, exist_ok=True)
        own = replace(options, config=None)
        with ExitStack() as opened:
            writers = {}
            for name, inner in parts.items():
                with _with_its_name(name):
                    writers[name] = self.inner.create(path / name, inner, own, resume=resume)
                opened.callback(writers[name].close)
            opened.pop_all()
        return FoldersWriter(path, writers, documents(options.config or {}))


def _components(path: Path) -> Iterator[tuple[str, Format]]:
    """The components in a folder, and the format of each."""
    with readable(path):
        folders = sorted(entry for entry in path.iterdir() if _NAME.fullmatch(entry.name) and entry.is_dir())
        for folder in folders:
            if (format := next((one for one in _FORMATS if one.detect(folder)), None)) is not None:
                yield folder.name, format


def _without_weights(path: Path, parts: Collection[str]) -> list[str]:
    """The folders beside the components that are called and configured like one, and hold no checkpoint."""
    folders = (entry.parent for entry in sorted(path.glob(f"*/{CONFIG}")))
    return [one.name for one in folders if one.name not in parts and _ROLE.fullmatch(one.name)]


def _others(path: Path, parts: Mapping[str, Checkpoint]) -> Iterator[str]:
    """What lies beside the components and in them, and isn't a part of the checkpoint; folders end in "/"."""
    for entry in sorted(path.iterdir()):
        if entry.name not in parts and not entry.name.startswith("."):
            yield f"{entry.name}/" if entry.is_dir() else entry.name
    for name, part in parts.items():
        known = {*part.files(), path / name / CONFIG, path / name / f"{PREPROCESSORS}.json"}
        for entry in sorted((path / name).iterdir()):
            if entry not in known and not entry.name.startswith(".") and not entry.name.endswith((INDEX, ".md")):
                yield f"{name}/{entry.name}{'/' if entry.is_dir() else ''}"


@contextmanager
def _with_its_name(name: str) -> Iterator[None]:
    """Name the leaf of an error with its component."""
    try:
        yield
    except ConvkitError as error:
        key = f"{name}.{error.key}" if error.key else None
        raise type(error)(error.problem, path=error.path, key=key, remedy=error.remedy) from error.__cause__
