"""Open a checkpoint as users have it: weights, the config beside them, and companion files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec import Struct

from convkit.checkpoint import Checkpoint
from convkit.checkpoint.source_files import Ranged
from convkit.errors import ConvkitError
from convkit.files.config_file import find_config, read_config
from convkit.files.neighbours import companions_path
from convkit.files.receipt import CONVERSION, complement_path, read_receipt, receipts_beside
from convkit.files.stores import place
from convkit.files.unchanged import Watch
from convkit.formats import get_format, open_checkpoint
from convkit.mappings import layouts

#: a companion that is a part of the config where components lie in folders
_PREPROCESSOR = "preprocessor_config.json"
#: files that a line names
_SHOWN = 12


class Source(Struct, dict=True):
    """An opened checkpoint with its config; use as a context manager.

    ``config_path`` is None if there is no config, or if the checkpoint itself holds it. ``companions`` are the files
    that are carried along, by their names, with a component's before (``text_model/tokenizer.json``). ``watch`` knows
    the files that are read, as they were before.
    """

    path: Path
    checkpoint: Checkpoint
    config: dict[str, Any] | None
    config_path: Path | None
    companions: Mapping[str, Path]
    watch: Watch | None = None

    @cached_property
    def receipt(self) -> dict[str, Any] | None:
        """The receipt of a conversion beside it, read once, because a plan asks it several questions; None without one.

        Raises:
            ConvkitError: it can't be read.
        """
        return read_receipt(self.path, CONVERSION)

    @property
    def not_carried(self) -> list[str]:
        """Names of what lies with the checkpoint and has no place in a conversion, such as code; folders end in "/"."""
        known = [name for name in self.checkpoint.metadata.get("companions", []) if name not in self.companions]
        files, carried = set(self.checkpoint.files()), set(self.companions.values())
        at_home = any(file.parent == self.path.parent for file in carried)
        folder = self.path if self.path.is_dir() else self.path.parent if at_home else None
        if folder is None or any(file.parent != folder for file in files):
            return known  # folders in it are leaves; the format knows the others
        taken = {self.path, *files, *carried, self.config_path}
        others = (entry for entry in sorted(folder.iterdir()) if entry not in taken and not _is_about_it(entry))
        return [*known, *(f"{entry.name}/" if entry.is_dir() else entry.name for entry in others)]

    @property
    def warnings(self) -> list[str]:
        """What a user should know of what isn't carried, in one line at most."""
        names = self.not_carried
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return [f"not carried: {', '.join(names[:_SHOWN])}{more}"] if names else []

    def __enter__(self) -> Source:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        self.checkpoint.close()
        if isinstance(error, ConvkitError) and self.watch is not None:
            _check_same(self.path, self.watch)


def open_source(
    path: str | Path,
    *,
    format: str | None = None,
    config: str | Path | None = None,
    watch: Watch | None = None,
) -> Source:
    """Open a checkpoint and find its config.

    ``watch`` is one that was made of the path earlier; None makes one now.

    Raises:
        ConvkitError: the checkpoint or the config can't be read.
    """
    path = place(path) if isinstance(path, str) else path
    watch = watch or Watch(path)
    try:
        checkpoint = open_checkpoint(path, format)
    except ConvkitError:
        _check_same(path, watch)
        raise
    config_path = place(config) if isinstance(config, str) else config
    if config_path is None and checkpoint.config is None:
        config_path = find_config(path) or _named_by_a_layout(path)
    source = Source(
        path=path,
        checkpoint=checkpoint,
        config=read_config(config_path) if config_path is not None else checkpoint.config,
        config_path=config_path,
        companions=dict(_companions(path, checkpoint)),
        watch=watch,
    )
    watch.reads(_files(source))
    return source


def _check_same(path: Path, watch: Watch) -> None:
    """Check that nothing in a store was replaced, which an error while reading it may come from.

    Raises:
        ConvkitError: something was; it is named.
    """
    if isinstance(path, Ranged):
        watch.reads([path])
        watch.check()


def _files(source: Source) -> Iterator[Path]:
    """Every file that a conversion of the source reads."""
    path = source.path
    yield from source.checkpoint.files()
    yield from source.companions.values()
    yield from path.glob("*.index.json") if path.is_dir() else [path]
    yield from [source.config_path] if source.config_path else []
    yield from (file for file in (*receipts_beside(path), complement_path(path)) if file.is_file())


def _is_about_it(entry: Path) -> bool:
    """Whether a file only describes a checkpoint, as an index of shards and a model card do, or is hidden."""
    return entry.name.startswith(".") or entry.name.endswith((".index.json", ".md"))


def _named_by_a_layout(path: Path) -> Path | None:
    """Find a folder's config under a name that only one layout uses."""
    names = dict.fromkeys(layout.config_file for layout in layouts().values() if layout.config_file)
    return next((path / name for name in names if path.is_dir() and (path / name).is_file()), None)


def _companions(path: Path, checkpoint: Checkpoint) -> Iterator[tuple[str, Path]]:
    """Yield the files beside a checkpoint that a layout names as companions, by their names."""
    known = [layout for layout in layouts().values() if layout.companions]
    if path.is_dir():
        folder = beside if (beside := companions_path(path)).is_dir() else path
    else:
        at_home = any((path.parent / layout.config_file).is_file() for layout in known)
        folder = path.parent if at_home else companions_path(path)
    if folder == companions_path(path) and not folder.is_dir():
        return
    for name in companion_names():
        if (folder / name).is_file():
            yield name, folder / name
    for component in _components(folder, checkpoint):
        for name in companion_names():
            if (file := folder / component / name).is_file() and name != _PREPROCESSOR:
                yield f"{component}/{name}", file


def _components(folder: Path, checkpoint: Checkpoint) -> list[str]:
    """The folders with companions of components: of a checkpoint in folders, or of one that was made of such a one."""
    if get_format(checkpoint.format).components:
        return list(dict.fromkeys(key.partition(".")[0] for key in checkpoint.leaves))
    if folder != companions_path(checkpoint.path) or not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())


def companion_names() -> list[str]:
    """The names of all files that a layout names as companions."""
    return list(dict.fromkeys(name for layout in layouts().values() for name in layout.companions))
