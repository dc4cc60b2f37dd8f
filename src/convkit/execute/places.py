"""The final names of an output, and what is under them: what may be replaced, and what is stale."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct

from convkit.errors import UsageError
from convkit.files.neighbours import companions_path, fetch_record_path, foreign_files, left_beside, said_of
from convkit.files.receipt import CONVERSION, complement_path, read_receipt, receipt_path, receipts_beside
from convkit.files.shared import refuse_in_parts
from convkit.files.stores import in_store
from convkit.files.taken import refuse_foreign, refuse_taken
from convkit.files.unchanged import Watch


class Work(Struct, frozen=True):
    """A task: its source, its target, and what it may replace.

    Attributes:
        kind: the word for it in the receipt.
        source: the file or folder that is read; it is only read, except ``in_place``.
        target: the file or folder to make.
        overwrite: replace what is under the names of the output, once the new one is complete.
        in_place: whether the target is the source.
        below_source: whether the target may lie in the source's folder.
        into_empty: accept an empty folder as the target, without ``overwrite``.
        only_own: replace nothing that convkit didn't write; else a file, or an empty folder, may be anybody's.
        reads: files that the work reads, which are never replaced.
        watch: the files that are read: nothing is published if one of them has changed.
        in_parts: whether the target is made in parts, here and elsewhere.
    """

    kind: str
    source: Path
    target: Path
    overwrite: bool = False
    in_place: bool = False
    below_source: bool = True
    into_empty: bool = False
    only_own: bool = False
    reads: Sequence[Path] = ()
    watch: Watch | None = None
    in_parts: bool = False


class Places:
    """The final names of a work's output: the target, what always may come beside it, and what was claimed.

    Attributes:
        claimed: by name beside the target, the names of files that a folder there may hold; None for a file.
        aside: names that aren't of the output itself, and replace nothing, with the remedy if something is there.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.target = work.target.absolute()
        self.claimed: dict[str, Collection[str] | None] = {}
        self.aside: dict[str, str] = {}

    def refuse(self) -> None:
        """Check all names.

        Raises:
            UsageError: something is there that may not be replaced.
        """
        self._refuse_target()
        if not self.work.in_parts:
            refuse_in_parts(self.target)
        companions = companions_path(self.target)
        void = [] if self.target.exists() else said_of(self.target)  # of a target that isn't there: nobody misses it
        for path in (*self._always(), *self.stale()):
            if path not in void:
                self._refuse_neighbour(path, _companions_in(path) if path == companions else None)
        for name, files in self.claimed.items():
            self._refuse_neighbour(self.target.with_name(name), files)

    def claim(self, name: str, files: Collection[str] | None, aside: str | None) -> None:
        """Add a name beside the target, and check it.

        Raises:
            UsageError: something is there that may not be replaced.
        """
        self.claimed[name] = files
        if aside is not None:
            self.aside[name] = aside
        self._refuse_neighbour(self.target.with_name(name), files)

    def stale(self) -> list[Path]:
        """What earlier work left beside the target."""
        if self.work.in_place:
            return [*receipts_beside(self.target), *said_of(self.target)]
        return left_beside(self.target, self.work.source.absolute())

    def _overwrites(self) -> bool:
        return self.work.overwrite or self._is_unfinished()

    def _is_unfinished(self) -> bool:
        """Whether what is there is what a run that was killed had sent to a store: it saw that it might replace all."""
        return in_store(self.target) and self.target.unfinished.is_file()

    def _always(self) -> list[Path]:
        if self.work.in_place:
            return [receipt_path(self.target)]
        return [receipt_path(self.target), complement_path(self.target), fetch_record_path(self.target)]

    def _refuse_target(self) -> None:
        work, target = self.work, self.target
        real, source = target.resolve(), work.source.resolve()
        if not work.below_source and _is_above(source, real):
            raise UsageError("lies inside the source", path=target, remedy="name a target elsewhere")
        if work.in_place:
            if read_receipt(target, CONVERSION) is not None:
                raise UsageError(
                    "is a conversion with a receipt, which would be false", path=target, remedy="name another"
                )
        elif work.overwrite and (real == source or _is_above(real, source) or str(real) == str(source)):
            raise UsageError("is the source, or holds it", path=target, remedy="name another target")
        own = bool(receipts_beside(target))
        if work.overwrite and work.only_own and target.is_file() and not own:
            raise UsageError(
                "is a file that convkit didn't write", path=target, remedy="remove it yourself, or name another target"
            )
        empty = not work.only_own and target.is_dir() and not any(target.iterdir())
        may_go = self._overwrites() or work.in_place or (work.into_empty and empty)
        refuse_taken(target, overwrite=may_go, folder=own or empty or self._is_unfinished())
        refuse_foreign(target, foreign_files(target))

    def _refuse_neighbour(self, path: Path, files: Collection[str] | None) -> None:
        if path.exists() and any(path.samefile(read) for read in self.work.reads):
            raise UsageError("belongs to the source", path=path, remedy="name another target")
        if path.name in self.aside:
            refuse_taken(path, overwrite=False, remedy=self.aside[path.name])
        refuse_taken(path, overwrite=self._overwrites() or self.work.in_place, folder=files is not None)
        if files is not None and path.is_dir():
            known = {*files, *(above.as_posix() + "/" for name in files for above in PurePosixPath(name).parents)}
            inside = [(one, one.relative_to(path).as_posix()) for one in sorted(path.rglob("*"))]
            own = [(one, f"{name}/" if one.is_dir() and not one.is_symlink() else name) for one, name in inside]
            refuse_foreign(path, [one for one, name in own if name not in known])


def _is_above(folder: Path, path: Path) -> bool:
    """Whether a path lies below a folder; each URI has its own store, even where both lead into the same bucket."""
    return str(folder) in [str(one) for one in path.parents if one.parts]


def _companions_in(folder: Path) -> list[str]:
    """The names that companions may have in a folder, also those of components in the folders there."""
    from convkit.plan.source import companion_names

    inside = [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
    names = companion_names()
    return [*names, *(f"{component}/{name}" for component in inside for name in names)]
