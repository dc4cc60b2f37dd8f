"""hf/llama <-> cerebras/llama, at the level of rules."""

from __future__ import annotations

import json
from typing import Any

import pytest
from keys_only import carried, plan, refused, specs
from mappings.recorded_keys import check_inverse, check_keys, check_pairs
from recorded import HERE, MODELS, Recorded

from convkit.checkpoint import TensorSpec
from convkit.errors import ConfigError
from convkit.mappings import find_mapping

GOLDENS = [
    Recorded(model, release, here=False)
    for model, releases in MODELS.items()
    for release in releases
    if model.startswith("llama")
]
HF = HERE / "llama_gqa" / "hf"
CONFIG: dict[str, Any] = json.loads((HF / "config.json").read_text())
LEAVES = specs(HF / "model.safetensors")
BASE = {key.removeprefix("model."): spec for key, spec in LEAVES.items() if key != "lm_head.weight"}


def test_inverse() -> None:
    check_inverse("llama")


@pytest.mark.parametrize(
    "case",
    [*(pytest.param(case, marks=pytest.mark.golden) for case in GOLDENS), Recorded("llama_gqa", "2.9", True)],
    ids=str,
)
def test_every_recorded_key_has_one_rule(case: Recorded) -> None:
    check_keys(case)


@pytest.mark.golden
@pytest.mark.parametrize("case", GOLDENS, ids=str)
def test_keys_go_where_the_original_sends_them(case: Recorded) -> None:
    check_pairs(case)


def test_a_tied_model_gets_its_head() -> None:
    tied = {key: spec for key, spec in LEAVES.items() if key != "lm_head.weight"}
    made = plan(tied, CONFIG | {"tie_word_embeddings": True}, "cerebras/llama")
    assert made.origins()["model.lm_head.weight"]["origin"] == "tied"
    assert ("model.embed_tokens.weight", "model.lm_head.weight") in carried(made)


def test_a_tied_base_model_gets_its_head() -> None:
    made = plan(BASE, CONFIG | {"tie_word_embeddings": True, "architectures": ["LlamaModel"]}, "cerebras/llama")
    assert made.variant["hf"] == ""
    assert made.names["headless"]
    assert made.origins()["model.lm_head.weight"]["origin"] == "tied"


def test_an_untied_base_model_gets_none_and_says_so() -> None:
    made = plan(BASE, CONFIG | {"architectures": ["LlamaModel"]}, "cerebras/llama")
    assert "model.lm_head.weight" not in made.target_leaves
    assert any("no lm_head is written" in warning for warning in made.warnings)


def test_an_untied_model_without_its_head_comes_back_as_base_model() -> None:
    there = plan(BASE, CONFIG, "cerebras/llama", headless=True)
    cs = {key: leaf.spec for key, leaf in there.target_leaves.items()}
    back = plan(cs, there.target_config, "hf/llama", headless=True)
    assert set(back.target_leaves) == set(BASE)
    assert back.target_config["architectures"] == ["LlamaModel"]


def test_headless_leaves_an_untied_head_behind() -> None:
    there = plan(LEAVES, CONFIG, "cerebras/llama")
    cs = {key: leaf.spec for key, leaf in there.target_leaves.items()}
    back = plan(cs, there.target_config, "hf/llama", headless=True)
    assert set(back.target_leaves) == set(BASE)
    assert "no output head" in back.bound.left_behind["model.lm_head.weight"]


@pytest.mark.parametrize("prefix", ["model.", "model.model.", ""])
def test_prefixes_of_cerebras(prefix: str) -> None:
    there = plan(LEAVES, CONFIG, "cerebras/llama")
    cs = {prefix + key.removeprefix("model."): leaf.spec for key, leaf in there.target_leaves.items()}
    back = plan(cs, there.target_config, "hf/llama")
    assert back.variant["cs"] == prefix
    assert set(back.target_leaves) == set(LEAVES)


