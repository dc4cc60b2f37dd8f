"""Values of a target that follow from its source and differ from the source's own: of training state.

The source's values are kept as complement. They come back where the conversion is undone, unless they were changed
since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from convkit.checkpoint import Checkpoint, Leaf
from convkit.checkpoint.tensors import value_dtype
from convkit.config.tree import dig
from convkit.mapping import Mapping as OfLayouts
from convkit.mapping import Restated
from convkit.mapping.keys import KeyTemplate
from convkit.plan.earlier import Earlier
from convkit.plan.step import Bound, DerivedLeaf, Stated, Step

#: what precedes the name that a model has for a parameter
_MODEL = "model."
_RECORD = "__metadata__"

Arguments = Mapping[str, Any]


class State(Struct, frozen=True):
    """What a value may follow from.

    Attributes:
        leaves: of the source.
        checkpoint: the source; None where it is the output of another mapping.
        bound: which of them become what.
        warnings: remarks, which grow.
        config: of the source.
        near: folders in which what a config names may lie.
    """

    leaves: Mapping[str, Leaf]
    checkpoint: Checkpoint | None
    bound: Bound
    warnings: list[str]
    config: Mapping[str, Any] = field(default_factory=dict)
    near: tuple[Path, ...] = ()

    @property
    def values(self) -> dict[str, Any]:
        """The values that are carried as they are, by the names of the target."""
        return {step.targets[0].key: self.leaves[step.sources[0].key].value for step in self.bound.steps if step.value}

    def number(self, key: str) -> int | None:
        """A whole number, be it a value or a tensor; None if it isn't there."""
        leaf = self.leaves.get(key)
        if leaf is None or (leaf.spec and (leaf.spec.size != 1 or self.checkpoint is None)):
            return None
        if leaf.spec and self.checkpoint:
            return int(self.checkpoint.read(key).view(value_dtype(leaf.spec.dtype)).item())
        return leaf.value if isinstance(leaf.value, int) else None


class Named(Struct, frozen=True):
    """Another name of a leaf of the target; or an independent copy of it."""

    of: str
    copy: bool = False


class Number(Struct, frozen=True):
    """The number in a tensor of the source's shape and dtype, and why."""

    value: int
    why: str


#: values to state, tensors to fill, and further names to write, by key
Found = Iterator[tuple[str, Stated | Number | Named]]


def restated(mapping: OfLayouts, state: State) -> Bound:
    """What is bound, with the values that the mapping's rules restate."""
    values: dict[str, Stated] = {}
    numbers: dict[str, Number] = {}
    names: dict[str, Named] = {}
    for rule in mapping.rules:
        if isinstance(rule, Restated) and rule.to_right is not None:
            for key, found in WAYS[rule.what](state, rule.to_right):
                if isinstance(found, Stated):
                    values[key] = found
                elif isinstance(found, Number):
                    numbers[key] = found
                else:
                    names[key] = found
    return _tied(_filled(_stated(state.bound, values), numbers), names)


def _stated(bound: Bound, found: Mapping[str, Stated]) -> Bound:
    gone = {step.targets[0].key: step for step in bound.steps if step.value and step.targets[0].key in found}
    behind = {step.sources[0].key: found[key].why for key, step in gone.items()}
    kept = [step for step in bound.steps if not (step.value and step.targets[0].key in found)]
    return replace(bound, steps=kept, left_behind=bound.left_behind | behind, stated={**bound.stated, **found})


def _filled(bound: Bound, found: Mapping[str, Number]) -> Bound:
    """What is bound, with other numbers in tensors, which keep their shapes and dtypes."""
    gone = {side.key: step for step in bound.steps if not step.value for side in step.targets if side.key in found}
    filled = {
        key: DerivedLeaf(key, step.targets[0].spec, "filled", {"value": found[key].value}) for key, step in gone.items()
    }
    behind = {step.sources[0].key: found[key].why for key, step in gone.items()}
    kept = [step for step in bound.steps if not (set(filled) & {side.key for side in step.targets})]
    return replace(bound, steps=kept, left_behind=bound.left_behind | behind, filled={**bound.filled, **filled})


def _tied(bound: Bound, names: Mapping[str, Named]) -> Bound:
    """What is bound, with further names of leaves, in whose places the source has nothing."""
    if not names:
        return bound
    empty = [step for step in bound.steps if step.value and step.targets[0].key in names]
    behind = {step.sources[0].key: f"another name of {names[step.targets[0].key].of}" for step in empty}
    kept = (step for step in bound.steps if not (step.value and step.targets[0].key in names))
    return replace(bound, steps=[_further(step, names) for step in kept], left_behind=bound.left_behind | behind)


def _further(step: Step, names: Mapping[str, Named]) -> Step:
    own = step.targets[0].key
    also = [name for name, one in names.items() if one.of == own]
    copies = [name for name in also if names[name].copy]
    return replace(step, also=(*step.also, *((name, own) for name in also)), copies=(*step.copies, *copies))


def as_before(state: State, earlier: Earlier) -> Bound:
    """What is bound in a conversion that undoes an earlier one: values that this one stated, and nobody has changed
    since, give way to those that it kept.
    """
    bound, leaves, had = state.bound, state.leaves, earlier.plan.source_leaves
    stated = earlier.plan.stated
    same = {key for key, value in stated.items() if key in leaves and leaves[key].value == value}
    same |= {key for key, number in earlier.plan.filled.items() if state.number(key) == number}
    tied = {key for key, leaf in earlier.plan.target_leaves.items() if leaf.origin == "tied"}
    named = {key for key in tied if key not in had or had[key].spec is None}

    def undone(step: Step) -> bool:
        key = step.sources[0].key
        return key in same or (not step.value and key in named and step.targets[0].key == key)

    behind = dict.fromkeys((step.sources[0].key for step in bound.steps if undone(step)), "the value before comes back")
    return replace(
        bound, steps=[step for step in bound.steps if not undone(step)], left_behind=bound.left_behind | behind
    )


