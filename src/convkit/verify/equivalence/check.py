"""Check whether two checkpoints are the same model: run both on the same input, a stage at a time.

Each side runs through an oracle that reads its layout and shares no code with any mapping. What each stage of the
target gives must agree with what the source's gives, on the same input; so the models are the same function. Then the
same comparison is made with faults planted in the target, to show that it can fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from convkit.files.receipt import CONVERSION, read_receipt
from convkit.oracles.opening import Opened, open_model
from convkit.oracles.stage_tensors import StageTensors
from convkit.verify.documents import Described, read_plan
from convkit.verify.equivalence import probe as probes
from convkit.verify.equivalence.agreement import summary
from convkit.verify.equivalence.casts import Rounded
from convkit.verify.equivalence.deviations import (
    Basis,
    basis_of,
    comparisons_of,
    lanes_of,
    measured,
    not_shown,
    shorter,
)
from convkit.verify.equivalence.journal import Journal
from convkit.verify.equivalence.lanes import Comparison, Lane, Models
from convkit.verify.equivalence.noise import BASE
from convkit.verify.equivalence.record import Record
from convkit.verify.equivalence.walk import Choices, Steps, Walk
from convkit.verify.judged import Check
from convkit.verify.verdict import Verdict

if TYPE_CHECKING:
    from torch import Tensor

#: what may help where a planted fault stays below the bound: the effect of most faults grows with the positions
REMEDY = "its effect on this model is too small to be seen; more positions may show it: --probe-length"
_NO_FAULTS = "no fault was planted, so it isn't shown that one would be seen (--faults none)"


def equivalence(
    source: Path,
    target: Path,
    *,
    from_layout: str | None = None,
    to_layout: str | None = None,
    source_config: Path | None = None,
    target_config: Path | None = None,
    source_format: str | None = None,
    probe_length: int | None = None,
    seed: int = probes.SEED,
    threads: int | None = None,
    choices: Choices | None = None,
    steps: Steps | None = None,
) -> Verdict:
    """Run both checkpoints in float32 on the same input and compare, a stage at a time.

    Layouts and formats are taken from the arguments, otherwise from the receipt beside ``target``, otherwise detected.
    Models that compute long inputs in another way (longrope) are compared on a short input too. The source's tensors
    may correct the bias flags in its config, as they do in a conversion; the target's config is
    trusted. If the receipt says that a cast was requested, the source is rounded in the same way, and
    ``measured["cast_max_rel"]`` is the error of the cast itself. If it declares deviations, the models are compared
    under them, ``measured["deviation_max_rel"]`` is how far they are apart as they are, and the verdict's
    ``deviations`` give the size of each (:mod:`.deviations`).

    ``measured`` gives the worst figures, ``stages`` those of each stage, ``faults`` the planted faults, and
    ``details["parted"]`` where the models first differ.

    Raises:
        ConvkitError: a side can't be read, has a layout that no oracle runs, or contradicts its config.
        UsageError: a probe of fewer than two positions.
    """
    check = Check("equivalence", source, target, remedy=REMEDY)
    choices = choices or Choices()
    receipt = read_receipt(target, CONVERSION)
    plan = read_plan(Described, receipt["plan"], target) if receipt else None
    if threads:
        _use(threads)
    with ExitStack() as stack:
        ours = stack.enter_context(
            open_model(
                source,
                layout=from_layout or (plan.source.layout if plan else None),
                config=source_config,
                format=source_format or (plan.source.format if plan else None),
                lenient=True,
                without={key for key, leaf in (plan.source_leaves if plan else {}).items() if leaf.fate == "dropped"},
            )
        )
        theirs = stack.enter_context(
            open_model(target, layout=to_layout or (plan.target.layout if plan else None), config=target_config)
        )
        basis = basis_of(ours, theirs, receipt, plan, target_config)
        inputs = _inputs(ours, theirs, basis, probe_length, seed)
        models = _models(ours, theirs, basis, inputs, cast=bool(plan and plan.dtype))
        journal = Journal(target, _question(ours, theirs, basis, inputs, choices), {"source": ours, "target": theirs})
        walk = Walk(models, inputs, choices, journal.resume(models.lanes), steps)
        for _ in walk.run():
            journal.keep(walk.record, models.lanes)
        journal.remove()
        return _judged(check, ours, theirs, basis, walk, headless=bool(plan and plan.names.get("headless")), seed=seed)


def _question(
    ours: Opened, theirs: Opened, basis: Basis, inputs: Sequence[Mapping[str, Tensor]], choices: Choices
) -> dict[str, Any]:
    """All that decides what a walk computes, apart from the tensors."""
    sides = {
        name: {"path": str(side.path.resolve()), "layout": side.layout, "config": side.fields, "dtypes": side.dtypes}
        for name, side in {"source": ours, "target": theirs}.items()
    }
    given = [{name: value.tolist() for name, value in one.items()} for one in inputs]
    deviations = [structs.asdict(one) for one in basis.taken]
    return {**sides, "deviations": deviations, "inputs": given, "choices": asdict(choices)}


def _inputs(ours: Opened, theirs: Opened, basis: Basis, length: int | None, seed: int) -> list[Mapping[str, Tensor]]:
    """The input, and a short one for models that compute long inputs in another way."""
    facts = ours.oracle.facts, theirs.oracle.facts
    probe = probes.make_probe(*facts, length=probes.probe_length(*facts, asked=length), seed=seed)
    return [probe, *shorter(max(basis.source.facts.switches_at, basis.target.facts.switches_at), probe)]


def _judged(
    check: Check, ours: Opened, theirs: Opened, basis: Basis, walk: Walk, *, headless: bool, seed: int
) -> Verdict:
    record, models = walk.record, walk.models
    problems, unshown = _problems(basis, models, record, headless)
    if walk.choices.faults == "none" and record.sound and not problems:
        unshown.append(_NO_FAULTS)
    figures, bounds = _figures(record)
    probe = {"positions": models.lengths[0], "seed": seed}
    return check.judged(
        problems,
        record.all_faults,
        measured=figures,
        bound=bounds,
        stages=record.stages,
        covered=walk.covered,
        details={"probe": probe, **_details(ours, theirs, basis, record)},
        deviations=measured(basis, record.figures),
        unshown=unshown,
    )


def _use(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _models(
    ours: Opened, theirs: Opened, basis: Basis, inputs: Sequence[Mapping[str, Tensor]], *, cast: bool
) -> Models:
    """The lanes of a walk. For a conversion that casts, those of the source's side read its tensors rounded."""
    tensors = {"source": ours.tensors, "target": theirs.tensors}
    comparisons = [Comparison("free", "source", "target"), *comparisons_of(basis)]
    wanted = {"source": ("source", basis.source), "target": ("target", basis.target), **lanes_of(basis, ours, theirs)}
    lanes: dict[str, Lane] = {}
    if cast:
        lanes["uncast"] = Lane(basis.source, ours.tensors, inputs)
        comparisons.append(Comparison("cast", "uncast", "target"))
        tensors["source"] = StageTensors(Rounded(ours.read, ours.oracle, theirs.oracle, theirs.dtypes))
    for name, (side, oracle) in wanted.items():
        read = oracle.rebuilt(tensors=tensors[side]) if cast and side == "source" else oracle
        lanes[name] = Lane(read, tensors[side], inputs)
    source = lanes["source"]
    rebased = source.oracle.rebased(1 + BASE)
    noisy = Lane(source.oracle.rebuilt(config=rebased), source.tensors, inputs) if rebased else source
    return Models(lanes, noisy, [given["input_ids"].shape[1] for given in inputs], comparisons)


