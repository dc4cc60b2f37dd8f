"""hf/t5 <-> cerebras/t5: what is particular about it."""

from __future__ import annotations

from typing import Any

import pytest
from keys_only import carried, plan, refused

from convkit.checkpoint import TensorSpec
from convkit.config import Deviation
from convkit.errors import ConfigError
from convkit.mappings import find_mapping
from convkit.mappings.cerebras.t5_fields import TIES_ANYWAY

TO_CEREBRAS = find_mapping("hf/t5", "cerebras/t5").config
TO_HF = TO_CEREBRAS.inverse()
CONFIG: dict[str, Any] = {
    "model_type": "t5", "vocab_size": 11, "d_model": 8, "d_kv": 3, "d_ff": 6, "num_layers": 1, "num_decoder_layers": 1,
    "num_heads": 2, "relative_attention_num_buckets": 4,
}  # fmt: skip
HEADS, BACK, NORM = (6, 8), (8, 6), (8,)


def attention(at: str) -> dict[str, tuple[int, ...]]:
    return {f"{at}.{name}.weight": BACK if name == "o" else HEADS for name in "qkvo"}


def sublayer(at: str) -> dict[str, tuple[int, ...]]:
    return {f"{at}.DenseReluDense.wi.weight": (6, 8), f"{at}.DenseReluDense.wo.weight": (8, 6)}


SHAPES: dict[str, tuple[int, ...]] = {"shared.weight": (11, 8)}
for stack, last in (("encoder", 1), ("decoder", 2)):
    block = f"{stack}.block.0.layer"
    SHAPES |= attention(f"{block}.0.SelfAttention") | sublayer(f"{block}.{last}")
    SHAPES |= {f"{block}.{n}.layer_norm.weight": NORM for n in range(last + 1)}
    SHAPES |= {
        f"{stack}.final_layer_norm.weight": NORM,
        f"{block}.0.SelfAttention.relative_attention_bias.weight": (4, 2),
    }
SHAPES |= attention("decoder.block.0.layer.1.EncDecAttention")
TIED = {key: TensorSpec(shape, "float32") for key, shape in SHAPES.items()}
UNTIED = TIED | {"lm_head.weight": TensorSpec((11, 8), "float32")}
WORDS = [f"model.{stack}_embeddings.word_embeddings.weight" for stack in ("encoder", "decoder")]


def to_cerebras(**fields: Any) -> Any:
    return TO_CEREBRAS.convert(CONFIG | fields)


def to_hf(**fields: Any) -> dict[str, Any]:
    return TO_HF.convert({"model": {"name": "t5", "num_heads": 2} | fields}).config


def test_one_table_under_all_its_names() -> None:
    pairs = carried(plan(TIED, CONFIG, "cerebras/t5"))
    assert {there for here, there in pairs if here == "shared.weight"} == {*WORDS, "model.lm_head.weight"}


def test_a_head_of_its_own() -> None:
    pairs = carried(plan(UNTIED, CONFIG | {"tie_word_embeddings": False}, "cerebras/t5"))
    assert {there for here, there in pairs if here == "shared.weight"} == {*WORDS}
    assert ("lm_head.weight", "model.lm_head.weight") in pairs


@pytest.mark.parametrize("leaves", [TIED, UNTIED])
def test_transformers_5_says_the_scale_and_always_ties(leaves: dict[str, TensorSpec]) -> None:
    """A checkpoint without a head of its own has the embedding for it, not scaled."""
    made = plan(leaves, CONFIG | {"tie_word_embeddings": True, "scale_decoder_outputs": False}, "cerebras/t5")
    assert made.target_config["model"]["share_embedding_weights"] is False
    source = "lm_head.weight" if leaves is UNTIED else "shared.weight"
    assert (source, "model.lm_head.weight") in carried(made)
    assert (TIES_ANYWAY in made.warnings) is (leaves is TIED)


def test_a_head_that_transformers_4_would_have_saved() -> None:
    said = refused(TIED, CONFIG | {"tie_word_embeddings": False}, "cerebras/t5")
    assert "lm_head.weight: is missing" in said


def test_a_leaf_of_the_hub_without_effect_stays_behind() -> None:
    old = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    made = plan(TIED | {old: TensorSpec((4, 2), "float32")}, CONFIG, "cerebras/t5")
    assert list(made.bound.left_behind) == [old]


