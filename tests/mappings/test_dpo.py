"""Models as DPO trains them: a policy, and the reference that it started as."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from goldens import golden_dir
from recorded import LEFT_OUT, arrays

from convkit.errors import UsageError
from convkit.execute import convert
from convkit.formats import open_checkpoint
from convkit.mappings import all_mappings, find_mapping
from convkit.mappings.cerebras.dpo import FAMILIES
from convkit.oracles import get_oracle, layouts
from convkit.oracles.opening import detect_layout as detected
from convkit.plan import Options, Plan, make_plan, open_source
from convkit.plan.detect import detect_layout
from convkit.verify.roundtrip import roundtrip

torch.set_num_threads(1)

POLICY, REFERENCE = "model.policy_model.model.", "model.ref_model.model."
YAML = {"hidden_size": 8, "num_heads": 2, "vocab_size": 5, "filter_size": 6, "num_hidden_layers": 1, "rotary_dim": 4,
        "nonlinearity": "swiglu", "norm_type": "rmsnorm", "position_embedding_type": "rotary", "use_ffn_bias": False,
        "use_ffn_bias_in_attention": False, "use_projection_bias_in_attention": False,
        "share_embedding_weights": False}  # fmt: skip


@pytest.fixture(scope="module")
def golden() -> Path:
    return golden_dir("cerebras.tar.gz") / "dpo_llama"


def converted(source: Path, to: str, target: Path, **options: Any) -> Plan:
    with open_source(source) as opened:
        plan = make_plan(opened, to, options=Options(**options))
        receipt = convert(opened, plan, target, threads=1)
    assert roundtrip(source, target, receipt["plan"], receipt=receipt).passed
    return plan


def tensors(path: Path) -> dict[str, bytes]:
    with open_checkpoint(path) as found:
        return {key: found.read(key).tobytes() for key, leaf in found.leaves.items() if leaf.spec is not None}


def equal(path: Path, theirs: dict[str, np.ndarray]) -> None:
    assert tensors(path) == {key: array.tobytes() for key, array in theirs.items()}


@pytest.mark.golden
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_what_the_original_made(file: str, golden: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mdl"
    converted(golden / "hf" / file, "cerebras/dpo-llama", out, release=(2, 9))
    equal(out, arrays(golden / "hf-cs-2.9-dpo" / "flat.npz"))
    theirs = yaml.safe_load((golden / "hf-cs-2.9-dpo" / "config_to_cs-2.9-dpo.yaml").read_text())["model"]
    ours = yaml.safe_load(out.with_suffix(".yaml").read_text())["model"]
    assert {name: ours.get(name) for name in theirs} == theirs | dict.fromkeys(LEFT_OUT)


@pytest.mark.golden
def test_the_reference_has_slopes_too(tmp_path: Path) -> None:
    """ModelZoo stores those of ALiBi, which transformers computes."""
    converted(golden_dir("cerebras.tar.gz") / "bloom" / "hf", "cerebras/dpo-bloom", tmp_path / "out.mdl")
    found, slopes = tensors(tmp_path / "out.mdl"), "embedding_layer.position_embed_helper.slopes"
    assert found[POLICY + slopes] == found[REFERENCE + slopes]


@pytest.mark.golden
def test_the_way_back_of_what_the_original_made(golden: Path, tmp_path: Path) -> None:
    source = golden / "hf-cs-2.9-dpo" / "model_to_cs-2.9-dpo.mdl"
    converted(source, "hf", tmp_path / "hf")
    equal(tmp_path / "hf", arrays(golden / "cs-2.9-dpo-hf" / "flat.npz"))
    theirs = json.loads((golden / "cs-2.9-dpo-hf" / "config.json").read_text())
    ours = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert {name: ours.get(name) for name in theirs} == theirs


@pytest.mark.golden
def test_a_plain_model_of_cerebras_and_back(golden: Path, tmp_path: Path) -> None:
    source = golden / "hf-cs-2.9-dpo" / "model_to_cs-2.9-dpo.mdl"
    converted(source, "cerebras/llama", tmp_path / "plain.mdl")
    assert sorted(tensors(tmp_path / "plain.mdl")) == sorted(
        key.replace(POLICY, "model.") for key in tensors(source) if POLICY in key
    )
    converted(tmp_path / "plain.mdl", "cerebras/dpo-llama", tmp_path / "again.mdl")
    assert tensors(tmp_path / "again.mdl") == tensors(source)
    again = yaml.safe_load((tmp_path / "again.yaml").read_text())["model"]
    assert (again["name"], again["model_name"], again["dpo"]["beta"]) == ("dpo", "llama", 0.1)


def trained(folder: Path, config: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A checkpoint of a training, whose reference has stayed behind."""
    folder.mkdir(exist_ok=True)
    safetensors = pytest.importorskip("safetensors.numpy")
    shapes = {"norm1.weight": (8,), "norm3.weight": (8,), "ffn.ffn.1.linear_layer.weight": (8, 6)}
    shapes |= {f"self_attn.proj_{one}_dense_layer.weight": (8, 8) for one in ("q", "k", "v", "output")}
    shapes |= {f"ffn.ffn.0.linear_layer{gate}.weight": (6, 8) for gate in ("", "_for_glu")}
    keys = {f"transformer_decoder.layers.0.{name}": shape for name, shape in shapes.items()}
    keys |= {"embedding_layer.word_embeddings.weight": (5, 8), "lm_head.weight": (5, 8)}
    keys |= {"transformer_decoder.norm.weight": (8,)}
    random = np.random.default_rng(0)
    model = {
        start + key: random.standard_normal(shape).astype("float32")
        for start in (POLICY, REFERENCE)
        for key, shape in keys.items()
    }
    model |= {start + "ln_f.weight": model[f"{start}transformer_decoder.norm.weight"] for start in (POLICY, REFERENCE)}
    safetensors.save_file(model, folder / "model.safetensors")
    flat = {"name": "dpo", "model_name": "llama", "dpo": {"beta": 0.3, "reference_free": False}} | YAML | changes
    (folder / "params.yaml").write_text(yaml.safe_dump(config or {"model": flat}))
    return folder


