"""Judge a check's findings: the only place that decides whether a check passed.

A check passes only if it found no problem, caught every planted fault and left nothing unshown. A check that found no
problem but missed a planted fault has shown nothing about that kind of fault: its state is ``not shown``, which
doesn't pass. So is that of a check that couldn't compare all that it should.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from msgspec import UNSET, structs

from convkit.verify.documents import Deviation
from convkit.verify.verdict import Deviated, Fault, State, Verdict

#: the remedy where only the check itself can be at fault
REPORT_IT = "the check is at fault, not the checkpoint: report it"


class Check:
    """A check in progress, which records when it began and ends in a verdict.

    Args:
        name: of the check, as verdicts give it.
        source: what was converted, repaired or migrated.
        target: the result.
        remedy: what to do about a planted fault that was missed.
    """

    def __init__(self, name: str, source: Path | str, target: Path | str, *, remedy: str = REPORT_IT) -> None:
        self._started = time.monotonic()
        self._name, self._source, self._target = name, str(source), str(target)
        self._remedy = remedy

    def judged(
        self,
        problems: Iterable[str],
        faults: Iterable[Fault] = (),
        *,
        measured: dict[str, Any] | None = None,
        bound: dict[str, Any] | None = None,
        details: dict[str, Any] | None = None,
        deviations: Iterable[Deviated] = (),
        unshown: Iterable[str] = (),
    ) -> Verdict:
        """Make the verdict on these findings; each planted fault that was missed adds a problem.

        ``unshown`` says why something couldn't be compared that had to be: the state is at best ``not shown``.
        """
        problems, faults, unshown = tuple(problems), tuple(faults), tuple(unshown)
        return Verdict(
            check=self._name,
            state=_state(problems, faults, unshown),
            source=self._source,
            target=self._target,
            measured=measured or {},
            bound=bound or {},
            faults=faults,
            deviations=tuple(deviations) or UNSET,
            details=details or {},
            problems=(*problems, *unshown, *self._missed(faults, bound or {})),
            seconds=round(time.monotonic() - self._started, 3),
        )

    def _missed(self, faults: tuple[Fault, ...], bound: dict[str, Any]) -> Iterator[str]:
        for fault in faults:
            if not fault.caught:
                named = ": ".join(filter(None, (fault.name, ", ".join(_figures(fault.measured, bound)))))
                yield f"planted fault missed: {named} ({self._remedy})"


def named(deviations: Iterable[Deviation]) -> list[Deviated]:
    """The deviations of a plan, for the verdict of a check that runs no model."""
    return [Deviated(**structs.asdict(one)) for one in deviations]


def _figures(measured: dict[str, Any], bound: dict[str, Any]) -> Iterator[str]:
    """``max_rel 1.02e-07 <= 5e-06``, for each figure."""
    for name, value in measured.items():
        limit = f" <= {_number(bound[name])}" if name in bound else ""
        yield f"{name} {_number(value)}{limit}"


def _state(problems: tuple[str, ...], faults: tuple[Fault, ...], unshown: tuple[str, ...]) -> State:
    if problems:
        return "no"
    return "yes" if not unshown and all(fault.caught for fault in faults) else "not shown"


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
