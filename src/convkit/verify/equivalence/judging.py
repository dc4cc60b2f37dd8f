"""Make the verdict of what a walk has found."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from msgspec import structs

from convkit import formats, oracles
from convkit.plugins import Plugin
from convkit.verify.equivalence.agreement import summary
from convkit.verify.equivalence.beyond import Beyond
from convkit.verify.equivalence.deviations import measured, not_shown
from convkit.verify.equivalence.record import Record
from convkit.verify.equivalence.recorded import Held
from convkit.verify.equivalence.recorded_digests import changed_source, changed_target
from convkit.verify.equivalence.sides import Sides
from convkit.verify.equivalence.walk import Walk
from convkit.verify.judged import Check
from convkit.verify.verdict import Verdict

#: what may help where a planted fault stays below the bound: the effect of most faults grows with the positions
REMEDY = "its effect on this model is too small to be seen; more positions may show it: --probe-length"
#: what runs models, or describes them
_FRAMEWORKS = ("jax", "numpy", "torch", "transformers")
_NO_FAULTS = "no fault was planted, so it isn't shown that one would be seen (--faults none)"


def judge(
    check: Check,
    sides: Sides,
    walk: Walk,
    *,
    probe: dict[str, Any],
    held: Held,
    beyond: Beyond,
    made: Sequence[Mapping[str, Any]] = (),
) -> Verdict:
    """The verdict on a finished walk, whose input ``probe`` describes, and on what else was compared.

    ``made`` says who compared what, if it were several.
    """
    record = walk.record
    problems, unshown = _problems(sides, walk, beyond)
    figures, bounds = _figures(record)
    shared = {"in_parts": [*made]} if made else {}
    return check.judged(
        problems,
        record.all_faults,
        measured=figures | held.measured,
        bound=bounds | held.bound,
        stages=record.stages,
        covered=walk.covered,
        details={"probe": probe, **_details(sides, record, beyond.notes), **shared},
        deviations=measured(sides.basis, record.figures),
        plugins=_plugins(sides),
        unshown=unshown,
        in_doubt=held.in_doubt,
    )


def _plugins(sides: Sides) -> Iterator[Plugin | None]:
    """What other packages bring: the sides' formats and oracles."""
    for side in sides.named.values():
        yield from (formats.OTHERS.plugin(side.format), oracles.OTHERS.plugin(side.layout))


def _problems(sides: Sides, walk: Walk, beyond: Beyond) -> tuple[list[str], list[str]]:
    """What is wrong apart from the stages, and what couldn't be shown."""
    basis, record = sides.basis, walk.record
    source, target = walk.models.source.oracle, walk.models.target.oracle
    problems = [f"source: {problem}" for problem in source.problems]
    problems += [f"target: {problem}" for problem in target.problems]
    problems += [f"the source has no stage {name}" for name in target.stages if name not in source.stages]
    for name in dict.fromkeys(record.only_in_source):
        # a head may be left out on request, or if it is the embedding: hidden states are compared anyway
        if not sides.headless and (name != "lm" or not source.facts.tied):
            problems.append(f"{name} can't be computed: the target has no tensors for it")
    problems += beyond.problems
    if basis.refused and (problems or not record.sound):
        problems.append(basis.refused)
    problems += changed_source(sides.ours, sides.receipt)
    unshown = [*not_shown(basis), *beyond.unshown]
    if basis.unproved:
        # where nothing can be compared under a deviation, a difference may be what it declares
        for n, stage in enumerate(record.stages):
            record.stages[n] = structs.replace(stage, problems=(), unshown="; ".join(stage.problems))
    if walk.choices.faults == "none" and record.sound and not problems:
        unshown.append(_NO_FAULTS)
    return problems, unshown


def _figures(record: Record) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's figures, and the bounds of those that have one."""
    figures: dict[str, Any] = {}
    bounds: dict[str, Any] = {}
    for name, worst in zip(("max_rel", "short_max_rel"), record.worst, strict=False):
        figures[name], bounds[name] = worst
    if record.amplified:
        figures["amplified_max_rel"], bounds["amplified_max_rel"] = record.amplified
    free = summary(record.figures.get("free", [[]])[0])
    figures |= {"free_max_rel" if name == "max_rel" else name: value for name, value in free.items()}
    for name, comparison in (("cast_max_rel", "cast"), ("deviation_max_rel", "deviations")):
        found = [summary(one).get("max_rel", 0.0) for one in record.figures.get(comparison, ())]
        if found:
            figures[name] = max(found)
    return figures, bounds


def _versions(sides: Sides) -> dict[str, str]:
    """The versions of the frameworks that took part; an oracle of another package may use any that was imported."""
    ours = all(side.layout not in oracles.OTHERS.names() for side in sides.named.values())
    took_part = {"numpy", "torch"}.union(*(side.oracle.packages for side in sides.named.values()))
    return {name: version(name) for name in _FRAMEWORKS if name in sys.modules and (name in took_part or not ours)}


def _details(sides: Sides, record: Record, beyond: list[str]) -> dict[str, Any]:
    both = sides.named
    notes = [f"{name}: {note}" for name, side in both.items() for note in (*side.corrections, *side.oracle.notes)]
    refused = [sides.basis.refused] if sides.basis.refused else []
    return {
        "versions": _versions(sides),
        "layouts": {name: side.layout for name, side in both.items()},
        "formats": {name: side.format for name, side in both.items()},
        "parameters": {name: side.parameters for name, side in both.items()},
        "stored": {name: side.stored for name, side in both.items()},
        "model": {name: asdict(side.oracle.facts) for name, side in both.items()},
        "parted": record.parted,
        "states": [structs.asdict(figure) for figure in record.figures.get("free", [[]])[0]],
        "only_in_source": list(dict.fromkeys(record.only_in_source)),
        "only_in_target": list(dict.fromkeys(record.only_in_target)),
        "notes": [
            *changed_target(sides.theirs, sides.receipt),
            *sides.reconfigured,
            *beyond,
            *notes,
            *record.weak,
            *refused,
        ],
    }