def test_what_is_no_model_stays_behind_but_nothing_of_the_model_does() -> None:
    there = plan(LEAVES, CONFIG, "cerebras/llama")
    cs = {key: leaf.spec for key, leaf in there.target_leaves.items()}
    extra = {"optimizer.state.x.exp_avg": TensorSpec((2,), "float32"), "global_step": TensorSpec((), "int64")}
    back = plan(cs | extra, there.target_config, "hf/llama")
    assert back.bound.left_behind == dict.fromkeys(extra, "not part of the model")
    unknown = {"model.transformer_decoder.layers.0.cross_attn.weight": TensorSpec((2,), "float32")}
    assert "cross_attn" in refused(cs | unknown, there.target_config, "hf/llama")


def test_frequencies_are_derived() -> None:
    extra = {"model.layers.1.self_attn.rotary_emb.inv_freq": TensorSpec((4,), "float32")}
    made = plan(LEAVES | extra, CONFIG, "cerebras/llama")
    assert [leaf.key for leaf in made.bound.derived] == list(extra)


def test_biases_win_over_the_config() -> None:
    biases = {
        f"model.layers.{i}.self_attn.{p}_proj.bias": TensorSpec(
            (LEAVES[f"model.layers.{i}.self_attn.{p}_proj.weight"].shape[0],), "float32"
        )
        for i in range(2)
        for p in "qkvo"
    }
    made = plan(LEAVES | biases, CONFIG, "cerebras/llama")
    written = made.target_config["model"]
    assert written["use_projection_bias_in_attention"] and written["use_ffn_bias_in_attention"]
    assert not written["use_ffn_bias"]
    assert any("attention_bias = False" in warning for warning in made.warnings)


def test_some_biases_have_no_words() -> None:
    """transformers has one flag for q, k, v and o."""
    there = plan(LEAVES, CONFIG, "cerebras/llama")
    cs = {key: leaf.spec for key, leaf in there.target_leaves.items()}
    qkv = {
        key.replace(".weight", ".bias"): TensorSpec(spec.shape[:1], "float32")
        for key, spec in cs.items()
        if any(f"proj_{p}_dense" in key for p in "qkv")
    }
    with pytest.raises(Exception, match="both True and False"):
        plan(cs | qkv, there.target_config, "hf/llama")


def test_a_gate_with_the_tanh_approximation_is_a_declared_deviation() -> None:
    for act in ("gelu_new", "gelu_pytorch_tanh"):
        made = plan(LEAVES, CONFIG | {"hidden_act": act}, "cerebras/llama")
        assert made.target_config["model"]["nonlinearity"] == "geglu"
        assert [(one.field, one.value, one.taken_as) for one in made.deviations] == [("hidden_act", act, "gelu")]
    assert not plan(LEAVES, CONFIG | {"hidden_act": "gelu"}, "cerebras/llama").deviations


LONG: dict[str, Any] = {
    "rope_type": "longrope",
    "factor": 2.0,
    "original_max_position_embeddings": CONFIG["max_position_embeddings"] // 2,
    "short_factor": [1.0, 1.0],
    "long_factor": [2.0, 2.0],
}


def test_the_short_factors_of_longrope_are_a_declared_deviation_both_ways() -> None:
    there = plan(LEAVES, CONFIG | {"rope_scaling": LONG}, "cerebras/llama")
    (deviation,) = there.deviations
    assert (deviation.field, deviation.side) == ("rope_scaling.short_factor", "source")
    assert (deviation.value, deviation.taken_as) == (LONG["short_factor"], LONG["long_factor"])
    cs = {key: leaf.spec for key, leaf in there.target_leaves.items()}
    (deviation,) = plan(cs, there.target_config, "hf/llama").deviations
    assert (deviation.field, deviation.side) == ("rope_scaling.short_factor", "target")


@pytest.mark.parametrize(
    "change",
    [{"short_factor": LONG["long_factor"]}, {"original_max_position_embeddings": CONFIG["max_position_embeddings"]}],
    ids=lambda change: next(iter(change)),
)
def test_longrope_deviates_only_where_the_context_has_grown_and_the_factors_differ(change: dict[str, Any]) -> None:
    assert not plan(LEAVES, CONFIG | {"rope_scaling": LONG | change}, "cerebras/llama").deviations