# --- the ways -----------------------------------------------------------------------------------------------------


def _names(state: State, arguments: Arguments) -> Found:
    """Texts that are names of parameters, which change as the parameters do."""
    template = KeyTemplate.parse(arguments["keys"])
    moved = {side.key: step.targets[0].key for step in state.bound.steps if not step.value for side in step.sources}
    for key, value in state.values.items():
        after = moved.get(f"{_MODEL}{value}", "") if isinstance(value, str) else ""
        name = after.removeprefix(_MODEL)
        if name not in (after, value) and template.match(key, {}) is not None:
            yield key, Stated(name, f"the parameter is called {name}")


def _steps(state: State, _: Arguments) -> Found:
    """The step of each scheduler, which follows from that of the training."""
    from convkit.state.cerebras.repair import scheduler_steps

    if state.checkpoint is None:
        return
    repairs, numbers, warnings = scheduler_steps(state.checkpoint)
    state.warnings.extend(warnings)
    for repair in repairs:
        yield repair.key, (Number if repair.key in numbers else Stated)(repair.after, repair.why)


def _record(state: State, arguments: Arguments) -> Found:
    """An entry of the checkpoint's own record of what wrote it."""
    place = len({key.split(".")[1] for key in state.leaves if key.startswith(f"{_RECORD}.")})
    for name, value in arguments["entry"].items():
        yield f"{_RECORD}.{place}.{name}", Stated(value, "what this conversion brings it to")


def _aliases(state: State, arguments: Arguments) -> Found:
    """Names of one tensor, of which the source has stored some, and for the others nothing."""
    for pair, unless in arguments["pairs"]:
        if unless and dig(state.config, unless) is False:
            continue
        there = [key for key in pair if (leaf := state.leaves.get(key)) and leaf.spec]
        if len(there) == 1:
            yield next(key for key in pair if key != there[0]), Named(there[0])


def _copies(state: State, arguments: Arguments) -> Found:
    """Copies of one leaf, as many as there are layers, of which the target reads the first."""
    for layers, name in arguments["copied"]:
        numbers = {int(bound["i"]) for _, bound in KeyTemplate.parse(layers).matching(state.leaves, {})}
        made = {step.targets[0].key for step in state.bound.steps}
        for prefix in {key.removesuffix(name.format(i=0)) for key in made if key.endswith(name.format(i=0))}:
            first = prefix + name.format(i=0)
            yield from ((prefix + name.format(i=i), Named(first, copy=True)) for i in sorted(numbers) if i)


def _sparsity(state: State, arguments: Arguments) -> Found:
    """How far each parameter's schedule of sparsity is, which groups of parameters had; groups can't be made of it."""
    if "unsaid" in arguments:
        unsaid = [key for key, _ in KeyTemplate.parse(arguments["unsaid"]).matching(state.leaves, {})]
        if unsaid:
            state.warnings.append(
                f"{', '.join(unsaid)}: the target's release has a step for each group of parameters, which this "
                "doesn't show: set them before the training goes on"
            )
        return
    template = KeyTemplate.parse(arguments["names"])
    for key, bound in template.matching(state.leaves, {}):
        index = state.number(arguments["step"].format(g=bound["g"]))
        if index is not None:
            name = state.leaves[key].value
            yield arguments["index"].format(name=name), Stated(index, "the step of its group of parameters")


def _loader(state: State, arguments: Arguments) -> Found:
    """The state of the data loader, which release 1.9 kept in files of its own, in the folder that the yaml names."""
    from convkit.state.cerebras.loader_state import BRANCH, flat_state, iterable_state, map_state, read_workers

    said, kind = (dig(state.config, arguments[field]) for field in ("folder", "kind"))
    if not isinstance(said, str) or not said:
        return
    later = "convkit cerebras data-iter-state puts it into a checkpoint"
    folder = next((place / said for place in state.near if (place / said).is_dir()), None)
    if any(key.split(".")[0] == BRANCH for key in state.leaves):
        state.warnings.append(f"{said} isn't read: the checkpoint has the state of a data loader already")
    elif folder is None:
        state.warnings.append(f"there is no folder {said}, where the yaml says that the loader's state is: {later}")
    elif kind not in arguments["kinds"]:
        state.warnings.append(f"{said} isn't read: whether {kind} is a map-style loader isn't known: {later}")
    else:
        workers = read_workers(folder, allow_missing=True)
        if workers.missing:
            state.warnings.append(f"worker {', '.join(workers.missing)} has no file in {said}: left out")
        branch = map_state(workers, 0) if arguments["kinds"][kind] == "map" else iterable_state(workers)
        why = f"from {said} at data step {workers.step}"
        yield from ((leaf.key, Stated(leaf.value, why)) for leaf in flat_state(branch, BRANCH))


#: what a rule calls them
WAYS: dict[str, Callable[[State, Arguments], Found]] = {
    "aliases": _aliases,
    "copies": _copies,
    "loader": _loader,
    "names": _names,
    "record": _record,
    "sparsity": _sparsity,
    "steps": _steps,
}
