"""A declared deviation: the rest is proved under it, its size is shown apart, and it excuses nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from msgspec import UNSET
from safetensors.torch import load_file, save_file
from test_equivalence import NO_FAULTS, agrees
from test_schemas import validator

from convkit.checkpoint.digests import digest_value
from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.generate import generate
from convkit.oracles.opening import open_model, value_at, with_value
from convkit.verify.equivalence.check import equivalence
from convkit.verify.equivalence.measured import BOUND
from convkit.verify.roundtrip import roundtrip

torch.set_num_threads(1)

TO, BACK = ("--to", "cerebras/llama"), ("--to", "hf/llama")
LONG, SHORT = [1.0, 1.7, 2.4, 3.1, 3.8], [1.0, 1.1, 1.2, 1.3, 1.4]


def llama(folder: Path, **changes: Any) -> Path:
    """A small model of the real transformers, some of its config's fields changed."""
    generate("generated://llama?layers=2&kv_heads=3&positions=80&activation=gelu", folder)
    edit(folder / "config.json", lambda config: config.update(changes))
    return folder


def carry(source: Path, target: Path, *options: str) -> dict[str, Any]:
    """Convert by the command, and return the plan in the receipt."""
    assert main(["convert", str(source), str(target), *options]) == 0
    plan: dict[str, Any] = json.loads(target.with_name(f"{target.name}.convkit.json").read_text())["plan"]
    return plan


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with another activation, converted nearly, and converted back."""
    folder = tmp_path_factory.mktemp("made")
    carry(llama(folder / "hf", hidden_act="gelu_new", flavour="mild"), folder / "cs.mdl", *TO)
    carry(folder / "cs.mdl", folder / "back", *BACK)
    return folder


@pytest.fixture
def pair(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The same source and target, to be spoiled."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "hf", tmp_path / "cs.mdl"


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON or YAML file."""
    read, write = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    document = read(path.read_text())
    change(document)
    path.write_text(write(document))


def declare(target: Path, **changes: Any) -> None:
    """Change the deviation in a receipt as a forger would: the plan's digest fits."""

    def change(receipt: dict[str, Any]) -> None:
        receipt["plan"]["deviations"][0] |= changes
        receipt["plan_digest"] = digest_value("sha256", receipt["plan"])

    edit(target.with_name(f"{target.name}.convkit.json"), change)


