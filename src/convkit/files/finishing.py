"""Take over what the parts of an output have made, to check and publish it: a staging that the parts have filled.

The folder of the parts (:mod:`convkit.files.shared`) becomes a folder of the target's staging by one rename, under the
staging's lock. What the parts' journals say of the ranges of each leaf is joined into the entries of finished leaves,
as a run that was killed leaves them; so the rest is done as by a run that resumes. Nothing of the parts is removed
before the output has its final name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from convkit.checkpoint.digests import combine
from convkit.errors import ConvkitError, UsageError
from convkit.files.part import Part
from convkit.files.publication import clear
from convkit.files.shared import TAKEN, Done, Shared, done_of
from convkit.files.staging import LOCK, Staging, StaleError
from convkit.files.sync import sync

#: what the keys in the journals of parts begin with: leaves of either side, and source leaves that were digested whole
TARGET, SOURCE, WHOLE = "target:", "source:", "whole:"


class Joined(Struct):
    """What all parts have made.

    Attributes:
        leaves: the entry in a journal of each leaf of the target.
        sources: the digest of each leaf of the source that isn't a leaf of the target as it is.
        several: leaves that several parts have made.
        ended: what each part said at its end, in their order.
        resumed: whether a part was run more than once.
        identity: what all parts have in common.
    """

    leaves: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    several: set[str] = field(default_factory=set)
    ended: list[dict[str, Any]] = field(default_factory=list)
    resumed: bool = False
    identity: str = ""

    @classmethod
    def of(cls, parts: Iterable[Done], algorithm: str) -> Joined:
        """Join what the journals of parts say, all of which have ended.

        Raises:
            ConvkitError: they don't make up whole leaves.
        """
        joined = cls()
        ranges: list[tuple[str, int, int, dict[str, Any]]] = []
        for number, part in enumerate(parts):
            joined.resumed |= part.runs > 1
            joined.ended.append(part.ended or {})
            ranges += [(key, start, number, entry) for (key, start), entry in part.entries.items()]
        # those first that were digested whole: other parts may have digested only ranges of them
        ranges.sort(key=lambda found: (not found[0].startswith(WHOLE), *found[:3]))
        for key, found in groupby(ranges, key=lambda each: each[0]):
            joined._add(key, list(found), algorithm)
        return joined

    def _add(self, key: str, found: list[tuple[str, int, int, dict[str, Any]]], algorithm: str) -> None:
        if key.startswith(WHOLE):
            self.sources[key.removeprefix(WHOLE)] = found[0][3]["digest"]
            return
        if key.startswith(SOURCE) and key.removeprefix(SOURCE) in self.sources:
            return
        stop = 0
        for _, start, _, entry in found:
            if start != stop:
                raise ConvkitError("its parts don't fit together", key=key, remedy="start over: --part 0/N")
            stop = entry["stop"]
        digest = combine(algorithm, (bytes.fromhex(entry["blocks"]) for *_, entry in found))
        if key.startswith(SOURCE):
            self.sources[key.removeprefix(SOURCE)] = digest
            return
        lost = [entry["overflow"] for *_, entry in found if "overflow" in entry]
        overflow = {"overflow": [sum(count for count, _ in lost), max(value for _, value in lost)]} if lost else {}
        self.leaves[key] = {"key": key, "digest": digest, **overflow}
        if len({number for _, _, number, _ in found}) > 1:
            self.several.add(key.removeprefix(TARGET))


class Finishing(Staging):
    """The staging of an output that parts have made.

    Args:
        target: see :class:`Staging`, as ``refuse`` and ``identity``.
        shared: the folder of the parts.
        algorithm: of digests.

    Raises:
        UsageError: a part isn't finished, or isn't of this output.
    """

    def __init__(
        self,
        target: Path,
        refuse: Callable[[], None],
        identity: Mapping[str, Any] | None = None,
        *,
        shared: Shared,
        algorithm: str,
    ) -> None:
        super().__init__(target, refuse, identity)
        self.joined = Joined()
        self._shared, self._algorithm = shared, algorithm
        self._taken = self.folder / TAKEN
        self._mended = False

    def prepare(self) -> None:
        """Take the folder of the parts away, unless an earlier run has, and join what they made."""
        if not self._taken.exists():
            self._shared.check(self._shared.folder)
            self._done(self._shared.folder)
            clear(self.folder, keep=[LOCK])
            self._shared.folder.rename(self._taken)
            sync(self.folder.parent)
        self._shared.check(self._taken)
        self.joined = Joined.of(self._done(self._taken), self._algorithm)
        self.joined.identity = self._shared.agreed.digest
        if (self._taken / "out").exists():
            (self._taken / "out").rename(self.out)
        super().prepare()
        self.resumed = True
        self.finished = self.joined.leaves | self.finished

    def keeps(self, error: type[BaseException] | None) -> bool:
        """What parts have made stays until it has been published."""
        return self._taken.exists()

    def restart(self, stale: StaleError) -> None:
        """Have leaves made anew that aren't as the parts had written them; after a second time, all of them."""
        if stale.entries and not self._mended:
            self._mended = True
            self.finished = {key: entry for key, entry in self.finished.items() if key not in stale.entries}
            for key in stale.entries:
                self.warnings.append(f"{key.partition(':')[2]}: had changed since a part wrote it: made anew")
            return
        self.out.rename(self.folder / "stale")
        super().restart(stale)

    def _start_afresh(self) -> None:
        clear(self.folder, keep=[LOCK, TAKEN, self.out.name])
        self.out.mkdir(exist_ok=True)
        self._write_journal([self._head()])

    def _done(self, folder: Path) -> list[Done]:
        """What each part has made.

        Raises:
            UsageError: one isn't finished.
        """
        count = self._shared.agreed.parts
        parts = {number: done_of(folder, Part(number, count)) for number in range(1, count + 1)}
        missing = [number for number, done in parts.items() if not done.runs]
        begun = [number for number, done in parts.items() if done.runs and done.ended is None]
        if missing or begun:
            said = [_said(missing, "missing")] * bool(missing) + [_said(begun, "not finished")] * bool(begun)
            first = (missing or begun)[0]
            raise UsageError(
                f"{' and '.join(said)}, of {count} parts",
                path=self.target,
                remedy=f"make what is missing: --part {first}/{count}, then say --finish again",
            )
        return list(parts.values())


def _said(numbers: list[int], what: str) -> str:
    """Some parts, and what they are.

    >>> _said([3], "missing"), _said([2, 5], "missing")
    ('part 3 is missing', 'parts 2, 5 are missing')
    """
    listed = ", ".join(map(str, numbers))
    return f"part {listed} is {what}" if len(numbers) == 1 else f"parts {listed} are {what}"