@pytest.mark.parametrize(
    ("fields", "there"),
    [
        ({}, "relu"),
        ({"feed_forward_proj": "gelu"}, "gelu"),
        ({"feed_forward_proj": "gated-silu"}, "swiglu"),
        ({"feed_forward_proj": "gated-swish"}, "swiglu"),
        ({"feed_forward_proj": "gated-relu"}, "reglu"),
        ({"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu"}, "geglu"),
        ({"feed_forward_proj": "relu", "dense_act_fn": "silu", "is_gated_act": True}, "swiglu"),
    ],
)
def test_activations(fields: dict[str, Any], there: str) -> None:
    made = to_cerebras(**fields)
    assert made.config["model"]["encoder_nonlinearity"] == made.config["model"]["decoder_nonlinearity"] == there
    assert made.deviations == ()
    assert made.names["gated"] is there.endswith("glu")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"feed_forward_proj": "gated-gelu"}, "gelu_new"),
        ({"feed_forward_proj": "gated-gelu_fast"}, "gelu_fast"),
        ({"feed_forward_proj": "gelu_new"}, "gelu_new"),
    ],
)
def test_the_tanh_gelu_is_a_deviation(fields: dict[str, Any], said: str) -> None:
    (found,) = to_cerebras(**fields).deviations
    assert isinstance(found, Deviation)
    assert (found.field, found.value, found.taken_as, found.side) == ("dense_act_fn", said, "gelu", "source")


def test_the_exact_gelu_comes_back_as_such() -> None:
    assert to_hf(encoder_nonlinearity="geglu")["dense_act_fn"] == "gelu"
    assert "dense_act_fn" not in to_hf(encoder_nonlinearity="swiglu")


@pytest.mark.parametrize("act", ["tanh", "gated-tanh", "gated-not_an_act", "silu"])
def test_other_activations_are_refused(act: str) -> None:
    with pytest.raises(ConfigError, match="no counterpart") as caught:
        to_cerebras(feed_forward_proj=act)
    assert caught.value.key == "feed_forward_proj"


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"encoder_nonlinearity": "relu", "decoder_nonlinearity": "gelu"}, "decoder_nonlinearity"),
        ({"encoder_nonlinearity": "silu"}, "encoder_nonlinearity"),
        ({"src_vocab_size": 9, "tgt_vocab_size": 8}, "tgt_vocab_size"),
        ({"position_embedding_type": "fixed"}, "position_embedding_type"),
        ({"norm_type": "layernorm"}, "norm_type"),
        ({"share_encoder_decoder_embedding": False}, "share_encoder_decoder_embedding"),
        ({"use_transformer_initialization": True}, "use_transformer_initialization"),
        ({"use_pre_encoder_decoder_layer_norm": False}, "use_pre_encoder_decoder_layer_norm"),
        ({"mup_base_d_model": 4}, "mup_base_d_ff"),
        ({"mup_base_d_kv": 4}, "mup_base_d_kv"),
        ({"embeddings_alpha": 3.0}, "embeddings_alpha"),
        ({"attention_module": "multiquery_attention"}, "attention_module"),
    ],
)
def test_what_transformers_t5_has_not(fields: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        to_hf(**fields)
    assert caught.value.key == key


def test_a_yaml_of_the_transformer_class() -> None:
    """ModelZoo's own yamls of it have sinusoidal positions; of the same class with T5's, everything is said."""
    assert to_hf(name="transformer", position_embedding_type="relative")["model_type"] == "t5"
    assert to_hf(name="T5ForConditionalGeneration")["model_type"] == "t5"


@pytest.mark.parametrize("extra", [0, 100, None])
def test_extra_ids_are_rows_of_the_vocabulary(extra: int | None) -> None:
    assert to_hf(src_vocab_size=32001, extra_ids=extra)["vocab_size"] == 32001 + (extra or 0)


def test_dropout_that_has_ended() -> None:
    said = to_hf(use_dropout_outside_residual_path=False, use_pre_encoder_decoder_dropout=True)
    assert said["model_type"] == "t5"


def test_defaults_are_listed_where_the_config_leaves_them_out() -> None:
    unsaid = TO_CEREBRAS.convert({"model_type": "t5", "num_heads": 8})
    assert {"vocab_size", "feed_forward_proj", "tie_word_embeddings"} <= {one["name"] for one in unsaid.defaults}
    said = to_cerebras(feed_forward_proj="relu", tie_word_embeddings=True)
    assert not {"vocab_size", "feed_forward_proj", "tie_word_embeddings"} & {one["name"] for one in said.defaults}


def test_as_many_layers_as_the_encoder() -> None:
    for there in ({"num_decoder_layers": None}, {}):
        config = (
            {key: value for key, value in CONFIG.items() if key != "num_decoder_layers"} | there | {"num_layers": 3}
        )
        assert TO_CEREBRAS.convert(config).config["model"]["decoder_num_hidden_layers"] == 3
