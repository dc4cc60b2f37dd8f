"""A declared deviation: the rest is proved under it, its size is shown apart, and it excuses nothing else."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import UNSET
from safetensors.torch import load_file, save_file

from convkit.cli import main
from convkit.config import ConfigTable, Converted
from convkit.config.answer import Deviation
from convkit.config.tree import dig, plant
from convkit.execute import convert
from convkit.generate import generate
from convkit.mapping import Chain, Mapping, inverse
from convkit.mappings import find_mapping
from convkit.plan import Options, make_plan, open_source
from convkit.verify.equivalence.check import equivalence
from convkit.verify.receipts import verify
from convkit.verify.roundtrip import roundtrip
from convkit.verify.verdict import Verdict

torch.set_num_threads(1)

REASON = "the gate of this layout has no other curve"


@dataclass(frozen=True)
class Nearly(ConfigTable):
    """A table that converts some values of the left config as if they were others, and says so."""

    nearly: tuple[tuple[str, Any, Any], ...] = ()

    def convert(self, config: Any, facts: Any = None, release: Any = ()) -> Converted:
        if self.reverse:
            return super().convert(config, facts, release)
        taken, found = copy.deepcopy(dict(config)), []
        for field, value, taken_as in self.nearly:
            if dig(taken, field) == value:
                plant(taken, field, taken_as)
                found.append(Deviation(field, value, taken_as, REASON))
        return replace(super().convert(taken, facts, release), deviations=tuple(found))


def nearly(*values: tuple[str, Any, Any]) -> Mapping:
    """Llama's mapping, for which ``values`` are deviations."""
    llama = find_mapping("hf/llama", "cerebras/llama")
    assert isinstance(llama, Mapping)
    return replace(
        llama, config=Nearly(**{f.name: getattr(llama.config, f.name) for f in fields(llama.config)}, nearly=values)
    )


TANH = nearly(("hidden_act", "gelu_new", "gelu"))


def llama(folder: Path, **config: Any) -> Path:
    """A small model of the real transformers, some of its config's fields changed."""
    generate("generated://llama?layers=2&kv_heads=3&positions=80&activation=gelu", folder)
    changed = json.loads((folder / "config.json").read_text())
    for path, value in config.items():
        plant(changed, path, value)
    (folder / "config.json").write_text(json.dumps(changed))
    return folder


def carry(source: Path, target: Path, mapping: Mapping | Chain, **options: Any) -> dict[str, Any]:
    with open_source(source) as opened:
        return convert(opened, make_plan(opened, mapping, options=Options(**options)), target)


def judged(check: str, source: Path, target: Path) -> Verdict:
    if check == "equivalence":
        return equivalence(source, target)
    receipt = json.loads(target.with_name(f"{target.name}.convkit.json").read_text())
    return roundtrip(source, target, receipt["plan"], receipt=receipt)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with another activation, converted nearly, and converted back."""
    folder = tmp_path_factory.mktemp("made")
    carry(llama(folder / "hf", hidden_act="gelu_new"), folder / "cs.mdl", TANH)
    carry(folder / "cs.mdl", folder / "back", inverse(TANH))
    return folder


@pytest.fixture
def pair(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The same source and target, to be spoiled."""
    for path in made.iterdir():
        if path.name.startswith(("hf", "cs")):
            (tmp_path / path.name).symlink_to(path) if path.is_dir() else (tmp_path / path.name).write_bytes(
                path.read_bytes()
            )
    return tmp_path / "hf", tmp_path / "cs.mdl"


def test_the_plan_and_the_receipt_declare_it(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    receipt = json.loads((made / "cs.mdl.convkit.json").read_text())
    declared = {"field": "hidden_act", "value": "gelu_new", "taken_as": "gelu", "reason": REASON, "side": "source"}
    assert receipt["plan"]["deviations"] == [declared]
    assert receipt["plan"]["target"]["config"]["model"]["nonlinearity"] == "geglu"
    verdict = verify(made / "cs.mdl")
    assert verdict.state == "yes" and [one.field for one in verdict.deviations or ()] == ["hidden_act"]
    assert main(["verify", str(made / "cs.mdl")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("verify: yes, with a deviation: ")
    assert f"deviation: the source's hidden_act is 'gelu_new', and the target takes it as 'gelu': {REASON}\n" in said


class TestEquivalence:
    def test_says_yes_and_names_it_with_its_own_size(self, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
        verdict = equivalence(made / "hf", made / "cs.mdl")
        assert verdict.state == "yes", verdict.problems
        (one,) = verdict.deviations or ()
        assert (one.side, one.field, one.value, one.taken_as) == ("source", "hidden_act", "gelu_new", "gelu")
        assert verdict.measured["max_rel"] <= verdict.bound["max_rel"] < one.measured["max_rel"]
        assert verdict.measured["deviation_max_rel"] == pytest.approx(one.measured["max_rel"], rel=0.1)
        assert len(verdict.faults) >= 12 and all(fault.caught for fault in verdict.faults)
        assert "wrong activation" in {fault.name for fault in verdict.faults}

    def test_says_no_without_a_receipt(self, pair: tuple[Path, Path]) -> None:
        source, target = pair
        target.with_name("cs.mdl.convkit.json").unlink()
        verdict = equivalence(source, target)
        assert verdict.state == "no" and verdict.deviations is UNSET and "ffn" in verdict.problems[0]

    def test_another_fault_is_no_deviation(self, pair: tuple[Path, Path]) -> None:
        source, target = pair
        tensors = load_file(source / "model.safetensors")
        key = "model.layers.1.self_attn.v_proj.weight"
        tensors[key] = tensors[key] * (1 + 1e-4)
        other = source.with_name("other")
        other.mkdir()
        (other / "config.json").write_bytes((source / "config.json").read_bytes())
        save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
        verdict = equivalence(other, target)
        assert verdict.state == "no" and verdict.details["parted"]["point"] == "layers.1.v"
        assert [one.field for one in verdict.deviations or ()] == ["hidden_act"]
