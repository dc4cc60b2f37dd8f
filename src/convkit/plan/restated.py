"""Values of a target that follow from its source and differ from the source's own: of training state.

The source's values are kept as complement. They come back where the conversion is undone, unless they were changed
since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from convkit.checkpoint import Checkpoint, Leaf
from convkit.mapping import Mapping as OfLayouts
from convkit.mapping import Restated
from convkit.mapping.keys import KeyTemplate
from convkit.plan.earlier import Earlier
from convkit.plan.step import Bound, Stated, Step
from convkit.state.cerebras.repair import scheduler_steps

#: what precedes the name that a model has for a parameter
_MODEL = "model."
_RECORD = "__metadata__"

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class State:
    """What a value may follow from.

    Attributes:
        leaves: of the source.
        checkpoint: the source; None where it is the output of another mapping.
        bound: which of them become what.
        warnings: remarks, which grow.
    """

    leaves: Mapping[str, Leaf]
    checkpoint: Checkpoint | None
    bound: Bound
    warnings: list[str]

    @property
    def values(self) -> dict[str, Any]:
        """The values that are carried as they are, by the names of the target."""
        return {step.targets[0].key: self.leaves[step.sources[0].key].value for step in self.bound.steps if step.value}


Found = Iterator[tuple[str, Stated]]


def restated(mapping: OfLayouts, state: State) -> Bound:
    """What is bound, with the values that the mapping's rules restate."""
    found: dict[str, Stated] = {}
    for rule in mapping.rules:
        if isinstance(rule, Restated) and rule.to_right is not None:
            found |= WAYS[rule.what](state, rule.to_right)
    return _stated(state.bound, found)


def _stated(bound: Bound, found: Mapping[str, Stated]) -> Bound:
    gone = {step.targets[0].key: step for step in bound.steps if step.value and step.targets[0].key in found}
    behind = {step.sources[0].key: found[key].why for key, step in gone.items()}
    kept = [step for step in bound.steps if not (step.value and step.targets[0].key in found)]
    return replace(bound, steps=kept, left_behind=bound.left_behind | behind, stated={**bound.stated, **found})


def as_before(bound: Bound, leaves: Mapping[str, Leaf], earlier: Earlier) -> Bound:
    """What is bound in a conversion that undoes an earlier one: values that this one stated, and nobody has changed
    since, give way to those that it kept.
    """
    stated = earlier.plan.stated
    same = {key for key, value in stated.items() if key in leaves and leaves[key].value == value}

    def undone(step: Step) -> bool:
        return step.value and step.sources[0].key in same

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
    if state.checkpoint is None:
        return
    repairs, numbers, warnings = scheduler_steps(state.checkpoint)
    state.warnings.extend(warnings)
    for repair in repairs:
        if repair.key in numbers:
            remedy = "convkit cerebras fix-checkpoint-spec sets it"
            state.warnings.append(f"{repair.key} is {repair.before}, and should be {repair.after}; {remedy}")
        else:
            yield repair.key, Stated(repair.after, repair.why)


def _record(state: State, arguments: Arguments) -> Found:
    """An entry of the checkpoint's own record of what wrote it."""
    place = len({key.split(".")[1] for key in state.leaves if key.startswith(f"{_RECORD}.")})
    for name, value in arguments["entry"].items():
        yield f"{_RECORD}.{place}.{name}", Stated(value, "what this conversion brings it to")


#: what a rule calls them
WAYS: dict[str, Callable[[State, Arguments], Found]] = {"names": _names, "steps": _steps, "record": _record}
