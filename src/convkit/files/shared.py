"""A staging folder that processes on several machines fill, each with a part of one output.

While parts of ``DST`` are made, ``.DST.convkit-parts`` lies beside it, on the file system that the machines share. It
has ``parts.json``, which says what all parts have in common, ``out/`` with the output, which is laid out whole, and a
journal for each run of a part, ``part-3-of-8.<token>.jsonl``.

Nothing relies on locks, which not every shared file system has. The folder appears under its name by one rename, with
all that is in it: so exactly one process lays out the output, and others that try meanwhile let go of theirs. Each run
of a part writes a journal of its own: so two runs of the same part, one of which somebody believes dead, don't mix
lines, and both write the same bytes into the same places. Whoever finishes the parts takes the folder away by one
rename: so no part begins, or opens another file in it, once its bytes are being checked.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, Self

from msgspec import Struct, field

from convkit.checkpoint.digests import digest_value
from convkit.errors import UsageError
from convkit.files.document import Document, as_json, read_json, typed
from convkit.files.part import Part
from convkit.files.staging import PART, complete_lines
from convkit.files.sync import sync, sync_tree

_AGREED = "parts.json"
#: what a finished set is called in the staging folder of the target
TAKEN = "parts"
#: what another value in the identity means, by its name; anything else is an option
_MEANS = {
    "plan": "by another plan",
    "source": "of another source, or it has changed since",
    "values": "of another source",
    "companions": "with other files beside the source",
}


class Agreed(Document, frozen=True, kw_only=True):
    """What all parts of an output have in common, down to the code that makes them."""

    schema: Literal["convkit.parts/1"] = "convkit.parts/1"
    convkit: str
    commit: str
    versions: dict[str, str]
    parts: int
    identity: dict[str, Any]

    @property
    def digest(self) -> str:
        """The identity of the set of parts."""
        return digest_value("sha256", self.to_json())

    def against(self, other: Agreed) -> str | None:
        """How another set was begun, if it isn't the same; a phrase that follows 'was begun'."""
        if (other.convkit, other.commit) != (self.convkit, self.commit):
            return f"by convkit {other.convkit} of commit {other.commit}, and this is {self.convkit} of {self.commit}"
        if other.versions != self.versions:
            different = sorted(dict(other.versions.items() ^ self.versions.items()))
            return f"with another version of {', '.join(different)}"
        if other.parts != self.parts:
            return f"in {other.parts} parts"
        names = [*_MEANS, *(self.identity.keys() | other.identity.keys())]
        found = next((name for name in names if self.identity.get(name) != other.identity.get(name)), None)
        return None if found is None else _MEANS.get(found, "with other options")


def shared_folder(target: Path) -> Path:
    """Where the parts of ``target`` are made."""
    return target.with_name(f".{target.name}{PART}s")


def taken_folder(target: Path) -> Path:
    """Where the parts of ``target`` are while they are finished."""
    return target.with_name(f".{target.name}{PART}") / TAKEN


def count_of(target: Path) -> int | None:
    """The number of parts of ``target`` that were begun, or are being finished; None where there are none.

    Raises:
        ConvkitError: what says it is malformed.
    """
    for folder in (taken_folder(target), shared_folder(target)):
        if (folder / _AGREED).is_file():
            return _agreed_in(folder).parts
    return None


def refuse_in_parts(target: Path) -> None:
    """Check that no parts of ``target`` are being made.

    Raises:
        UsageError: some are.
    """
    for folder in (shared_folder(target), taken_folder(target)):
        if folder.exists():
            remedy = f"finish them: --finish, or remove {folder}, if they may go"
            raise UsageError("is being made in parts", path=target, remedy=remedy)


