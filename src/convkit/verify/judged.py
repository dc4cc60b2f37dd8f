"""Judge a check's findings: the only place that decides whether a check passed.

A check passes only if it found no problem, caught every planted fault and left nothing unshown. A check that found no
problem but missed a planted fault has shown nothing about that kind of fault: its state is ``not shown``, which
doesn't pass. So is that of a check that couldn't compare all that it should. Where two references of one side
disagree, the state is ``reference in doubt``, unless something is wrong whichever of them is right.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from msgspec import UNSET, structs

from convkit.files.packages import packages
from convkit.files.receipt import receipt_path
from convkit.files.seal import seal_on
from convkit.plugins import Plugin
from convkit.verify.documents import Deviation
from convkit.verify.verdict import Deviated, Fault, Stage, State, Verdict

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
        self._receipt = seal_on(receipt_path(Path(target).absolute()))
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
        in_doubt: Iterable[str] = (),
        stages: Iterable[Stage] = (),
        covered: str = "",
        plugins: Iterable[Plugin | None] = (),
    ) -> Verdict:
        """Make the verdict on these findings; each planted fault that was missed adds a problem.

        Args:
            problems: what is wrong, a line each.
            faults: the planted faults.
            measured: the figures by name.
            bound: the largest value of a figure, by its name.
            details: anything else.
            deviations: those under which the models were compared.
            unshown: why something couldn't be compared that had to be: the state is at best ``not shown``.
            in_doubt: where two references of one side disagree: the state is at best ``reference in doubt``.
            stages: those of the models. What a stage has as ``problems`` or as ``unshown`` counts for the verdict,
                under the stage's name, and so does an error beyond its bound that the stage gives no other word for.
            covered: the part of the model that was asked for, ``layers.0:layers.7``, if it wasn't the whole: the
                state is at best ``not shown``.
            plugins: what other packages brought to the check.
        """
        stages, faults = tuple(stages), tuple(faults)
        problems = (*problems, *(line for stage in stages for line in _problems(stage)))
        unshown = (*unshown, *_partly(covered), *(f"{one.name}: {one.unshown}" for one in stages if one.unshown))
        in_doubt = tuple(in_doubt)
        return Verdict(
            check=self._name,
            state=_state(problems, in_doubt, faults, unshown),
            source=self._source,
            target=self._target,
            receipt=self._receipt or UNSET,
            measured=measured or {},
            bound=bound or {},
            faults=faults,
            deviations=tuple(deviations) or UNSET,
            stages=stages or UNSET,
            covered=covered or UNSET,
            packages=packages(plugins),
            details=details or {},
            problems=(*problems, *in_doubt, *unshown, *self._missed(faults, bound or {})),
            seconds=round(time.monotonic() - self._started, 3),
        )

    def _missed(self, faults: tuple[Fault, ...], bound: dict[str, Any]) -> Iterator[str]:
        for fault in faults:
            if not fault.caught:
                where = f"in {fault.stage}" if fault.stage else ""
                figures = ", ".join(_figures(fault.measured, bound))
                named = ": ".join(filter(None, (fault.name, where, figures)))
                yield f"planted fault missed: {named} ({self._remedy})"


def named(deviations: Iterable[Deviation]) -> list[Deviated]:
    """The deviations of a plan, for the verdict of a check that runs no model."""
    return [Deviated(**structs.asdict(one)) for one in deviations]


#: how a fault calls the bounds of its own figures
_OWN_BOUNDS = {"max_rel": "bound", "amplified_max_rel": "amplified_bound"}


def _figures(measured: dict[str, Any], bound: dict[str, Any]) -> Iterator[str]:
    """``max_rel 1.02e-07 <= 5e-06``, for each figure."""
    own = {name: measured[key] for name, key in _OWN_BOUNDS.items() if key in measured}
    for name, value in measured.items():
        if name not in _OWN_BOUNDS.values():
            limit = {**bound, **own}.get(name)
            yield f"{name} {_number(value)}" + ("" if limit is None else f" <= {_number(limit)}")


def _problems(stage: Stage) -> Iterator[str]:
    """What is wrong with a stage, under its name."""
    yield from (f"{stage.name}: {problem}" for problem in stage.problems)
    for error, bound in [] if stage.problems or stage.unshown else stage.beyond:
        found = "isn't finite" if error is None else f"is {_number(error)}"
        yield f"{stage.name}: the error {found}, the bound is {'unknown' if bound is None else _number(bound)}"


def _partly(covered: str) -> Iterator[str]:
    if covered:
        yield f"only the stages {covered} were compared (leave out --stages to compare all)"


def _state(
    problems: tuple[str, ...], in_doubt: tuple[str, ...], faults: tuple[Fault, ...], unshown: tuple[str, ...]
) -> State:
    if problems:
        return "no"
    if in_doubt:
        return "reference in doubt"
    return "yes" if not unshown and all(fault.caught for fault in faults) else "not shown"


def _number(value: object) -> str:
    if value is None:
        return "not finite"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