def test_the_plan_and_the_receipt_declare_it(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    receipt = json.loads((made / "cs.mdl.convkit.json").read_text())
    (declared,) = receipt["plan"]["deviations"]
    reason = declared.pop("reason")
    assert declared == {"side": "source", "field": "hidden_act", "value": "gelu_new", "taken_as": "gelu"}
    assert receipt["plan"]["target"]["config"]["model"]["nonlinearity"] == "geglu"
    said = f"deviation: the source's hidden_act is 'gelu_new', and the target takes it as 'gelu': {reason}\n"
    assert main(["plan", str(made / "hf"), *TO]) == 0 and said in capsys.readouterr().out
    assert main(["convert", str(made / "hf"), str(tmp_path / "again.mdl"), *TO]) == 0
    printed = capsys.readouterr().err
    assert f"convkit: {said}" in printed
    assert "convkit: not fields of the source's config class, kept as complement: flavour\n" in printed
    assert main(["verify", str(made / "cs.mdl")]) == 0
    verified = capsys.readouterr().out
    assert verified.startswith("verify: yes, with a deviation: ") and said in verified


class TestEquivalence:
    def test_says_yes_and_names_it_with_its_own_size(self, made: Path) -> None:
        verdict = equivalence(made / "hf", made / "cs.mdl")
        assert verdict.state == "yes", verdict.problems
        (one,) = verdict.deviations or ()
        assert (one.side, one.field, one.value, one.taken_as) == ("source", "hidden_act", "gelu_new", "gelu")
        assert verdict.measured["max_rel"] <= verdict.bound["max_rel"] < one.measured["max_rel"]
        assert verdict.measured["deviation_max_rel"] == pytest.approx(one.measured["max_rel"], rel=0.1)
        assert len(verdict.faults) >= 12 and all(fault.caught for fault in verdict.faults)
        assert "wrong activation" in {fault.name for fault in verdict.faults}

    def test_the_command(self, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["equivalence", str(made / "hf"), str(made / "cs.mdl"), "--probe-length", "8"]) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[0].startswith("equivalence: yes, with a deviation: max_rel ")
        assert said[1].startswith("deviation: the source's hidden_act is 'gelu_new', and the target takes it as 'gelu'")
        assert "(by itself: max_rel " in said[1]

    def test_says_no_without_a_receipt(self, pair: tuple[Path, Path]) -> None:
        source, target = pair
        target.with_name("cs.mdl.convkit.json").unlink()
        verdict = equivalence(source, target, choices=NO_FAULTS)
        assert verdict.state == "no" and verdict.deviations is UNSET and ".ffn" in verdict.problems[0]

    def test_another_fault_is_not_excused(self, pair: tuple[Path, Path]) -> None:
        source, target = pair
        tensors = load_file(source / "model.safetensors")
        key = "model.layers.1.self_attn.v_proj.weight"
        tensors[key] = tensors[key] * (1 + 1e-4)
        save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
        verdict = equivalence(source, target)
        assert verdict.state == "no" and verdict.details["parted"]["point"] == "layers.1.v"
        assert [one.field for one in verdict.deviations or ()] == ["hidden_act"]

    def test_a_cast_is_measured_beside_it(self, made: Path, tmp_path: Path) -> None:
        carry(made / "hf", tmp_path / "cs.mdl", *TO, "--dtype", "bfloat16")
        verdict = equivalence(made / "hf", tmp_path / "cs.mdl", choices=NO_FAULTS)
        assert agrees(verdict), verdict.problems
        figures, bound = verdict.measured, verdict.bound["max_rel"]
        assert figures["max_rel"] <= bound < min(figures["cast_max_rel"], figures["deviation_max_rel"])

    def test_the_config_may_lie_in_the_checkpoint(self, made: Path, tmp_path: Path) -> None:
        carry(made / "hf", tmp_path / "cs", *TO, "--format", "orbax-v1")
        verdict = equivalence(made / "hf", tmp_path / "cs", choices=NO_FAULTS)
        assert agrees(verdict) and [one.field for one in verdict.deviations or ()] == ["hidden_act"]

    def test_other_values_are_planted_in_the_model_s_section(self, made: Path) -> None:
        cs = open_model(made / "cs.mdl")
        assert cs.oracle.config["nonlinearity"] == "geglu"
        assert cs.taking({"model.nonlinearity": "swiglu"}).config["nonlinearity"] == "swiglu"
        with pytest.raises(ConvkitError, match="it isn't a field of the model that is run"):
            cs.taking({"optimizer.nonlinearity": "swiglu"})
        parts = {"model": {"layers": [{"act": "relu"}, {"act": "relu"}]}}
        assert with_value(parts, ["model", "layers", "1", "act"], "silu")["model"]["layers"][1] == {"act": "silu"}
        assert value_at(parts, "model.layers.1.act") == "relu"

    def test_several_and_short_inputs_where_the_model_switches(self, tmp_path: Path) -> None:
        """Up to the original length transformers takes other factors, which longer inputs don't show, there or back."""
        rope = {"rope_type": "longrope", "factor": 5.0, "original_max_position_embeddings": 16, "rope_theta": 5000.0}
        rope |= {"short_factor": SHORT, "long_factor": LONG}
        source = llama(tmp_path / "hf", rope_parameters=rope)
        carry(source, tmp_path / "cs.mdl", *TO)
        carry(tmp_path / "cs.mdl", tmp_path / "back", *BACK)
        carry(llama(tmp_path / "both", rope_parameters=rope, hidden_act="gelu_new"), tmp_path / "both.mdl", *TO)
        verdict = equivalence(tmp_path / "both", tmp_path / "both.mdl", choices=NO_FAULTS)
        sizes = {one.field: one.measured["max_rel"] for one in verdict.deviations or ()}
        assert agrees(verdict) and BOUND < sizes["hidden_act"] < 1e-2 < sizes["rope_parameters.short_factor"]
        for ends, side in ((("hf", "cs.mdl"), "source"), (("cs.mdl", "back"), "target")):
            verdict = equivalence(*(tmp_path / end for end in ends), choices=NO_FAULTS)
            assert agrees(verdict), verdict.problems
            (one,) = verdict.deviations or ()
            assert (one.side, one.value, one.taken_as) == (side, SHORT, LONG)
            assert verdict.measured["short_max_rel"] <= verdict.bound["short_max_rel"] < one.measured["max_rel"]
            assert verdict.measured["deviation_max_rel"] == pytest.approx(one.measured["max_rel"], rel=0.1)


#: what is changed after the conversion, and how the check says that the receipt isn't about these checkpoints
SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "the target's config": (
        lambda folder: edit(folder / "cs.yaml", lambda config: config["model"].update(layer_norm_epsilon=1e-3)),
        "cs.yaml: model.layer_norm_epsilon is 0.001, the receipt says 3e-05",
    ),
    "the receipt's plan": (
        lambda folder: edit(
            folder / "cs.mdl.convkit.json", lambda receipt: receipt["plan"]["deviations"][0].update(taken_as="relu")
        ),
        "the receipt's plan doesn't have the digest that the receipt gives it",
    ),
    "the source's config": (
        lambda folder: edit(folder / "hf" / "config.json", lambda config: config.update(hidden_act="silu")),
        "the source's hidden_act is 'silu', the receipt says 'gelu_new'",
    ),
}


