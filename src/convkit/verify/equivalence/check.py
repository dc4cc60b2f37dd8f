"""Check whether two checkpoints are the same model: run both on the same input, and compare all their states.

Each side runs through an oracle that reads its layout and shares no code with any mapping. The hidden states of every
layer and the logits of every head must agree. Then the same comparison is made with faults planted in the target, to
show that it can fail.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.files.receipt import CONVERSION, read_receipt
from convkit.oracles.opening import Opened, open_model
from convkit.verify.documents import Described, read_plan
from convkit.verify.equivalence import probe as probes
from convkit.verify.equivalence.amplify import amplified, gains, left_weak
from convkit.verify.equivalence.casts import rounded
from convkit.verify.equivalence.deviations import Basis, basis_of, measured, not_shown, shorter
from convkit.verify.equivalence.noise import ROOM, rounding_noise
from convkit.verify.equivalence.trial import Trial
from convkit.verify.judged import Check
from convkit.verify.verdict import Fault, Verdict

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle

#: Float32 rounds to 6e-8. Two implementations of one model differ by about 1e-6 of the largest value after 6 layers
#: and by 2.5e-6 after 24; the mildest fault, a wrong norm epsilon, shows as 2e-5. Weights of fewer bits are widened on
#: both sides alike, so the same bound holds for them. A model that amplifies rounding more than that gets a larger
#: bound from its own measured noise (:mod:`.noise`).
BOUND = 5e-6
#: That bound holds up to this many layers. Beyond, it grows with their square root, as independent errors do.
BOUND_LAYERS = 24
#: what may help where a planted fault stays below the bound: the effect of most faults grows with the positions
REMEDY = "its effect on this model is too small to be seen; more positions may show it: --probe-length"


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
    faults: bool = True,
) -> Verdict:
    """Run both checkpoints in float32 on the same input and compare.

    Layouts and formats are taken from the arguments, otherwise from the receipt beside ``target``, otherwise detected.
    Models that compute long inputs in another way (longrope) are compared on a short input too. The source's tensors
    may correct the bias flags in its config, as they do in a conversion; the target's config is
    trusted. If the receipt says that a cast was requested, the source is rounded in the same way, and
    ``measured["cast_max_rel"]`` is the error of the cast itself. If it declares deviations, the models are compared
    under them, ``measured["deviation_max_rel"]`` is how far they are apart as they are, and the verdict's
    ``deviations`` give the size of each (:mod:`.deviations`).

    ``measured`` gives the worst figures over all hidden states and logits, ``faults`` the planted faults, and
    ``details["parted"]`` the state at which the models first differ.

    Raises:
        ConvkitError: a side can't be read, has a layout that no oracle runs, or contradicts its config.
        UsageError: a probe of fewer than two positions.
    """
    check = Check("equivalence", source, target, remedy=REMEDY)
    receipt = read_receipt(target, CONVERSION)
    plan = read_plan(Described, receipt["plan"], target) if receipt else None
    ours = open_model(
        source,
        layout=from_layout or (plan.source.layout if plan else None),
        config=source_config,
        format=source_format or (plan.source.format if plan else None),
        lenient=True,
        without={key for key, leaf in (plan.source_leaves if plan else {}).items() if leaf.fate == "dropped"},
    )
    theirs = open_model(target, layout=to_layout or (plan.target.layout if plan else None), config=target_config)
    facts = ours.oracle.facts, theirs.oracle.facts
    length = probes.probe_length(*facts, asked=probe_length)
    probe = probes.make_probe(*facts, length=length, seed=seed)
    headless = bool(plan and plan.names.get("headless"))
    basis = basis_of(ours, theirs, receipt, plan, target_config)
    compared = _compared(ours, theirs, basis, probe, cast=bool(plan and plan.dtype), headless=headless, faults=faults)
    return check.judged(
        compared.problems,
        compared.faults,
        measured=compared.measured,
        bound=compared.bound,
        details={"probe": {"positions": length, "seed": seed}, **compared.details},
        deviations=measured(basis, ours, theirs, probe),
        unshown=compared.unshown,
    )


@dataclass(frozen=True)
class Compared:
    """The result of comparing two models."""

    problems: list[str]
    unshown: list[str]
    faults: list[Fault]
    measured: dict[str, Any]
    bound: dict[str, Any]
    details: dict[str, Any]


def _compared(
    ours: Opened,
    theirs: Opened,
    basis: Basis,
    probe: Mapping[str, Tensor],
    *,
    cast: bool,
    headless: bool,
    faults: bool,
) -> Compared:
    def stored(models: Basis) -> Oracle:
        return rounded(models.source, models.target, theirs.dtypes) if cast else models.source

    trial = Trial(stored(basis), basis.target, probe)
    shorts = shorter(max(basis.source.facts.switches_at, basis.target.facts.switches_at), probe)
    figures, bounds = trial.agreement.to_json(), {"max_rel": bound_for(trial)}
    if cast:
        figures["cast_max_rel"] = Trial(basis.source, basis.target, probe).agreement.to_json()["max_rel"]
    if basis.taken:
        as_they_are = Basis(ours.oracle, theirs.oracle)
        found = [Trial(stored(as_they_are), as_they_are.target, given).agreement for given in (probe, *shorts)]
        figures["deviation_max_rel"] = max(agreement.to_json()["max_rel"] for agreement in found)
    problems, planted = _problems(basis, trial, headless), list[Fault]()
    parted = trial.parting(bounds["max_rel"])
    at = ""
    for short in shorts:
        beginning = Trial(trial.source, trial.target, short)
        figures["short_max_rel"] = beginning.agreement.to_json()["max_rel"]
        bounds["short_max_rel"] = bound_for(beginning)
        problems += beginning.agreement.broken
        if not parted and (parted := beginning.parting(bounds["short_max_rel"])):
            at = f" on an input of {short['input_ids'].shape[1]} positions"
    weak: list[str] = []
    if not problems and not parted:
        planted, strong = _sensitivity(trial, bounds["max_rel"], faults)
        if strong:
            weak = left_weak(basis.source, basis.target)
            figures["amplified_max_rel"] = strong.agreement.to_json()["max_rel"]
            bounds["amplified_max_rel"] = bound_for(strong)
            problems = [f"with weights amplified, {problem}" for problem in strong.agreement.broken]
            parted = strong.parting(bounds["amplified_max_rel"])
    differ = (
        [f"the models first differ at {parted['point']}, fed by {', '.join(parted['target'])}{at}"] if parted else []
    )
    # where nothing can be compared under a deviation, a difference may be what it declares
    unshown = [*not_shown(basis), *differ] if basis.unproved else []
    problems += [] if unshown else differ
    details = {"parted": parted, **_details(ours, theirs, trial)}
    details["notes"] += weak
    if basis.refused:
        details["notes"].append(basis.refused)
        problems += [basis.refused] if problems else []
    return Compared(problems, unshown, planted, figures, bounds, details)


def bound_for(trial: Trial) -> float:
    """The largest relative difference that float32 explains between these two models."""
    expected = expected_bound(max(trial.source.facts.layers, trial.target.facts.layers))
    noise = rounding_noise(trial.source, trial.reference, trial.probe)
    return max(expected, ROOM * noise) if math.isfinite(noise) else expected


def expected_bound(layers: int) -> float:
    """The bound for a model of this many layers with ordinary growth of errors."""
    return BOUND * max(1.0, math.sqrt(layers / BOUND_LAYERS))


def _sensitivity(trial: Trial, bound: float, faults: bool) -> tuple[list[Fault], Trial | None]:
    """The planted faults, and a trial with stronger weights if these are too weak to show every fault."""
    errors = {fault.name: {"max_rel": trial.error_with(fault)} for fault in trial.faults()} if faults else {}
    missed = {name for name, error in errors.items() if error["max_rel"] <= bound}
    factors = gains(trial.source, trial.target)
    strong = None
    if factors and (missed or not faults):
        strong = Trial(amplified(trial.source, factors), amplified(trial.target, factors), trial.probe)
        for fault in strong.faults():
            if fault.name in missed:
                errors[fault.name]["amplified_max_rel"] = strong.error_with(fault)
    bounds = {"max_rel": bound} | ({"amplified_max_rel": bound_for(strong)} if strong else {})
    return [_fault(name, error, bounds) for name, error in errors.items()], strong


def _fault(name: str, errors: dict[str, float], bounds: dict[str, float]) -> Fault:
    caught = any(error > bounds[what] for what, error in errors.items())
    return Fault(name, caught, {key: value for key, value in errors.items() if math.isfinite(value)})


def _problems(basis: Basis, trial: Trial, headless: bool) -> list[str]:
    """Problems that no measured distance can outweigh."""
    problems = [f"source: {problem}" for problem in basis.source.problems]
    problems += [f"target: {problem}" for problem in basis.target.problems]
    problems += trial.agreement.broken
    for name in trial.agreement.only_in_reference:
        # a head may be left out on request, or if it is the embedding: hidden states are compared anyway
        if not headless and (name != "lm" or not basis.source.facts.tied):
            problems.append(f"{name} can't be computed: the target has no tensors for it")
    return problems


def _details(ours: Opened, theirs: Opened, trial: Trial) -> dict[str, Any]:
    sides = {"source": ours, "target": theirs}
    agreement = trial.agreement
    return {
        "layouts": {name: side.layout for name, side in sides.items()},
        "formats": {name: side.format for name, side in sides.items()},
        "parameters": {name: side.parameters for name, side in sides.items()},
        "stored": {name: side.stored for name, side in sides.items()},
        "model": {name: asdict(side.oracle.facts) for name, side in sides.items()},
        "states": [asdict(distance) for distance in agreement.measurable],
        "only_in_source": agreement.only_in_reference,
        "only_in_target": agreement.only_in_candidate,
        "notes": [
            f"{name}: {note}" for name, side in sides.items() for note in (*side.corrections, *side.oracle.notes)
        ],
    }
