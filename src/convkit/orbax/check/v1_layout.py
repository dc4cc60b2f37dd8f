"""Predict whether v1 recognises a checkpoint, in which of its two layouts, and which item it chooses.

Sources: as of :mod:`~convkit.orbax.check.v1`, ``layout/*.py`` and ``deletion/metadata.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from convkit.errors import ConvkitError
from convkit.orbax.check import folder
from convkit.orbax.check.calls import AUTO
from convkit.orbax.check.outcome import OrbaxError
from convkit.state.json_object import read_object
from convkit.state.orbax import step

STATE = "state"
#: names that no item may have
RESERVED = ("metrics", AUTO, step.DELETION)
INVALID = "InvalidLayoutError"


def first_pytree(path: Path, deleting: str | None = None) -> str | None:
    """The item that ``v1.load`` chooses if none is named: ``state`` first, then in alphabetical order."""
    names = folder.subfolders(path) if path.is_dir() else []
    for name in sorted(names, key=lambda name: (name != STATE, name)):
        if name != deleting and name not in RESERVED and folder.has_tree(path / name):
            return name
    return None


@dataclass(frozen=True)
class Layout:
    """A path as v1 recognises it: in the newer layout if the indicator file is there, else in the older."""

    path: Path

    def is_checkpoint(self) -> bool:
        """Whether either layout fits; the older one fits almost any folder."""
        for check in (self._check_v1, self._check_v0):
            try:
                check()
            except OrbaxError:
                continue
            return True
        return False

    @cached_property
    def deleting(self) -> str | None:
        """The item that an unfinished deletion hides.

        Raises:
            OrbaxError: the record of the deletion contradicts the checkpoint.
        """
        if not (self.path / step.DELETION).exists():
            return None
        try:
            record = read_object(self.path / step.DELETION)
            now = read_object(self.path / step.FILE)
        except ConvkitError as error:
            raise OrbaxError("DeletionRecoveryError", error.problem) from None
        name, before, after = (record.get(k) for k in ("checkpointable_name", "original_metadata", "updated_metadata"))
        if not isinstance(name, str) or now not in (before, after):
            raise OrbaxError("DeletionRecoveryError", f"{step.DELETION} contradicts {step.FILE}")
        return name

    def check_record(self) -> None:
        """Check that the record of a deletion, if there is one, agrees with the checkpoint.

        Raises:
            OrbaxError: it contradicts the checkpoint.
        """
        _ = self.deleting

    def refuse_deleted(self) -> None:
        """Refuse the item that is being deleted.

        Raises:
            OrbaxError: always.
        """
        raise OrbaxError("DeletionInProgressError", f"item {self.deleting} is being deleted")

    @property
    def _is_v1(self) -> bool:
        return (self.path / step.INDICATOR).exists()

    def check(self) -> None:
        """Check that there is a checkpoint in the layout that the indicator file names.

        Raises:
            OrbaxError: there isn't one.
        """
        self.check_record()
        try:
            self._check_v1() if self._is_v1 else self._check_v0()
        except OrbaxError as error:
            raise OrbaxError(INVALID, "no checkpoint is recognised") from error

    def _check_v1(self) -> None:
        with _as_layout("V1 checkpoint"):
            self._check_whole()
            for name in (step.FILE, step.INDICATOR):
                if not (self.path / name).exists():
                    raise OrbaxError("FileNotFoundError", f"{name} isn't there")

    def _check_v0(self) -> None:
        with _as_layout("V0 checkpoint"):
            self._check_whole()
            if folder.has_handlers(self.path.parent):
                raise OrbaxError(INVALID, f"it lies in a checkpoint: load {self.path.parent.name}")
            if not folder.has_handlers(self.path) and not folder.has_tree(self.path):
                below = [name for name in folder.subfolders(self.path) if folder.has_handlers(self.path / name)]
                if below:
                    raise OrbaxError(INVALID, f"it is a root: load one of {', '.join(sorted(below))}")

    def _check_whole(self) -> None:
        if not self.path.exists():
            raise OrbaxError("FileNotFoundError", "nothing lies there")
        if not self.path.is_dir():
            raise OrbaxError("NotADirectoryError", "it is a file")
        if folder.is_unfinished(self.path):
            raise OrbaxError("ValueError", "it is an unfinished save")

    def resolve(self, name: str | None) -> str | None:
        """The item to load: the named one, or for :data:`AUTO` the first pytree; None for the checkpoint itself.

        Raises:
            OrbaxError: there is none.
        """
        self.check()
        if name != AUTO:
            if name is not None and name == self.deleting:
                self.refuse_deleted()
            self._check_item(name)
            return name
        if (found := first_pytree(self.path, self.deleting)) is not None:
            return found
        if not self._is_v1 and folder.has_tree(self.path):
            return None
        raise OrbaxError(INVALID, "no item is a pytree with its metadata")

    def _check_item(self, name: str | None) -> None:
        with _as_layout(f"{'V1' if self._is_v1 else 'V0'} pytree"):
            if name is None and self._is_v1:
                raise OrbaxError("ValueError", "a v1 checkpoint has items: name one")
            if not folder.has_tree(self.path / name if name else self.path):
                there = [n for n in folder.subfolders(self.path) if folder.has_tree(self.path / n)]
                if not self._is_v1 and folder.has_tree(self.path):
                    hint = "the folder itself is one: checkpointable_name=None"
                else:
                    hint = f"pytrees are {', '.join(sorted(there))}" if there else "there is none"
                raise OrbaxError("FileNotFoundError", f"no pytree's metadata lies there; {hint}")

    def is_direct(self) -> bool:
        """Whether it is a pytree itself and has no items."""
        return isinstance(folder.handlers(self.path), str) or folder.has_tree(self.path)

    def check_not_direct(self) -> None:
        """Check that it has items.

        Raises:
            OrbaxError: it is a pytree itself.
        """
        if not self._is_v1 and self.is_direct():
            raise OrbaxError(INVALID, "it has no items: v1.load is the call for it")


@contextmanager
def _as_layout(what: str) -> Iterator[None]:
    """Wrap an error as the layouts do."""
    try:
        yield
    except OrbaxError as error:
        raise OrbaxError(INVALID, f"not a {what}") from error
