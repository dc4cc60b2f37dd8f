"""Every edge between two releases that was recorded from the original: tensors, values, and names below a prefix.

What the original does otherwise is corrected in what it wrote, by one rule for each of its mistakes; all else is equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from goldens import golden_dir
from msgspec.structs import replace

from convkit.checkpoint.wrapping import Unwrapped, Wrapping
from convkit.errors import ConfigError
from convkit.mapping.layout import parse_release
from convkit.plan import Options, Plan, make_plan, open_source
from convkit.plan.source import Source

#: a recorded model -> its layout, where it isn't called as that
LAYOUTS = {
    "bert-sequence-classifier": "bert",
    "bert-token-classifier": "bert",
    "codegen": "gptj",
    "falcon_7b": "falcon",
}
MODELS = (
    *("bert", "bert-sequence-classifier", "bloom", "codegen", "falcon_7b", "gpt-neox", "gpt2", "llama", "roberta"),
    "t5",
)
#: what we write and the original doesn't, or writes otherwise, by what is in the names; and why
OURS = {
    "decoder.block.2.layer.0.SelfAttention.relative_attention_bias": "the original counts the decoder's blocks by the "
    "encoder's; release 1.6 has a table in each",
    "_schedulers.": "the original leaves the steps of inner schedulers as they were",
    "__metadata__": "the record doesn't repeat the yaml, which lies beside; between 1.6 and 1.7 there is none",
}
#: what the original refuses only below a prefix, between 1.6 and the others
REFUSED = "Unable to match all keys"
#: the prefix that it writes where it doesn't keep that of the source: it takes it off, or doubles it
PREFIXES = {("t5", "1.8", "1.6"): "", ("t5", "1.8", "1.7"): "", ("t5", "1.7", "1.8"): "model.model."}
BELOW = "model."


def below(key: str) -> str:
    """What a leaf is called where all names of parameters are below a prefix."""
    part = next((part for part in ("model.", "optimizer.state.") if key.startswith(part)), None)
    return f"{part}{BELOW}{key.removeprefix(part)}" if part else key


class Below(Wrapping):
    """What lies below a prefix."""

    def plain(self, key: str) -> str:
        return below(key)


@dataclass(frozen=True)
class Edge:
    """A recorded run of the original, and what it read."""

    folder: Path

    @cached_property
    def result(self) -> dict[str, Any]:
        return json.loads((self.folder / "result.json").read_text())

    @property
    def releases(self) -> tuple[str, str]:
        return self.result["src"].removeprefix("cs-"), self.result["tgt"].removeprefix("cs-")

    @property
    def below(self) -> bool:
        return self.folder.name.endswith("-prefixed")

    @property
    def full(self) -> Edge:
        """The same edge without a prefix."""
        return Edge(self.folder.with_name(self.folder.name.removesuffix("-prefixed")))

    @property
    def layout(self) -> str:
        model = self.folder.parent.name
        return f"cerebras/{LAYOUTS.get(model, model)}"

    def state(self, end: str) -> Path:
        """A file of the recorded source without a prefix."""
        name = Path(self.result["input"][0]).stem.removesuffix("-prefixed")
        return self.folder.parent / "state" / f"{name}.{end}"

    @cached_property
    def had(self) -> dict[str, Any]:
        """All leaves of the source."""
        return dict(np.load(self.state("npz"))) | values(json.loads(self.state("scalars.json").read_text()))

    @cached_property
    def made(self) -> dict[str, Any]:
        """All leaves of the original's output, by names without a prefix."""
        if self.below and not (self.folder / "out.scalars.json").exists():
            return self.full.made  # it was refused
        arrays = self.folder / "out.npz"
        if self.below:
            model = {key: array for key, array in self.full.made.items() if isinstance(array, np.ndarray)}
        else:
            # where every tensor is the input's, none was recorded
            model = dict(np.load(arrays if arrays.exists() else self.state("npz")))
        found = values(json.loads((self.folder / "out.scalars.json").read_text()))
        return model | {key: value.removeprefix(BELOW) if is_name(key) else value for key, value in found.items()}

    def plan(self) -> Plan:
        """What we make of it."""
        before, after = map(parse_release, self.releases)
        with open_source(self.state("mdl")) as source:
            options = Options(release=after, from_release=before, restore=False)
            return make_plan(prefixed(source) if self.below else source, self.layout, self.layout, options)


def is_name(key: str) -> bool:
    return ".param_groups." in key and ".params." in key


def values(scalars: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in scalars.items() if value not in ([], {})}


def prefixed(source: Source) -> Source:
    checkpoint = Unwrapped(source.checkpoint, Below())
    for key, leaf in checkpoint.leaves.items():
        if is_name(key):
            checkpoint.leaves[key] = replace(leaf, value=f"{BELOW}{leaf.value}")
    return replace(source, checkpoint=checkpoint)