def _problems(basis: Basis, models: Models, record: Record, headless: bool) -> tuple[list[str], list[str]]:
    """What is wrong apart from the stages, and what couldn't be shown."""
    source, target = models.source.oracle, models.target.oracle
    problems = [f"source: {problem}" for problem in source.problems]
    problems += [f"target: {problem}" for problem in target.problems]
    problems += [f"the source has no stage {name}" for name in target.stages if name not in source.stages]
    for name in dict.fromkeys(record.only_in_source):
        # a head may be left out on request, or if it is the embedding: hidden states are compared anyway
        if not headless and (name != "lm" or not source.facts.tied):
            problems.append(f"{name} can't be computed: the target has no tensors for it")
    if basis.refused and (problems or not record.sound):
        problems.append(basis.refused)
    unshown = not_shown(basis)
    if unshown:
        # where nothing can be compared under a deviation, a difference may be what it declares
        for n, stage in enumerate(record.stages):
            record.stages[n] = structs.replace(stage, problems=(), unshown="; ".join(stage.problems))
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


def _details(ours: Opened, theirs: Opened, basis: Basis, record: Record) -> dict[str, Any]:
    sides = {"source": ours, "target": theirs}
    notes = [f"{name}: {note}" for name, side in sides.items() for note in (*side.corrections, *side.oracle.notes)]
    return {
        "layouts": {name: side.layout for name, side in sides.items()},
        "formats": {name: side.format for name, side in sides.items()},
        "parameters": {name: side.parameters for name, side in sides.items()},
        "stored": {name: side.stored for name, side in sides.items()},
        "model": {name: asdict(side.oracle.facts) for name, side in sides.items()},
        "parted": record.parted,
        "states": [structs.asdict(figure) for figure in record.figures.get("free", [[]])[0]],
        "only_in_source": list(dict.fromkeys(record.only_in_source)),
        "only_in_target": list(dict.fromkeys(record.only_in_target)),
        "notes": [*notes, *record.weak, *([basis.refused] if basis.refused else [])],
    }
