"""Enter what the check of a stage has found into the record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from convkit.verify.equivalence.agreement import figures
from convkit.verify.equivalence.measured import Worst
from convkit.verify.equivalence.parting import not_finite, parting
from convkit.verify.verdict import Fault, Stage

if TYPE_CHECKING:
    from convkit.verify.equivalence.record import Record
    from convkit.verify.equivalence.schedule import Schedule
    from convkit.verify.equivalence.stage_check import StageCheck, Trial

#: what is said where both sides hold such values
_BOTH = "; running such models compares nothing: the round trip compares their bits"


def enter(record: Record, check: StageCheck, schedule: Schedule) -> None:
    """Enter a stage: what was measured, what is wrong, and the faults that were planted."""
    problems = [*_problems(record, check)]
    for n, measured in enumerate(check.measured):
        worst = measured.worst(measured.fed)
        record.nearest(n, worst.error, worst.bound)
    strong = check.amplified.worst(check.amplified.fed)
    record.strengthened((strong.error, strong.bound) if check.amplified.fed else None)
    for name, inputs in check.compared.items():
        rows = record.figures.setdefault(name, [[] for _ in inputs])
        for found, gaps in zip(rows, inputs, strict=True):
            found.extend(figures(gaps))
    record.stages.append(_stage(check, problems))
    record.only_in_source += check.only_in_source
    record.only_in_target += check.only_in_target
    record.weak += check.weak
    record.sound = record.sound and not problems
    record.stopped = any(gap.lost for measured in check.measured for gap in measured.repeat.values())
    for trial in check.trials:
        _enter_trial(record, check, trial, schedule)
    record.follow(schedule.waiting, schedule.planted, schedule.traceless)


def _stage(check: StageCheck, problems: list[str]) -> Stage:
    measured = check.measured[0]
    worst = max((one.worst(one.fed) for one in check.measured), key=lambda found: found.ratio)
    strong = check.amplified.worst(check.amplified.fed) if check.amplified.fed else None
    free = [gap.relative for gap in check.compared["free"][0].values()]
    return Stage(
        name=check.stage,
        max_rel=worst.error,
        bound=worst.bound,
        noise=_largest(measured.noise.values()),
        repeat=_largest(measured.repeat.values()),
        free_max_rel=max(free, default=0.0),
        amplified_max_rel=strong.error if strong else UNSET,
        amplified_bound=strong.bound if strong else UNSET,
        unshown=f"no token chose {_experts(check.idle)}: a longer input may (--probe-length)" if check.idle else "",
        problems=tuple(problems),
    )


def _experts(numbers: list[int]) -> str:
    return f"expert{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _largest(gaps: Any) -> float:
    return max((gap.relative for gap in gaps), default=0.0)


def _problems(record: Record, check: StageCheck) -> Iterator[str]:
    """What is wrong with a stage: on the first input that shows something, otherwise with stronger weights."""
    for n, measured in enumerate(check.measured):
        if broken := {name: gap.broken for name, gap in measured.fed.items() if gap.broken}:
            yield from (f"{name}: shapes {gap.shapes}" for name, gap in measured.fed.items() if gap.shapes)
            strange = [name for name, why in broken.items() if not measured.fed[name].shapes]
            if strange:
                named = [*not_finite(check.models, check.stage)]
                what = "" if strange[0] == check.stage else f"{strange[0]} is "
                also = f": {'; '.join(named)}" if named else ""
                yield f"{what}not finite{also}{_BOTH if len(named) > 1 else ''}"
            return
        if beyond := measured.beyond():
            parted = parting(check, beyond[0], measured.bound(beyond[0]), n)
            at = f" on an input of {check.models.lengths[n]} positions" if n else ""
            yield _differs(record, parted) + at
            return
    if beyond := check.amplified.beyond():
        parted = parting(check, beyond[0], check.amplified.bound(beyond[0]), 0, strong=True)
        yield _differs(record, parted) + ", with weak weights amplified"


def _differs(record: Record, parted: dict[str, Any]) -> str:
    """The words for it; the first place where the models differ is kept."""
    record.parted = record.parted or parted
    return f"the models differ at {parted['point']}, fed by {', '.join(parted['target'])}"


def _enter_trial(record: Record, check: StageCheck, trial: Trial, schedule: Schedule) -> None:
    """A fault in tensors counts where it was planted; a wrong config where it shows best.

    A config that has left no trace in this layer may matter in another one.
    """
    found = check.caught(trial)
    fault = Fault(trial.kind.name, found.ratio > 1, _measured(check, trial), check.stage)
    if trial.kind.config is None:
        record.faults.append(fault)
        return
    before = record.wrong.get(trial.kind.name)
    if before is None or found.ratio > before[1] or (not before[1] and check.place.layer is not None):
        record.wrong[trial.kind.name] = fault, found.ratio
    if trial.kind.counts(check.place):
        record.counted = [*dict.fromkeys([*record.counted, trial.kind.name])]
    if check.place.layer is not None and not fault.caught:
        schedule.again(trial.kind)


def _measured(check: StageCheck, trial: Trial) -> dict[str, Any]:
    plain = check.measured[0].worst(trial.gaps)
    found: dict[str, Any] = {"max_rel": plain.error, "bound": plain.bound} if trial.gaps else {}
    if trial.amplified:
        strong: Worst = check.amplified.worst(trial.amplified)
        found |= {"amplified_max_rel": strong.error, "amplified_bound": strong.bound}
    return found
