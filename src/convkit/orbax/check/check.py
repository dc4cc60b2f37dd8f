"""Find which calls of Orbax's two APIs load a checkpoint, with other findings that a user should know.

The answers are predicted from the metadata, by :mod:`convkit.orbax.check.v0` and :mod:`convkit.orbax.check.v1`:
neither Orbax nor jax is imported, and no array is read. The calls can also be made, which confirms the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.orbax.check import calls, findings, run, v0, v1
from convkit.orbax.check.calls import Call, StepNames, Target, Verb
from convkit.orbax.check.findings import Finding
from convkit.orbax.check.outcome import Outcome, outcome
from convkit.orbax.check.pytree import Trees, trees_on
from convkit.state.orbax import layout, root
from convkit.state.orbax.layout import Found, recognise

#: calls that describe a checkpoint without loading it
_DESCRIBING = (Verb.IS_CHECKPOINT, Verb.METADATA, Verb.METADATA_ALL)


@dataclass(frozen=True)
class Check:
    """The table of a checkpoint. If nothing is recognised, ``found`` is None and ``problem`` says why."""

    path: Path
    devices: int
    found: Found | None
    problem: ConvkitError | None
    calls: tuple[Call, ...]
    predicted: tuple[Outcome, ...]
    findings: tuple[Finding, ...]
    names: StepNames | None = None
    ran: tuple[Outcome, ...] | None = None

    @property
    def disagreeing(self) -> list[tuple[Call, Outcome, Outcome]]:
        """Calls whose answer differs from the prediction: the call, the prediction, the answer of Orbax."""
        pairs = zip(self.calls, self.predicted, self.ran or (), strict=False)
        return [(call, guess, real) for call, guess, real in pairs if not agree(guess, real)]

    def to_use(self, api: str) -> Call | None:
        """The call that loads most of the checkpoint and needs the fewest arguments; None if none loads anything."""
        answered = self.ran or self.predicted
        loading = [
            (leaves(answer.value), -list(Target).index(call.target), call)
            for call, answer in zip(self.calls, answered, strict=True)
            if call.api == api and call.verb not in _DESCRIBING and answer.ok and answer.value
        ]
        return max(loading, key=lambda entry: entry[:2])[2] if loading else None


def check(path: Path, devices: int = 1) -> Check:
    """Predict the table of the checkpoint at ``path``, or of anything else there, for ``devices`` CPU devices."""
    try:
        found = recognise(path)
    except ConvkitError as error:
        return _checked(Check(path, devices, None, error, calls.CALLS, (), ()))
    if found.kind != layout.ROOT:
        known = findings.of_checkpoint(found, devices)
        # if v1 loads every item, the call without names does
        readable = [item.name for item in found.items.values() if item.name and findings.v1_loads(item)]
        some = readable if len(readable) < len(found.items) else ()
        return _checked(Check(path, devices, found, None, calls.of_items(found.pytrees, some), (), tuple(known)))
    steps = {step: one for step in found.steps if (one := _recognised(step))}
    latest = steps.get(found.steps[-1])
    names = root.common_format(step.name for step in found.steps)
    table = calls.of_root(latest.pytrees if latest else (), names)
    known = findings.of_root(found, steps, devices)
    checked = _checked(Check(path, devices, found, None, table, (), tuple(known), names))
    if checked.to_use("v1") or checked.to_use("v0"):
        return checked
    by_itself = Finding("", "no call loads it as a root", f"convkit orbax check {found.steps[-1]}: what loads a step")
    return replace(checked, findings=(*checked.findings, by_itself))


def confirmed(checked: Check, progress: Callable[[int, int], None] | None = None) -> Check:
    """Make the calls of a table in the installed Orbax; ``progress`` is called with the calls answered, and all.

    Raises:
        ConvkitError: Orbax isn't installed.
    """
    return replace(checked, ran=tuple(run.run(checked.calls, checked.path, checked.devices, progress)))


def predict(call: Call, path: Path, devices: int = 1) -> Outcome:
    """Predict the answer of one call."""
    return _predict(call, path, trees_on(devices))


def _predict(call: Call, path: Path, trees: Trees) -> Outcome:
    return outcome(lambda: (v1 if call.api == "v1" else v0).predict(call, path, trees))


def agree(predicted: Outcome, ran: Outcome) -> bool:
    """Whether a call gave the predicted answer: the same error, or the same value."""
    return predicted.result == ran.result and predicted.value == ran.value


def _checked(started: Check) -> Check:
    trees = trees_on(started.devices)
    predicted = tuple(_predict(call, started.path, trees) for call in started.calls)
    of_calls = findings.of_calls(started.calls, predicted)
    return replace(started, predicted=predicted, findings=(*started.findings, *of_calls))


def _recognised(path: Path) -> Found | None:
    try:
        return recognise(path)
    except ConvkitError:
        return None


def leaves(value: Any) -> int:
    """Count the leaves of a described value."""
    if isinstance(value, dict | list):
        return sum(map(leaves, value.values() if isinstance(value, dict) else value))
    return 1