class TestNoLoophole:
    @pytest.mark.parametrize("what", SPOILED)
    def test_it_counts_only_for_the_checkpoints_of_the_receipt(self, what: str, pair: tuple[Path, Path]) -> None:
        source, target = pair
        spoil, said = SPOILED[what]
        spoil(source.parent)
        verdict = equivalence(source, target, choices=NO_FAULTS)
        assert verdict.state == "no" and verdict.deviations is UNSET
        (refused,) = [line for line in verdict.problems if "the receipt declares deviations, which don't count" in line]
        assert said in refused and refused in verdict.details["notes"]

    def test_a_model_that_needs_no_deviation_is_judged_plainly(self, pair: tuple[Path, Path]) -> None:
        source, target = pair
        edit(source / "config.json", lambda config: config.update(hidden_act="gelu"))
        verdict = equivalence(source, target, choices=NO_FAULTS)
        assert agrees(verdict) and verdict.deviations is UNSET
        assert "which don't count" in verdict.details["notes"][-1]

    @pytest.mark.parametrize("changes", [{"taken_as": "relu"}, {"field": "strange", "value": None, "taken_as": 3}])
    def test_the_rest_must_be_the_same_under_it(self, changes: dict[str, Any], pair: tuple[Path, Path]) -> None:
        source, target = pair
        declare(target, **changes)
        verdict = equivalence(source, target, choices=NO_FAULTS)
        assert verdict.state == "no" and "the models differ at " in verdict.problems[0]

    @pytest.mark.parametrize(
        "changes, said",
        [
            ({"side": "between"}, "the config that says it is in no file"),
            ({"field": "num_attention_heads", "value": 6, "taken_as": 7}, "transformers refuses"),
        ],
    )
    def test_what_cannot_be_run_is_not_shown(self, changes: dict[str, Any], said: str, pair: tuple[Path, Path]) -> None:
        source, target = pair
        declare(target, **changes)
        verdict = equivalence(source, target, choices=NO_FAULTS)
        assert verdict.state == "not shown" and not verdict.passed
        assert "what else differs can't be shown" in verdict.problems[0] and said in verdict.problems[0]
        assert "the models differ at " in verdict.problems[1]
        assert [one.measured for one in verdict.deviations or ()] == [{}]


class TestTheWayBack:
    def test_the_value_comes_back(self, made: Path) -> None:
        back = json.loads((made / "back" / "config.json").read_text())
        assert (back["hidden_act"], back["flavour"]) == ("gelu_new", "mild")
        (declared,) = json.loads((made / "back.convkit.json").read_text())["plan"]["deviations"]
        assert (declared["side"], declared["value"], declared["taken_as"]) == ("target", "gelu_new", "gelu")
        assert declared["reason"].startswith("as it was before the conversion that this one undoes; ModelZoo's geglu")

    @pytest.mark.parametrize("ends", [("hf", "cs.mdl"), ("cs.mdl", "back")])
    def test_the_round_trip_names_it(self, ends: tuple[str, str], made: Path) -> None:
        source, target = (made / end for end in ends)
        receipt = json.loads(target.with_name(f"{target.name}.convkit.json").read_text())
        verdict = roundtrip(source, target, receipt["plan"], receipt=receipt)
        assert verdict.state == "yes" and [one.field for one in verdict.deviations or ()] == ["hidden_act"]

    def test_equivalence_takes_the_target_as_the_source_says(self, made: Path) -> None:
        verdict = equivalence(made / "cs.mdl", made / "back", choices=NO_FAULTS)
        assert agrees(verdict), verdict.problems
        (one,) = verdict.deviations or ()
        assert one.side == "target" and one.measured["max_rel"] > BOUND

    def test_a_value_that_was_changed_since_stays(self, pair: tuple[Path, Path]) -> None:
        _, target = pair
        edit(target.with_name("cs.yaml"), lambda config: config["model"].update(nonlinearity="reglu"))
        plan = carry(target, target.with_name("again"), *BACK)
        assert json.loads((target.with_name("again") / "config.json").read_text())["hidden_act"] == "relu"
        assert "deviations" not in plan


def test_a_campaign_reports_it(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends = str(made / "hf"), str(made / "cs.mdl")
    (tmp_path / "receipt.json").write_bytes((made / "cs.mdl.convkit.json").read_bytes())
    for check in ("roundtrip", "equivalence"):
        capsys.readouterr()
        assert main([check, *ends, "--json"]) == 0
        (tmp_path / f"{check}.json").write_text(capsys.readouterr().out)
    assert main(["report", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "proved, with a deviation" in said and "1 of 1 conversion proved, 1 of them with a deviation\n" in said
    assert "hidden_act is 'gelu_new'" in said and "(by itself 3" in said
    page = (tmp_path / "report.html").read_text()
    assert "yes, with a deviation" in page and "tanh approximation" in page
    for name, document in (("receipt", "receipt"), ("verdict", "equivalence"), ("summary", "summary")):
        validator(name).validate(json.loads((tmp_path / f"{document}.json").read_text()))
