"""What has moved between a baseline and what a row gives now, each change of a kind of its own and with its cause."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from convkit.files.document import Document

#: the kinds of drift, told apart; the worst first
Kind = Literal[
    "verdict worse",
    "fault not caught",
    "bound moved",
    "figure moved",
    "leaf changed",
    "leaf gone",
    "leaf new",
    "file changed",
    "file gone",
    "file new",
    "config changed",
    "source changed",
    "plan changed",
    "plan changed, same bytes",
    "verdict better",
    "other digests",
    "row new",
    "row gone",
    "baseline refused",
]
#: what a row is to its baseline
Standing = Literal["same", "drifted", "new", "gone"]


class Drift(Struct, frozen=True, kw_only=True):
    """One change: what it is about, what it was and is, and why."""

    kind: Kind
    #: the check and its figure or fault, the leaf, the file, or the field of the config
    what: str
    before: str = ""
    now: str = ""
    why: str = ""
    #: of a leaf: the rule that makes it now
    rule: str | UnsetType = UNSET
    #: of a leaf whose old bytes were there: how many of its elements differ, and by how many ulp at the most
    differing: int | UnsetType = UNSET
    elements: int | UnsetType = UNSET
    max_ulp: int | UnsetType = UNSET

    def __str__(self) -> str:
        """One line: kind, what, from what to what, why."""
        moved = f"{self.before} -> {self.now}" if self.before or self.now else ""
        why = "; ".join(filter(None, (self.why, self.apart)))
        return ": ".join(filter(None, (self.kind, self.what, moved))) + (f" ({why})" if why else "")

    @property
    def apart(self) -> str:
        """How far a leaf is from what it was; empty where that isn't known."""
        if self.differing is UNSET:
            return ""
        return f"{self.differing} of {self.elements} elements differ, by at most {self.max_ulp} ulp"


class RowDrift(Struct, frozen=True, kw_only=True):
    """A row against its baseline."""

    id: str
    standing: Standing
    drifts: tuple[Drift, ...] = ()
    #: by name, the versions that changed: what they were, and what they are; empty where there is none
    versions: dict[str, tuple[str, str]] = {}


class Comparison(Document, frozen=True, kw_only=True):
    """A campaign against its baselines."""

    schema: Literal["convkit.drift/1"] = "convkit.drift/1"
    #: what was compared, and with what
    results: str
    baselines: str
    passed: bool
    #: how far figures may move: the part of their bound
    tolerance: float
    rows: tuple[RowDrift, ...]


class Matrix(Document, frozen=True, kw_only=True):
    """The same table under other versions, each column against the campaign itself."""

    schema: Literal["convkit.matrix/1"] = "convkit.matrix/1"
    results: str
    passed: bool
    columns: dict[str, Comparison]


def changed_versions(before: dict[str, str], now: dict[str, str]) -> dict[str, tuple[str, str]]:
    """The versions that differ; what took part on one side only has no other version."""
    names = [name for name in sorted(before) if name in now]
    return {name: (before[name], now[name]) for name in names if before[name] != now[name]}