@pytest.mark.parametrize(
    ("scaling", "named"),
    [
        ({"rope_type": "linear", "factor": "two"}, r"rope_scaling\.factor: is 'two'"),
        ({"rope_type": "linear", "factor": float("nan")}, r"rope_scaling\.factor: is nan"),
        ({"rope_type": "linear", "factor": 0}, r"rope_scaling\.factor: is 0, not above 0"),
        (LONG | {"short_factor": [0.0, 1.0]}, r"rope_scaling\.short_factor\.0: is 0\.0, not above 0"),
        (LONG | {"original_max_position_embeddings": 1}, "original_max_position_embeddings: is 1"),
        (LONG | {"long_factor": [2.0, "x"]}, r"rope_scaling\.long_factor\.1: is 'x'"),
        (LONG | {"long_factor": None}, "rope_scaling: has no short_factor and long_factor"),
        (LONG | {"original_max_position_embeddings": -1}, r"original_max_position_embeddings: is -1"),
    ],
    ids=str,
)
@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
def test_a_scaling_that_is_no_number_is_refused_by_name(field: str, scaling: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace("rope_scaling", field)):
        plan(LEAVES, CONFIG | {field: scaling}, "cerebras/llama")


def test_a_scaling_written_as_text_is_read_as_the_number() -> None:
    made = plan(LEAVES, CONFIG | {"rope_scaling": {"rope_type": "linear", "factor": "2e0"}}, "cerebras/llama")
    assert made.target_config["model"]["pos_scaling_factor"] == 2.0


def test_heads_by_default_are_said() -> None:
    config = {key: value for key, value in CONFIG.items() if key not in ("num_attention_heads", "head_dim")}
    made = find_mapping("hf/llama", "cerebras/llama").config.convert(config | {"hidden_size": 64})
    assert [warning for warning in made.warnings if warning.startswith("num_attention_heads isn't in the config")]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_hidden_layers": 3}, "num_hidden_layers: is 3, but the checkpoint has 2"),
        ({"num_hidden_layers": 1}, "layers.1."),
        ({"num_key_value_heads": 1}, "k_proj"),
        ({"num_attention_heads": 2}, "k_proj"),
        ({"vocab_size": 97}, "embed_tokens"),
        ({"intermediate_size": 47}, "up_proj"),
    ],
    ids=str,
)
def test_a_config_that_contradicts_the_tensors(change: dict[str, Any], named: str) -> None:
    assert named in refused(LEAVES, {k: v for k, v in CONFIG.items() if k != "head_dim"} | change, "cerebras/llama")


def test_two_rows_correct_one_field_with_one_warning() -> None:
    made = plan(LEAVES, CONFIG | {"attention_bias": True}, "cerebras/llama", allow_missing=("*.bias",))
    assert len([warning for warning in made.warnings if "attention_bias = True" in warning]) == 1


@pytest.mark.parametrize(
    ("layout", "without", "taken"),
    [
        ("hf/llama", "rope_theta", 10000.0),
        ("hf/llama", "num_key_value_heads", 4),
        ("hf/llama", "head_dim", 8),
        ("cerebras/llama", "rope_theta", 10000.0),
        ("cerebras/llama", "pos_scaling_factor", 1.0),
    ],
)
def test_a_default_that_a_group_of_fields_takes_is_listed(layout: str, without: str, taken: float) -> None:
    table, section = find_mapping("hf/llama", "cerebras/llama").config, CONFIG
    if layout == "cerebras/llama":
        section, table = table.convert(CONFIG).config["model"], table.inverse()

    def defaults(fields: dict[str, Any]) -> dict[str, Any]:
        found = table.convert({"model": fields} if table.reverse else fields)
        return {entry["name"]: entry["value"] for entry in found.defaults}

    assert defaults({key: value for key, value in section.items() if key != without})[without] == taken
    assert without not in defaults(section | {without: taken})
