"""Checkpoints without bytes, because a plan reads only keys, shapes and a config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from convkit.checkpoint import Checkpoint, Leaf, TensorSpec
from convkit.config.condition import Condition
from convkit.errors import PlanError
from convkit.formats import open_checkpoint
from convkit.mapping import LeftBehind, Rule
from convkit.mapping import Mapping as KeyMapping
from convkit.mapping.keys import KeyTemplate
from convkit.plan import Options, Plan, Source, make_plan


class KeysOnly(Checkpoint):
    """An index of leaves with nothing behind it."""

    def __init__(self, leaves: Mapping[str, TensorSpec]) -> None:
        self.path = Path("keys-only")
        self.format = "safetensors"
        self.metadata = {}
        self.leaves = {key: Leaf(key, spec) for key, spec in leaves.items()}

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Any:
        raise AssertionError(f"{key} was read: plans are made without data")


def specs(path: Path) -> dict[str, TensorSpec]:
    """Every tensor of a checkpoint."""
    with open_checkpoint(path) as checkpoint:
        return {key: leaf.spec for key, leaf in checkpoint.leaves.items() if leaf.spec is not None}


def plan(leaves: Mapping[str, TensorSpec], config: Mapping[str, Any], to: str, **options: Any) -> Plan:
    """The plan for a checkpoint of these leaves."""
    source = Source(Path("keys-only"), KeysOnly(leaves), dict(config), Path("config"), {})
    return make_plan(source, to, options=Options(**options))


def claimants(mapping: KeyMapping, names: Mapping[str, Any], key: str) -> list[str]:
    """The rules that claim a key of the left side; what is left behind by the way counts where nothing else does."""
    claims, behind = [], []
    for rule in mapping.rules:
        if not isinstance(rule, Rule):
            if rule.side != "left" or not Condition.parse(rule.when).holds(names):
                continue
            templates: Iterable[str] = (rule.key,)
        elif Condition.parse(rule.when).holds(names):
            templates = rule.left + rule.left_copies
        else:
            continue
        if any(KeyTemplate.parse(text).match(key, names) is not None for text in templates):
            (behind if isinstance(rule, LeftBehind) else claims).append(str(rule))
    return claims or behind


def refused(leaves: Mapping[str, TensorSpec], config: Mapping[str, Any], to: str, **options: Any) -> str:
    """Why the plan is refused."""
    try:
        plan(leaves, config, to, **options)
    except PlanError as error:
        assert error.remedy
        return str(error)
    raise AssertionError("the plan isn't refused")


def carried(plan: Plan) -> set[tuple[str, str]]:
    """Which source key goes to which target key."""
    return {
        (source, target)
        for step in plan.bound.steps
        for source in [side.key for side in step.sources] + [name for name, _ in step.same] + list(step.unused)
        for target in [side.key for side in step.targets] + [name for name, _ in step.also]
    }
