"""An incomplete checkpoint never passes for a smaller one: what the config, other leaves and descriptions say of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from keys_only import plan, refused, specs
from recorded import HERE

from convkit.checkpoint import TensorSpec
from convkit.cli import main
from convkit.errors import ConfigError, IncompleteError, PlanError

BERT: dict[str, Any] = json.loads((HERE / "bert" / "hf" / "config.json").read_text())
PRETRAINING = specs(HERE / "bert" / "hf" / "model.safetensors")
LLAMA: dict[str, Any] = json.loads((HERE / "llama_gqa" / "hf" / "config.json").read_text())
LEAVES = specs(HERE / "llama_gqa" / "hf" / "model.safetensors")
BASE = {key: spec for key, spec in LEAVES.items() if key != "lm_head.weight"}


def headless(leaves: dict[str, TensorSpec]) -> dict[str, TensorSpec]:
    return {key: spec for key, spec in leaves.items() if not key.startswith("cls.")}


@pytest.mark.parametrize("task", ["BertForMaskedLM", "BertForPreTraining", "BertForSequenceClassification"])
def test_a_class_has_its_head(task: str) -> None:
    problem = refused(headless(PRETRAINING), BERT | {"architectures": [task]}, "cerebras/bert")
    assert f"architectures = {task}" in problem
    assert "--headless" in problem
    assert "--allow-missing" in problem


@pytest.mark.parametrize("key", [key for key in PRETRAINING if key.startswith("cls.") and "decoder" not in key])
def test_five_of_six_leaves_are_no_head(key: str) -> None:
    there = plan(PRETRAINING, BERT, "cerebras/bert")
    cs = {name: leaf.spec for name, leaf in there.target_leaves.items()}
    lost = next(step.targets[0].key for step in there.bound.steps if step.sources[0].key == key)
    for leaves, config, to in (
        ({name: spec for name, spec in PRETRAINING.items() if name != key}, BERT, "cerebras/bert"),
        ({name: spec for name, spec in cs.items() if name != lost}, there.target_config, "hf/bert"),
    ):
        with pytest.raises((PlanError, ConfigError)):
            plan(leaves, config, to)


def test_a_pooler_may_lie_unused_beside_a_head_that_the_config_names() -> None:
    leaves = {key: spec for key, spec in PRETRAINING.items() if "seq_relationship" not in key}
    made = plan(leaves, BERT | {"architectures": ["BertForMaskedLM"]}, "cerebras/bert")
    assert made.bound.left_behind["bert.pooler.dense.weight"] == "this task has no pooler"
    unnamed = {field: value for field, value in BERT.items() if field != "architectures"}
    assert "bert.pooler.dense.bias is there" in refused(leaves, unnamed, "cerebras/bert")


def test_architectures_are_a_list_of_names() -> None:
    for nonsense in ([["LlamaForCausalLM"]], "LlamaForCausalLM", [7]):
        with pytest.raises(ConfigError, match="architectures"):
            plan(BASE, LLAMA | {"architectures": nonsense}, "cerebras/llama")


def test_an_untied_head_is_tied_or_given_up() -> None:
    problem = refused(BASE, LLAMA, "cerebras/llama")
    assert "tie the embeddings in the config" in problem
    made = plan(BASE, LLAMA, "cerebras/llama", headless=True)
    assert made.missing == {
        "lm_head.weight": "the config says architectures = LlamaForCausalLM and tie_word_embeddings = False"
    }
    cs = {key: leaf.spec for key, leaf in made.target_leaves.items()}
    assert "share_embedding_weights = False" in refused(cs, made.target_config, "hf/llama")
    assert plan(LEAVES, LLAMA, "cerebras/llama").missing == {}


def test_biases_are_there_in_all_projections_or_in_none() -> None:
    heads = {"q": "num_attention_heads", "k": "num_key_value_heads", "v": "num_key_value_heads"}
    size = LLAMA["hidden_size"] // LLAMA["num_attention_heads"]
    biases = {
        f"model.layers.{i}.self_attn.{n}_proj.bias": TensorSpec((LLAMA[field] * size,), "float32")
        for i in range(LLAMA["num_hidden_layers"])
        for n, field in heads.items()
    }
    assert plan(LEAVES | biases, LLAMA, "cerebras/llama", allow_missing=("*o_proj.bias",))
    partly = {key: spec for key, spec in biases.items() if ".k_proj." not in key}
    assert "k_proj.bias: is missing" in refused(LEAVES | partly, LLAMA, "cerebras/llama")
    accepted = plan(LEAVES | partly, LLAMA, "cerebras/llama", allow_missing=("*k_proj.bias",))
    assert len(accepted.missing) == LLAMA["num_hidden_layers"]
    with pytest.raises(IncompleteError):
        plan(LEAVES, LLAMA | {"attention_bias": True}, "cerebras/llama")


@pytest.fixture(scope="module")
def pax(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pax") / "checkpoint_00000007"
    assert main(["fetch", "generated://pax?layers=1", str(folder)]) == 0
    return folder


def test_metadata_and_moments_say_what_pax_has(pax: Path, tmp_path: Path) -> None:
    import shutil

    from convkit.plan import Options, make_plan, open_source

    for lost in (
        "mdl_vars.params.lm.final_ln.bias",
        "opt_states_0_2.m.params.lm.final_ln.scale",
        "opt_states_0_2.count",
        "step",
    ):
        copy = shutil.copytree(pax, tmp_path / lost)
        shutil.rmtree(copy / "state" / lost)
        with open_source(copy) as source:
            with pytest.raises(IncompleteError) as caught:
                make_plan(source, "te/pax")
            assert caught.value.key == lost
            assert lost in make_plan(source, "te/pax", options=Options(allow_missing=(lost,))).to_json()["missing"]


def test_t5x_without_its_msgpack_has_lost_its_step(tmp_path: Path) -> None:
    from convkit.plan import make_plan, open_source

    folder = tmp_path / "checkpoint_7"
    assert main(["fetch", "generated://t5x?layers=1&decoder_layers=1", str(folder)]) == 0
    (folder / "checkpoint").unlink()
    with open_source(folder) as source, pytest.raises(IncompleteError, match=r"state\.step: is missing"):
        make_plan(source, "te/t5")
