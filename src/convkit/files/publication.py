"""Give staged files their final names, all of them or none, whenever the process or the machine may stop.

A publication is a list of moves, the target's last. What lies under a final name is exchanged with what is staged,
where the system can, else moved away first; it is kept in the staging folder until all new names are on the disk. A
record of the moves is on the disk before the first of them. :func:`publish` takes everything back if a move fails.
After a kill, :func:`recover` finds the record: if the target has its new name, the publication is finished, else it
is taken back. Each move shows by what lies where whether it was made, so nothing is written in between.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from convkit.errors import ConvkitError
from convkit.files.exchange import exchange
from convkit.files.sync import sync, sync_tree

#: the record's name in the staging folder
RECORD = "publication.json"
#: the folder in the staging folder where what gives way is kept
_KEPT = "replaced"
#: what earlier releases called a file or folder that had to give way, followed by its name
_EARLIER = "old-"


class _Move(Struct, frozen=True):
    """One final name: what is there gives way to what is ``staged``, or to nothing.

    Attributes:
        kept: where what gives way is kept.
        old: its inode; None if nothing is there.
        new: the inode of what is staged.
    """

    final: Path
    staged: Path | None
    kept: Path
    old: int | None
    new: int | None

    def make(self) -> None:
        if self.old is None and os.path.lexists(self.final):
            raise FileExistsError(f"{self.final.name} has come up meanwhile")
        if self.staged is None:
            self.final.rename(self.kept)
        elif self.old is not None and exchange(self.staged, self.final):
            self.staged.rename(self.kept)
        else:
            if self.old is not None:
                self.final.rename(self.kept)
            self.staged.rename(self.final)

    def take_back(self) -> None:
        """Restore what was there, however far the move came."""
        if self.staged is not None:
            if self.exchanged():
                self.staged.rename(self.kept)
            if not os.path.lexists(self.staged) and os.path.lexists(self.final):
                self.final.rename(self.staged)
        if os.path.lexists(self.kept):
            if os.path.lexists(self.final):
                raise self.disturbed("something else has come up there")
            self.kept.rename(self.final)

    def made(self) -> bool:
        """Whether the final name stands for what was staged."""
        assert self.staged
        return not os.path.lexists(self.staged) or self.exchanged()

    def exchanged(self) -> bool:
        """Whether what gave way lies where the new one was staged."""
        if self.staged is None or self.old in (None, self.new) or not os.path.lexists(self.staged):
            return False
        found = _inode(self.staged)
        if found not in (self.old, self.new) and not os.path.lexists(self.kept):
            raise self.disturbed("it can't be seen whether it was replaced")
        return found == self.old

    def disturbed(self, why: str) -> ConvkitError:
        folder = self.kept.parent.parent
        return ConvkitError(
            f"was being replaced when a run was killed, and {why}",
            path=self.final,
            remedy=f"the rest is in {folder}: move it to its place, and remove {folder}",
        )


def publish(folder: Path, staged: Mapping[Path, Path], stale: Iterable[Path] = ()) -> None:
    """Give what is staged in ``folder`` its final names beside that folder, then clear the folder.

    Args:
        folder: the staging folder; everything in it is removed except its lock.
        staged: final name -> what gets it, the target last.
        stale: names whose files and folders are removed.

    Raises:
        OSError: a move failed; everything is as before.
    """
    names: dict[Path, Path | None] = {**dict.fromkeys(stale), **staged}
    kept = folder / _KEPT
    kept.mkdir(exist_ok=True)
    moves = [
        _Move(final, path, kept / final.name, _inode(final), _inode(path) if path else None)
        for final, path in names.items()
        if path or os.path.lexists(final)
    ]
    record = _write_record(folder, moves)
    sync_tree(*staged.values(), record)
    try:
        record.replace(folder / RECORD)
        sync(folder)
        for move in moves:
            move.make()
        sync(folder.parent)
    except BaseException:
        _take_back(folder, moves)
        raise
    with contextlib.suppress(OSError):  # all is in its place: the next run, or this one's end, removes the rest
        _finish(folder)


def interrupted(folder: Path) -> bool:
    """Whether a publication from this staging folder was begun and not ended."""
    return (folder / RECORD).exists()


def recover(folder: Path) -> None:
    """Finish a publication that a kill interrupted, or take it back; afterwards one set of files is whole.

    Raises:
        ConvkitError: somebody has changed the files since.
        OSError: a move failed; the record stays, for the next attempt.
    """
    if interrupted(folder):
        moves = _read_record(folder)
        if moves[-1].made():
            sync(folder.parent)
            _finish(folder)
        else:
            _take_back(folder, moves)
    for path in folder.glob(f"{_EARLIER}*"):
        final = folder.with_name(path.name.removeprefix(_EARLIER))
        if not os.path.lexists(final):
            path.rename(final)


def clear(folder: Path, keep: Collection[str]) -> None:
    """Remove everything in a folder except these names.

    Raises:
        OSError: something can't be removed.
    """
    for path in folder.iterdir():
        if path.name not in keep:
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _take_back(folder: Path, moves: list[_Move]) -> None:
    for move in reversed(moves):
        move.take_back()
    sync(folder.parent)
    (folder / RECORD).unlink(missing_ok=True)


def _finish(folder: Path) -> None:
    clear(folder, keep=("lock", RECORD))
    (folder / RECORD).unlink()


def _write_record(folder: Path, moves: list[_Move]) -> Path:
    entries = [
        {
            "final": move.final.name,
            "staged": move.staged and move.staged.relative_to(folder).as_posix(),
            "old": move.old,
            "new": move.new,
        }
        for move in moves
    ]
    part = folder / f"{RECORD}.part"
    part.write_text(json.dumps(entries), encoding="utf-8")
    return part


def _read_record(folder: Path) -> list[_Move]:
    path = folder / RECORD
    try:
        return [
            _Move(
                folder.with_name(entry["final"]),
                entry["staged"] and folder / entry["staged"],
                folder / _KEPT / entry["final"],
                entry["old"],
                entry["new"],
            )
            for entry in json.loads(path.read_bytes())
        ]
    except (ValueError, KeyError, TypeError):
        raise ConvkitError(
            "isn't the record of a publication",
            path=path,
            remedy=f"move what you need out of {folder}, and remove it",
        ) from None


def _inode(path: Path) -> int | None:
    return path.lstat().st_ino if os.path.lexists(path) else None
