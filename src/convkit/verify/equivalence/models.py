"""The models of a check: those that are compared, and those that run beside them."""

from __future__ import annotations

from collections.abc import Sequence

from convkit.oracles.stage_tensors import StageTensors
from convkit.verify.equivalence.casts import Rounded, moved
from convkit.verify.equivalence.deviations import comparisons_of, lanes_of, shorter
from convkit.verify.equivalence.lanes import Comparison, Inputs, Lane, Models
from convkit.verify.equivalence.noise import BASE
from convkit.verify.equivalence.probe import make_probe, positions_of, probe_length
from convkit.verify.equivalence.sides import Sides


def inputs_of(sides: Sides, length: int | None, seed: int) -> list[Inputs]:
    """The input, and a short one for models that compute long inputs in another way.

    Raises:
        UsageError: fewer than two positions.
    """
    facts, basis = (sides.ours.oracle.facts, sides.theirs.oracle.facts), sides.basis
    takes = sides.ours.oracle.inputs.keys() & sides.theirs.oracle.inputs.keys()
    probe = make_probe(*facts, length=probe_length(*facts, asked=length), seed=seed, takes=takes)
    return [probe, *shorter(max(basis.source.facts.switches_at, basis.target.facts.switches_at), probe)]


def models_of(sides: Sides, inputs: Sequence[Inputs]) -> Models:
    """The lanes of a walk. Where the target stores rounded what the source stores, those of the source's side read its
    tensors rounded.
    """
    ours, theirs, basis = sides.ours, sides.theirs, sides.basis
    tensors = {"source": ours.tensors, "target": theirs.tensors}
    comparisons = [Comparison("free", "source", "target"), *comparisons_of(basis)]
    wanted = {"source": ("source", basis.source), "target": ("target", basis.target), **lanes_of(basis, ours, theirs)}
    lanes: dict[str, Lane] = {}
    stored = {**theirs.dtypes, **sides.planned} if sides.cast else moved(ours.oracle, theirs.oracle, ours.dtypes)
    if stored:
        lanes["uncast"] = Lane(basis.source, ours.tensors, inputs)
        comparisons.append(Comparison("cast", "uncast", "target"))
        rounded = Rounded(ours.read, ours.oracle, theirs.oracle, stored)
        tensors["source"] = StageTensors(rounded, ours.tensors.device)
    for name, (side, oracle) in wanted.items():
        read = oracle.rebuilt(tensors=tensors[side]) if stored and side == "source" else oracle
        lanes[name] = Lane(read, tensors[side], inputs)
    source = lanes["source"]
    rebased = source.oracle.rebased(1 + BASE)
    noisy = Lane(source.oracle.rebuilt(config=rebased), source.tensors, inputs) if rebased else source
    return Models(lanes, noisy, [positions_of(source.oracle.facts, given) for given in inputs], comparisons)
