"""What checking evidence finds: each problem with the row, the file and the check that fails."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from convkit.files.document import Document

#: the kinds of problems, told apart
Kind = Literal[
    "wrong key",
    "changed payload",
    "changed signature",
    "too few signatures",
    "key not allowed",
    "malformed line",
    "missing line",
    "added line",
    "lines out of order",
    "another subject",
    "contradiction",
    "missing file",
    "changed file",
    "added file",
    "removed file",
    "renamed file",
    "removed row",
    "added row",
    "changed bundle",
    "unsigned row",
    "missing check",
    "failed check",
    "too few faults",
    "missed fault",
    "deviation",
    "another source",
    "another plan",
    "another result",
]


class Problem(Struct, frozen=True, kw_only=True):
    """Why the answer is no."""

    kind: Kind
    file: str
    #: the statement or the check that fails: ``signatures``, ``provenance``, ``files``, ``roundtrip``
    check: str
    problem: str
    #: the row of a campaign; empty where one target is checked
    row: str = ""

    def __str__(self) -> str:
        """One line: row, file, check, problem."""
        return ": ".join(filter(None, (self.row, self.file, self.check, f"{self.kind}: {self.problem}")))


class Signer(Struct, frozen=True, kw_only=True):
    """Who signed: what is known of the key, and what the signer claims."""

    keyid: str
    #: whether one of the given public keys made every signature that is there of it
    verified: bool
    #: the file of the public key; empty if none was given
    key: str = ""
    responsible: str | None = None
    #: a claim of the signer: no clock but the signer's vouches for it
    claimed_time: str | None = None


class Outcome(Document, frozen=True, kw_only=True):
    """What became of checking a target or a campaign."""

    schema: Literal["convkit.audit/1"] = "convkit.audit/1"
    target: str
    passed: bool
    policy: str
    rows: tuple[str, ...]
    files: int
    signers: tuple[Signer, ...]
    problems: tuple[Problem, ...]


def in_row(row: str, problems: Iterable[Problem]) -> list[Problem]:
    """The problems of a row of a campaign."""
    return [Problem(kind=one.kind, file=one.file, check=one.check, problem=one.problem, row=row) for one in problems]
