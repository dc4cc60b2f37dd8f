"""What an earlier conversion kept as complement, put back by the conversion that undoes it."""

from __future__ import annotations

import copy
from collections import abc
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from convkit.checkpoint import Leaf, TensorSpec
from convkit.config.tree import merge
from convkit.errors import PlanError
from convkit.files.complement import part_at
from convkit.files.receipt import CONVERSION, bare_names, from_json_value, read_receipt, same_files
from convkit.mapping import Mapping
from convkit.mapping.ops import Exactness
from convkit.plan.derived import owed_derived
from convkit.plan.names import Known
from convkit.plan.source import Source
from convkit.plan.step import DerivedLeaf, Fold, Side, Step, cropped


@dataclass(frozen=True)
class Earlier:
    """What an earlier conversion in the other direction recorded, and this one puts back.

    ``place`` is the place of its mapping in the chain that the conversion took, 0 where it took one mapping.
    """

    plan: dict[str, Any]
    complement: dict[str, Any]
    place: int


@dataclass(frozen=True)
class Returned:
    """The parts of a plan that puts back what an earlier conversion kept."""

    steps: list[Step]
    #: leaves that a recipe gives
    to_compute: list[DerivedLeaf]
    #: leaves that come from the complement
    leaves: dict[str, Leaf]
    config: dict[str, Any]


def earlier_of(source: Source, links: Sequence[Mapping]) -> list[Earlier | None]:
    """For each mapping, what the receipt beside the source records of its inverse.

    The first mapping undoes the last one that the receipt tells of, the second one the one before that.
    """
    found: list[Earlier | None] = [None] * len(links)
    receipt = read_receipt(source.path, CONVERSION)
    if receipt is None:
        return found
    files = same_files(source.checkpoint.path, source.checkpoint.files())
    if receipt["target"]["files"] not in (files, bare_names(files)):
        return found
    plan = receipt["plan"]
    # the first plans of chains had the steps of the last mapping, and were of its source
    stages = plan["through"] if plan.get("through") and not plan["steps"] else [plan]
    for number, (link, place) in enumerate(zip(links, reversed(range(len(stages))), strict=False)):
        stage = stages[place]
        if (stage["source"]["layout"], stage["target"]["layout"]) != (link.right.name, link.left.name):
            break
        kept = receipt.get("complement") or {}
        if len(stages) > 1:
            kept = part_at(kept, place) | {"config": stage["lost_config"]}
        found[number] = Earlier(stage, kept, place)
    return found


def remembered(mapping: Mapping, known: abc.Mapping[str, Any], given: abc.Mapping[str, Any]) -> dict[str, Any]:
    """Sizes that the source's leaves can't show, and that are ``known`` from an earlier conversion.

    Raises:
        PlanError: the user says otherwise.
    """
    sizes = {m.name: known[m.name] for m in mapping.measures if m.left is None and m.name in known}
    for name, size in sizes.items():
        if given.get(name, size) != size:
            raise PlanError(
                f"its receipt says {name} = {size}, not {given[name]}", remedy="correct the size, or leave it out"
            )
    return sizes


def put_back(mapping: Mapping, steps: list[Step], known: Known, earlier: Earlier) -> Returned:
    """Give the target the names, buffers, left-behind leaves and config fields that the source once had.

    Raises:
        PlanError: what was kept is of another dtype or shape now.
    """
    had = earlier.plan["source_leaves"]
    kept = earlier.complement.get("tensors", {})
    folds = {fold["key"]: fold for step in earlier.plan["steps"] if (fold := step.get("folded"))}
    folds = {key: fold for key, fold in folds.items() if key in kept}
    behind = {key for key in kept if had.get(key, {}).get("fate") == "left behind"}
    named = [only_names(step, had.keys() - behind) for step in steps]
    changed = [_unfolded(_unshifted(_refilled(step, earlier), earlier), folds, earlier) for step in named]
    moved = {side.key for step in changed for side in step.targets}
    recomputed = [leaf["key"] for leaf in earlier.plan["derived"] if leaf["key"] not in kept]
    owed = owed_derived(mapping, recomputed, known.names)
    # what is kept of other leaves was cropped of them
    whole = {key: Leaf(key, _spec(had[key])) for key in kept if key in had and key not in moved}
    values = earlier.complement.get("values", {})
    config = copy.deepcopy(known.converted.config)
    merge(config, earlier.complement.get("config", {}))
    return Returned(
        steps=changed,
        to_compute=[replace(leaf, spec=_spec(had[leaf.key])) for leaf in owed],
        leaves=whole | {key: Leaf(key, None, from_json_value(value)) for key, value in values.items()},
        config=config,
    )


def _refilled(step: Step, earlier: Earlier) -> Step:
    """The step with padding from the complement, where what was cropped wasn't the fill."""
    key = step.targets[0].key
    if step.pad is None or cropped(key) not in earlier.complement.get("tensors", {}):
        return step
    if earlier.plan["source_leaves"][key]["dtype"] != step.sources[0].spec.dtype:
        raise PlanError(
            "its cropped part is kept in another dtype, and can't be put back",
            key=key,
            remedy="convert with the options of the first conversion, or remove its receipt",
        )
    return replace(step, pad=replace(step.pad, kept_as=cropped(key)))


def _unshifted(step: Step, earlier: Earlier) -> Step:
    """The step with those leaves from the complement that it would shift back, and may round otherwise."""
    had, kept = earlier.plan["source_leaves"], earlier.complement.get("tensors", {})
    found = (side for side in step.targets if step.shifted and side.key in kept)
    return replace(step, kept=tuple(side.key for side in found if _spec(had[side.key]) == side.spec))


def _unfolded(step: Step, folds: dict[str, dict[str, Any]], earlier: Earlier) -> Step:
    """The step with the leaf from the complement into which the earlier conversion folded another one."""
    side = next((side for side in step.targets if side.key in folds), None)
    if side is None:
        return step
    if _spec(earlier.plan["source_leaves"][side.key]) != side.spec:
        raise PlanError(
            "is kept in another dtype or shape, and can't be put back",
            key=side.key,
            remedy="convert with the options of the first conversion, or remove its receipt",
        )
    fold = folds[side.key]
    exactness = Exactness(**fold["exactness"])
    return replace(step, folded=Fold(**{**fold, "side": "target", "exactness": exactness}))


def _spec(entry: dict[str, Any]) -> TensorSpec:
    return TensorSpec(tuple(entry["shape"]), entry["dtype"])


def only_names(step: Step, had: Set[str]) -> Step:
    """The step with those of a leaf's several target names that the earlier source had."""
    names = {side.key: [side.key, *(name for name, of in step.also if of == side.key)] for side in step.targets}
    targets: list[Side] = []
    also: list[tuple[str, str]] = []
    for side in step.targets:
        kept = [name for name in names[side.key] if name in had] or names[side.key][:1]
        targets.append(replace(side, key=kept[0]))
        also += [(name, kept[0]) for name in kept[1:]]
    return replace(step, targets=tuple(targets), also=tuple(also))
