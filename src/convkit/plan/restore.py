"""Restore what an earlier conversion kept as complement, in the conversion that undoes it."""

from __future__ import annotations

import copy
from collections import abc
from collections.abc import Set
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from convkit.checkpoint import Leaf
from convkit.errors import PlanError
from convkit.files.receipt import from_json_value
from convkit.mapping import Mapping
from convkit.mapping.ops import EXACT, Exactness
from convkit.plan.derived import recorded_derived
from convkit.plan.deviations import put_values_back
from convkit.plan.earlier import Earlier
from convkit.plan.left_out import left_out
from convkit.plan.names import Known
from convkit.plan.plan_json import PlannedDeviation, PlannedFold
from convkit.plan.step import DerivedLeaf, Fold, Side, Step, cropped


class Returned(Struct, frozen=True):
    """The parts of a plan that restores what an earlier conversion kept."""

    steps: list[Step]
    #: leaves that a recipe computes
    to_compute: list[DerivedLeaf]
    #: leaves that come from the complement
    leaves: dict[str, Leaf]
    config: dict[str, Any]
    #: values of the config that the source says only nearly
    deviations: tuple[PlannedDeviation, ...] = ()


def remembered(mapping: Mapping, known: abc.Mapping[str, Any], given: abc.Mapping[str, Any]) -> dict[str, Any]:
    """Recall names that the source's leaves can't show and that are ``known`` from an earlier conversion.

    Raises:
        PlanError: the user gave another size.
    """
    sizes = {m.name: known[m.name] for m in mapping.measures if m.left is None and m.name in known}
    for name, size in sizes.items():
        if given.get(name, size) != size:
            raise PlanError(
                f"its receipt says {name} = {size}, not {given[name]}", remedy="correct the size, or leave it out"
            )
    return sizes | {name: known[name] for name in mapping.recalled if name in known}


def put_back(mapping: Mapping, steps: list[Step], known: Known, earlier: Earlier, release: tuple[int, ...]) -> Returned:
    """Restore the names, buffers, left-behind leaves and config fields that the source once had.

    Raises:
        PlanError: a kept leaf has another dtype or shape now.
    """
    had, kept = earlier.plan.source_leaves, earlier.complement.tensors
    folds = {fold.key: fold for step in earlier.plan.steps if (fold := step.folded)}
    folds = {key: fold for key, fold in folds.items() if key in kept}
    behind = {key for key in kept if key in had and had[key].fate == "left behind"}
    named = [only_names(step, had.keys() - behind) for step in steps]
    changed = [_unfolded(_unshifted(_refilled(step, earlier), earlier), folds, earlier) for step in named]
    moved = {side.key for step in changed for side in step.targets}
    recomputed = [leaf.key for leaf in earlier.plan.derived if leaf.key not in kept]
    recorded = recorded_derived(mapping, recomputed, known.names)
    # what is kept for other leaves was cropped from them
    whole = {key: Leaf(key, had[key].spec) for key in kept if key in had and key not in moved}
    config = copy.deepcopy(known.converted.config)
    mapping.config.respelled(config, earlier.plan.source.config)
    mapping.config.placed(config, earlier.plan.source.config)
    deviations = put_values_back(config, earlier.plan.deviations)
    mapping.config.kept(config, earlier.complement.config)
    config = left_out(config, earlier.plan.source.config, mapping, known, release)
    return Returned(
        steps=changed,
        to_compute=[replace(leaf, spec=had[leaf.key].tensor) for leaf in recorded],
        leaves=whole
        | {
            key: Leaf(key, None, from_json_value(value))
            for key, value in earlier.complement.values.items()
            if key not in moved
        },
        config=config,
        deviations=deviations,
    )


def _refilled(step: Step, earlier: Earlier) -> Step:
    """Take the padding from the complement, if the cropped part wasn't the fill."""
    key = step.targets[0].key
    if step.pad is None or cropped(key) not in earlier.complement.tensors:
        return step
    if earlier.plan.source_leaves[key].dtype != step.sources[0].spec.dtype:
        raise PlanError(
            "its cropped part is kept in another dtype, so it can't be restored",
            key=key,
            remedy="convert with the options of the first conversion, or remove its receipt",
        )
    return replace(step, pad=replace(step.pad, kept_as=cropped(key)))


def _unshifted(step: Step, earlier: Earlier) -> Step:
    """Take from the complement the leaves that the step would shift back, since it may round differently."""
    had, kept = earlier.plan.source_leaves, earlier.complement.tensors
    found = (side for side in step.targets if step.shifted and side.key in kept)
    return replace(step, kept=tuple(side.key for side in found if had[side.key].spec == side.spec))


def _unfolded(step: Step, folds: dict[str, PlannedFold], earlier: Earlier) -> Step:
    """Take from the complement the leaf into which the earlier conversion folded another one."""
    side = next((side for side in step.targets if side.key in folds), None)
    if side is None:
        return step
    if earlier.plan.source_leaves[side.key].spec != side.spec:
        raise PlanError(
            "is kept in another dtype or shape, so it can't be restored",
            key=side.key,
            remedy="convert with the options of the first conversion, or remove its receipt",
        )
    fold = folds[side.key]
    exactness = EXACT if fold.exactness == "exact" else Exactness(fold.exactness.ulp, fold.exactness.dtype)
    return replace(step, folded=Fold("target", fold.key, fold.by, fold.recipe, fold.arguments, exactness))


def only_names(step: Step, had: Set[str]) -> Step:
    """Keep only those target names of a leaf that the earlier source had."""
    names = {side.key: [side.key, *(name for name, of in step.also if of == side.key)] for side in step.targets}
    targets: list[Side] = []
    also: list[tuple[str, str]] = []
    for side in step.targets:
        kept = [name for name in names[side.key] if name in had] or names[side.key][:1]
        targets.append(replace(side, key=kept[0]))
        also += [(name, kept[0]) for name in kept[1:]]
    return replace(step, targets=tuple(targets), also=tuple(also))
