"""What an earlier conversion kept as complement, put back by the conversion that undoes it."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convkit.checkpoint import Leaf, TensorSpec
from convkit.config.tree import merge
from convkit.errors import PlanError
from convkit.files.receipt import bare_names, complement_path, from_json_value, read_receipt, same_files
from convkit.mapping import Mapping
from convkit.mapping.ops import Exactness
from convkit.plan.derived import owed_derived
from convkit.plan.document import Plan
from convkit.plan.source import Source
from convkit.plan.step import Fold, Side, Step, cropped


@dataclass(frozen=True)
class Restored:
    """What an earlier conversion in the other direction recorded, and this one puts back."""

    plan: dict[str, Any]
    complement: dict[str, Any]
    path: Path


def remembered(mapping: Mapping, restored: Restored | None, given: dict[str, Any]) -> dict[str, Any]:
    """Sizes that the source's leaves can't tell and the receipt of the earlier conversion does.

    Raises:
        PlanError: the user says otherwise.
    """
    known = restored.plan["names"] if restored else {}
    sizes = {m.name: known[m.name] for m in mapping.measures if m.left is None and m.name in known}
    for name, size in sizes.items():
        if given.get(name, size) != size:
            raise PlanError(
                f"its receipt says {name} = {size}, not {given[name]}", remedy="correct the size, or leave it out"
            )
    return sizes


def earlier(source: Source, mapping: Mapping) -> Restored | None:
    """The receipt beside the source, when it tells of the conversion that this one undoes."""
    receipt = read_receipt(source.path)
    if receipt is None:
        return None
    plan = receipt["plan"]
    if (plan["source"]["layout"], plan["target"]["layout"]) != (mapping.right.name, mapping.left.name):
        return None
    files = same_files(source.checkpoint.path, source.checkpoint.files())
    if receipt["target"]["files"] not in (files, bare_names(files)):
        return None
    return Restored(plan, receipt.get("complement") or {}, complement_path(source.path))


def restore(plan: Plan, earlier: Restored) -> None:
    """Give the target the names, buffers, left-behind leaves and config fields that the source once had."""
    had = earlier.plan["source_leaves"]
    kept = earlier.complement.get("tensors", {})
    steps = [only_names(step, had.keys() - set(kept)) for step in plan.bound.steps]
    folds = {fold["key"]: fold for step in earlier.plan["steps"] if (fold := step.get("folded"))}
    folds = {key: fold for key, fold in folds.items() if key in kept}
    plan.bound.steps = [_unfolded(_unshifted(_refilled(step, earlier), earlier), folds, earlier) for step in steps]
    moved = {side.key for step in plan.bound.steps for side in step.targets}
    recomputed = [leaf["key"] for leaf in earlier.plan["derived"] if leaf["key"] not in kept]
    owed = owed_derived(plan.mapping, recomputed, plan.names)
    plan.owed = [replace(leaf, spec=_spec(had[leaf.key])) for leaf in owed]
    for key in kept:
        if key in had and key not in moved:  # the others are what was cropped of a leaf
            plan.restored[key] = Leaf(key, _spec(had[key]))
    for key, value in earlier.complement.get("values", {}).items():
        plan.restored[key] = Leaf(key, None, from_json_value(value))
    merge(plan.target_config, earlier.complement.get("config", {}))


def _refilled(step: Step, earlier: Restored) -> Step:
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


def _unshifted(step: Step, earlier: Restored) -> Step:
    """The step with those leaves from the complement that it would shift back, and may round otherwise."""
    had, kept = earlier.plan["source_leaves"], earlier.complement.get("tensors", {})
    found = (side for side in step.targets if step.shifted and side.key in kept)
    return replace(step, kept=tuple(side.key for side in found if _spec(had[side.key]) == side.spec))


def _unfolded(step: Step, folds: dict[str, dict[str, Any]], earlier: Restored) -> Step:
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