NESTED = {
    "model": {
        "name": "dpo",
        "policy_model": YAML | {"name": "llama"},
        "dpo": {"beta": 0.01},
        "compute_eval_metrics": True,
    }
}
TRAINING = {
    "trainer": {
        "init": {"model": NESTED["model"], "optimizer": {"AdamW": {"eps": 1e-8}}},
        "fit": {"flags": {"csx.performance.micro_batch_size": 32}},
    }
}


@pytest.mark.parametrize("config", [None, NESTED, TRAINING], ids=["flat", "nested", "in a training"])
def test_policy_and_reference_both_survive(config: dict[str, Any] | None, tmp_path: Path) -> None:
    source = trained(tmp_path / "source", config)
    before = tensors(source)
    plan = converted(source, "hf", tmp_path / "hf")
    behind = plan.bound.left_behind
    assert sorted(behind) == sorted(key for key in before if key.startswith(REFERENCE))
    assert set(behind.values()) >= {f"a copy beside {POLICY}lm_head.weight"}
    assert tensors(tmp_path / "hf")["lm_head.weight"] == before[f"{POLICY}lm_head.weight"]
    converted(tmp_path / "hf", "cerebras", tmp_path / "again", format="safetensors")
    assert tensors(tmp_path / "again") == before
    found = yaml.safe_load(next((tmp_path / "again").glob("*.yaml")).read_text())
    assert found == yaml.safe_load((source / "params.yaml").read_text())


@pytest.mark.parametrize("config", [None, NESTED, TRAINING], ids=["flat", "nested", "in a training"])
def test_the_policy_alone_as_a_plain_model(config: dict[str, Any] | None, tmp_path: Path) -> None:
    """What stands beside the model in the yaml is carried over; DPO's own fields are kept."""
    source = trained(tmp_path / "source", config)
    converted(source, "cerebras/llama", tmp_path / "plain", format="safetensors")
    plain = yaml.safe_load(next((tmp_path / "plain").glob("*.yaml")).read_text())
    if config is TRAINING:
        assert plain["trainer"]["fit"] == TRAINING["trainer"]["fit"]
        assert plain["trainer"]["init"].pop("optimizer") == TRAINING["trainer"]["init"]["optimizer"]
        plain = plain["trainer"]["init"]
    assert plain["model"] == YAML | {"name": "llama"}
    converted(tmp_path / "plain", "cerebras/dpo-llama", tmp_path / "again", format="safetensors")
    assert tensors(tmp_path / "again") == tensors(source)
    again = yaml.safe_load(next((tmp_path / "again").glob("*.yaml")).read_text())
    assert again == yaml.safe_load((source / "params.yaml").read_text())