def edges(model: str, says: str = "ok") -> list[Edge]:
    folder = golden_dir("cerebras_more.tar.xz", f"upgrade/{model}/") / "upgrade" / model
    found = [Edge(path) for path in sorted(folder.glob("cs-*__cs-*"))]
    return [edge for edge in found if says in edge.result["status"]]


def corrected(edge: Edge, renamed: Mapping[str, str]) -> dict[str, Any]:
    """What the original wrote, where it had kept the state of the training, and renamed its optimizer's parameters."""
    made = dict(edge.made)
    if "optimizer" not in edge.result.get("top_out", edge.full.result["top_out"]):
        made |= {key: value for key, value in edge.had.items() if not key.startswith("model.")}
        if edge.releases[0] < "2.0":
            made["lr_scheduler.last_epoch"] = int(made["global_step"])
    state = "optimizer.state."
    for old, new in renamed.items():
        for key in [key for key in made if key.startswith(f"{state}{old}.")]:
            made[f"{state}{new}{key.removeprefix(state + old)}"] = made.pop(key)
    return {key: renamed.get(value, value) if is_name(key) else value for key, value in made.items()}


def parameters(plan: Plan, prefix: str) -> dict[str, str]:
    """What each parameter is called: before -> after."""
    pairs = ((step.sources[0].key, step.targets[0].key) for step in plan.bound.steps)
    return {old.removeprefix(prefix): new.removeprefix(prefix) for old, new in pairs if old.startswith(prefix)}


def compared(edge: Edge) -> None:
    """Raise what differs."""
    plan, name = edge.plan(), below if edge.below else str
    of = {side.key: step.sources[0].key for step in plan.bound.steps for side in step.targets}
    of |= {also: step.sources[0].key for step in plan.bound.steps for also, _ in step.also}
    had = {name(key): value for key, value in edge.had.items()}
    theirs = {name(key): value for key, value in corrected(edge, parameters(plan, name("model."))).items()}
    for key, leaf in plan.target_leaves.items():
        if any(part in key for part in OURS) or leaf.value in ([], {}):
            theirs.pop(key, None)
            continue
        assert key in theirs, (edge.folder.name, key)
        expected = theirs.pop(key)
        if leaf.spec and key in of:
            assert np.array_equal(had[of[key]], expected), (edge.folder.name, key)
        elif leaf.spec is None:
            assert (f"{BELOW}{expected}" if edge.below and is_name(key) else expected) == leaf.value, (edge, key)
    assert [key for key in theirs if not any(part in key for part in OURS)] == [], edge.folder.name


@pytest.mark.golden
@pytest.mark.parametrize(
    "model", [pytest.param(model, marks=() if model == "bloom" else pytest.mark.slow) for model in MODELS]
)
def test_recorded_edges(model: str) -> None:
    found = [*edges(model), *edges(model, REFUSED)]
    assert found
    for edge in found:
        compared(edge)

    for edge in found:
        if edge.below and "keys_added" in edge.result:
            theirs = PREFIXES.get((model, *edge.releases), BELOW)
            renamed = {key.removeprefix("model.") for key in edge.full.made if key.startswith("model.")}
            before = {f"{BELOW}{key.removeprefix('model.')}" for key in edge.had if key.startswith("model.")}
            after = (before - {*edge.result["keys_removed"]}) | {*edge.result["keys_added"]}
            assert after == {f"{theirs}{key}" for key in renamed}, edge.folder.name


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_to_transformers_from_below_a_prefix(model: str) -> None:
    """It makes no difference, in any release that was recorded; 2.0 has no way there in the original."""
    state = golden_dir("cerebras_more.tar.xz", f"upgrade/{model}/") / "upgrade" / model / "state"
    layout = LAYOUTS.get(model, model)
    to = "hf/codegen" if model == "codegen" else f"hf/{layout.replace('-', '_') if layout == 'gpt-neox' else layout}"
    for path in sorted(state.glob("cs-2.?.mdl")):
        options = Options(from_release=parse_release(path.stem.removeprefix("cs-")), restore=False)
        with open_source(path) as source:
            full, deep = (make_plan(one, to, f"cerebras/{layout}", options) for one in (source, prefixed(source)))
        assert made_of(deep, path.stem) == {key: below(old) for key, old in made_of(full, path.stem).items()}


def made_of(plan: Plan, why: str) -> dict[str, str]:
    """A source's leaf for each of the target's."""
    stages = [
        {side.key: step.sources[0].key for step in one.bound.steps for side in step.targets}
        for one in plan.through or (plan,)
    ]
    found = {key: key for key in stages[-1]}
    for stage in reversed(stages):
        found = {key: stage[old] for key, old in found.items()}
    assert found, why
    return found


@pytest.mark.golden
def test_what_both_refuse() -> None:
    for edge in edges("bert", "pooler_nonlinearity")[:2]:
        with pytest.raises(ConfigError, match="pooler_nonlinearity"):
            edge.plan()