class Shared:
    """The folder of the parts of one output.

    Args:
        target: the final file or folder.
        agreed: what this process wants to make.
    """

    def __init__(self, target: Path, agreed: Agreed) -> None:
        self.target, self.agreed = target, agreed
        self.folder = shared_folder(target)
        self.main = self.folder / "out" / target.name

    @property
    def begun(self) -> bool:
        """Whether the folder is there, laid out."""
        return (self.folder / _AGREED).is_file()

    def begin(self, lay_out: Callable[[Path], None], *, over: bool = False) -> None:
        """Have the folder laid out, unless it is.

        Args:
            lay_out: lays out the output at a path that only this process has.
            over: remove a set of parts that has something else in common.

        Raises:
            UsageError: such a set is there, or one that is being finished.
            OSError: the system can't write it.
        """
        if taken_folder(self.target).exists():
            raise UsageError("its parts are being finished", path=self.target, remedy="wait for that: --finish")
        if over and self.begun and self.agreed.against(_agreed_in(self.folder)):
            gone = self.folder.with_name(f"{self.folder.name}.{_token()}")
            self.folder.rename(gone)
            shutil.rmtree(gone)
        if not self.begun:
            self._lay_out(lay_out)
        self.check(self.folder)

    def check(self, folder: Path) -> None:
        """Check that the parts in a folder are those of this output.

        Raises:
            UsageError: they have something else in common.
        """
        if why := self.agreed.against(_agreed_in(folder)):
            raise UsageError(
                f"its parts were begun {why}",
                path=self.target,
                remedy=f"finish those with what they were begun with, or start over: --part 0/{self.agreed.parts}",
            )

    def _lay_out(self, lay_out: Callable[[Path], None]) -> None:
        private = self.folder.with_name(f"{self.folder.name}.{_token()}")
        try:
            (private / "out").mkdir(parents=True)
            lay_out(private / "out" / self.target.name)
            (private / _AGREED).write_text(json.dumps(as_json(self.agreed.to_json())), encoding="utf-8")
            sync_tree(private)
            try:
                private.rename(self.folder)
            except OSError:
                if not self.begun:  # nobody else was first, nor did the answer to our own get lost on the network
                    raise
            sync(self.folder.parent)
        finally:
            shutil.rmtree(private, ignore_errors=True)


class Journal:
    """The journal of one run of a part. Any thread may write it. Use it as a context manager."""

    def __init__(self, folder: Path, part: Part) -> None:
        self._path = folder / f"{_stem(part)}.{_token()}.jsonl"
        self._file: IO[str]

    def __enter__(self) -> Self:
        self._file = self._path.open("x", encoding="utf-8")
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()

    def record(self, entry: dict[str, Any]) -> None:
        """Record that something is finished; the caller sees to it that no other thread does so meanwhile."""
        self._file.write(json.dumps(entry, separators=(",", ":")) + "\n")
        self._file.flush()

    def end(self, said: dict[str, Any]) -> None:
        """Record, on the disk, that the part is finished."""
        self.record({"ended": said})
        sync(self._file.fileno())

    def void(self) -> None:
        """Record that nothing of this run counts."""
        self.record({"void": True})


class Done(Struct, frozen=True):
    """What the journals of a part say: each entry once, and what was said at the end of the run that finished it.

    ``entries`` are by key and start. ``runs`` is the number of runs that count.
    """

    entries: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    ended: dict[str, Any] | None = None
    runs: int = 0


def done_of(folder: Path, part: Part) -> Done:
    """How far a part is, by the journals in a folder."""
    entries: dict[tuple[str, int], dict[str, Any]] = {}
    ended, runs = None, 0
    for run in _runs(folder, part):
        if run and "void" in run[-1]:
            continue
        runs += 1
        for entry in run:
            if "ended" in entry:
                ended = ended or entry["ended"]
            elif "key" in entry:
                entries[entry["key"], entry.get("start", 0)] = entry
    return Done(entries, ended, runs)


def _runs(folder: Path, part: Part) -> Iterator[list[dict[str, Any]]]:
    for path in sorted(folder.glob(f"{_stem(part)}.*.jsonl")):
        yield list(complete_lines(path))


def _agreed_in(folder: Path) -> Agreed:
    path = folder / _AGREED
    return typed(Agreed, read_json(path), path, remedy=f"remove {folder}, and start over")


def _stem(part: Part) -> str:
    return f"part-{part.number}-of-{part.count}"


def _token() -> str:
    """A name that no other process on any machine chooses."""
    return f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