def test_a_training_without_a_reference(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    source = trained(tmp_path / "source", dpo={"beta": 0.1, "reference_free": True})
    model = safetensors.load_file(source / "model.safetensors")
    safetensors.save_file(
        {key: array for key, array in model.items() if REFERENCE not in key}, source / "model.safetensors"
    )
    plan = converted(source, "hf", tmp_path / "hf")
    assert not plan.bound.left_behind
    converted(tmp_path / "hf", "cerebras", tmp_path / "again", format="safetensors")
    assert tensors(tmp_path / "again") == tensors(source)


def test_how_yamls_are_recognised(tmp_path: Path) -> None:
    for name, config in {"flat": None, "nested": NESTED, "training": TRAINING}.items():
        with open_source(trained(tmp_path / name, config)) as source:
            assert detect_layout(source)[0].name == "cerebras/dpo-llama"
    nameless = {"model": {"model_name": "llama", "dpo": {"beta": 0.1}} | YAML}
    with open_source(trained(tmp_path / "nameless", nameless)) as source:
        assert detect_layout(source)[0].name == "cerebras/dpo-llama"


def test_a_framework_alone_means_the_plain_layout(tmp_path: Path) -> None:
    converted(trained(tmp_path / "source"), "hf", tmp_path / "hf")
    plan = converted(tmp_path / "hf", "cerebras", tmp_path / "fresh", restore=False, format="safetensors")
    assert plan.mapping.right.name == "cerebras/llama"
    with pytest.raises(UsageError, match="cerebras/dpo-llama"):
        converted(tmp_path / "fresh", "cerebras", tmp_path / "none")


def test_every_family_of_the_class_that_there_is() -> None:
    there = {mapping.right.name for mapping in all_mappings()}
    for family in FAMILIES:
        layout = f"cerebras/{family}"
        assert (layout in there) == (f"cerebras/dpo-{family}" in there)
        assert (layout in layouts()) == (f"cerebras/dpo-{family}" in layouts())
        if layout in there:
            assert find_mapping(layout, f"cerebras/dpo-{family}")


# --- the model itself --------------------------------------------------------------------------------------


def oracle_of(source: Path) -> Any:
    safetensors = pytest.importorskip("safetensors.torch")
    model = yaml.safe_load((source / "params.yaml").read_text())["model"]
    return get_oracle("cerebras/dpo-llama")(model, safetensors.load_file(source / "model.safetensors"))


def test_oracles_find_the_family_of_a_policy() -> None:
    keys, flat = [f"{POLICY}embedding_layer.word_embeddings.weight"], {"name": "dpo", "model_name": "llama"}
    for config in (flat, NESTED["model"], {"model_name": "llama"}):
        assert detected(keys, config, Path("params.yaml")) == "cerebras/dpo-llama"


@pytest.mark.parametrize("config", [None, NESTED], ids=["flat", "nested"])
def test_the_policy_is_run(config: dict[str, Any] | None, tmp_path: Path) -> None:
    oracle = oracle_of(trained(tmp_path / "source", config))
    plain = {key.replace(POLICY, "model."): one for key, one in oracle.tensors.items() if POLICY in key}
    ids = {"input_ids": torch.arange(4)[None]}
    expected = get_oracle("cerebras/llama")(YAML, plain).run(ids).outputs["lm"]
    assert torch.equal(oracle.run(ids).outputs["lm"], expected)
    assert not oracle.problems
    assert oracle.notes == [f"the reference model differs from the policy in 13 of 13 tensors, such as {REFERENCE}"
                            "embedding_layer.word_embeddings.weight: it isn't run"]  # fmt: skip
    again = oracle.rebuilt(oracle.wrong_configs()["wrong norm epsilon"])
    assert not torch.equal(again.run(ids).outputs["lm"], expected)


def test_a_reference_that_is_the_policy_is_its_second_name(tmp_path: Path) -> None:
    oracle = oracle_of(trained(tmp_path / "source"))
    tensors = oracle.tensors
    same = tensors | {key: tensors[key.replace(REFERENCE, POLICY)] for key in tensors if key.startswith(REFERENCE)}
    fresh = oracle.rebuilt(tensors=same)
    assert not fresh.notes and not fresh.problems
    assert {key for key in fresh.twins if key.startswith(REFERENCE)} == {key for key in same if REFERENCE in key}
    alone = oracle.rebuilt(tensors={key: one for key, one in same.items() if key.startswith(POLICY)})
    assert alone.notes == ["there is no reference model"]


@pytest.mark.golden
def test_what_the_real_policy_computed() -> None:
    """Only weak weights are recorded here."""
    folder = golden_dir("cerebras.tar.gz") / "dpo_llama" / "hf-cs-2.9-dpo"
    config = yaml.safe_load((folder / "config_to_cs-2.9-dpo.yaml").read_text())["model"]
    weights = {key: torch.from_numpy(array) for key, array in arrays(folder / "flat.npz").items()}
    seen = arrays(golden_dir("cerebras_forward.tar.gz") / "dpo_llama" / "forward.npz")
    found = get_oracle("cerebras/dpo-llama")(config, weights).run({"input_ids": torch.from_numpy(seen["input_ids"])})
    error = np.abs(found.outputs["lm"].numpy() - seen["cs_logits"]).max() / np.abs(seen["cs_logits"]).max()
    assert error <= 5e-6
