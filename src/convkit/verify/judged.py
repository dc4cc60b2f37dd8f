"""Judge a check's findings: the only place that decides whether a check passed.

A check passes only if it found no problem and caught every planted fault. A check that found no problem but
missed a planted fault has shown nothing about that kind of fault: its state is ``not shown``, which
doesn't pass.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from convkit.verify.verdict import Fault, State, Verdict

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
    ) -> Verdict:
        """Make the verdict on these findings; each planted fault that was missed adds a problem."""
        problems, faults = tuple(problems), tuple(faults)
        return Verdict(
            check=self._name,
            state=_state(problems, faults),
            source=self._source,
            target=self._target,
            measured=measured or {},
            bound=bound or {},
            faults=faults,
            details=details or {},
            problems=(*problems, *self._missed(faults, bound or {})),
            seconds=round(time.monotonic() - self._started, 3),
        )

    def _missed(self, faults: tuple[Fault, ...], bound: dict[str, Any]) -> Iterator[str]:
        for fault in faults:
            if not fault.caught:
                named = ": ".join(filter(None, (fault.name, ", ".join(_figures(fault.measured, bound)))))
                yield f"planted fault missed: {named} ({self._remedy})"


def _figures(measured: dict[str, Any], bound: dict[str, Any]) -> Iterator[str]:
    """``max_rel 1.02e-07 <= 5e-06``, for each figure."""
    for name, value in measured.items():
        limit = f" <= {_number(bound[name])}" if name in bound else ""
        yield f"{name} {_number(value)}{limit}"


def _state(problems: tuple[str, ...], faults: tuple[Fault, ...]) -> State:
    if problems:
        return "no"
    return "yes" if all(fault.caught for fault in faults) else "not shown"


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
