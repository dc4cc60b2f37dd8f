"""The outcome of one check: what was measured, against which bound, and how sensitive the check is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA = "convkit.verdict/2"

#: ``yes``: nothing is wrong, and every planted fault was caught. ``no``: something is wrong. ``not shown``:
#: nothing was found wrong, but a planted fault was missed, so a real one may have been missed too.
State = Literal["yes", "no", "not shown"]


@dataclass(frozen=True)
class Fault:
    """A fault planted on purpose, and whether the check saw it."""

    name: str
    caught: bool
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """One check of one conversion; ``to_json`` is what ``--json`` prints and the report reads.

    Made by :class:`convkit.verify.judged.Check`, which decides the state. ``measured`` and ``bound`` share
    their names where a bound applies. ``faults`` are the planted faults that the same check was run against.
    ``problems`` says why the state isn't ``yes``, a line each; it is empty where it is.
    """

    check: str
    state: State
    source: str
    target: str
    measured: dict[str, Any] = field(default_factory=dict)
    bound: dict[str, Any] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the state is ``yes``."""
        return self.state == "yes"

    @property
    def sensitivity(self) -> str:
        """``caught 12 of 12``; empty where no fault was planted."""
        if not self.faults:
            return ""
        return f"caught {sum(fault.caught for fault in self.faults)} of {len(self.faults)}"

    def to_json(self) -> dict[str, Any]:
        """The document of schema ``convkit.verdict/2``."""
        return {
            "schema": SCHEMA,
            "check": self.check,
            "state": self.state,
            "passed": self.passed,
            "source": self.source,
            "target": self.target,
            "measured": self.measured,
            "bound": self.bound,
            "sensitivity": self.sensitivity,
            "faults": [
                {"name": fault.name, "caught": fault.caught, "measured": fault.measured} for fault in self.faults
            ],
            "details": self.details,
            "problems": list(self.problems),
            "seconds": round(self.seconds, 3),
        }
