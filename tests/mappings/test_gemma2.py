"""hf/gemma2 <-> cerebras/gemma2: what is particular about it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from convkit.errors import ConfigError
from convkit.mappings import find_mapping

THERE = find_mapping("hf/gemma2", "cerebras/gemma2").config
BACK = find_mapping("cerebras/gemma2", "hf/gemma2").config
SLIDING, FULL = "sliding_attention", "full_attention"
LENGTH, EVERY_OTHER = "attention_sliding_window_length", "sliding_window_every_other_decoder_layer"
PATTERN = f"{EVERY_OTHER}_pattern"
HF = {
    "model_type": "gemma2",
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "hidden_activation": "gelu",
    "sliding_window": 16,
    "max_position_embeddings": 40,
}
CS = {
    "name": "gemma2",
    "num_hidden_layers": 3,
    "hidden_size": 3584,
    "num_heads": 16,
    "attention_inner_dim": 4096,
    "rotary_dim": 256,
    "embeddings_scale": 59.8665181,  # as ModelZoo's own yamls have it
    "nonlinearity": "geglu",
    "norm_type": "rmsnorm",
    "norm_first_sandwich": True,
    "position_embedding_type": "rotary",
    "use_ffn_bias": False,
    "use_ffn_bias_in_attention": False,
    "use_projection_bias_in_attention": False,
}


def windows(release: tuple[int, ...] = (), **said: Any) -> tuple[tuple[Any, Any, Any], tuple[Any, ...]]:
    """What is written of windows, and the deviations."""
    found = THERE.convert(HF | said, {}, release)
    model = found.config["model"]
    return (model[LENGTH], model[EVERY_OTHER], model.get(PATTERN)), found.deviations


@pytest.mark.parametrize(
    ("kinds", "written"),
    [
        (None, (16, True, "sliding_window_first")),
        ([SLIDING, FULL, SLIDING], (16, True, "sliding_window_first")),
        ([FULL, SLIDING, FULL], (16, True, "full_attention_first")),
        ([FULL] * 3, (None, False, None)),
        ([SLIDING] * 3, (16, False, None)),
    ],
)
def test_which_layers_have_the_window(kinds: list[str] | None, written: tuple[Any, ...]) -> None:
    assert windows(layer_types=kinds) == (written, ())
    said = dict(zip((LENGTH, EVERY_OTHER, PATTERN), written, strict=True))
    back = BACK.convert({"model": CS | said}).config
    assert back["layer_types"] == (kinds or [SLIDING, FULL, SLIDING])
    assert back.get("sliding_window") == written[0]


@pytest.mark.parametrize("release", [(2, 3), (2, 9)])
def test_releases_that_have_it_on_the_other_layers(release: tuple[int, ...]) -> None:
    fields, (deviation,) = windows(release)
    assert fields == (16, True, None)
    assert (deviation.field, deviation.value, deviation.taken_as) == ("layer_types", None, [FULL, SLIDING, FULL])
    assert windows(release, layer_types=[FULL, SLIDING, FULL]) == ((16, True, None), ())
    assert windows(release, max_position_embeddings=16) == ((16, True, None), ())  # it hides nothing
    assert windows(release, layer_types=[SLIDING] * 3) == ((16, False, None), ())
    unsaid = BACK.convert({"model": CS | {LENGTH: 16, EVERY_OTHER: True}}).config
    assert unsaid["layer_types"] == [FULL, SLIDING, FULL]


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({"layer_types": [FULL, FULL, SLIDING]}, "layer_types"),
        ({"layer_types": [SLIDING]}, "layer_types"),
        ({"layer_types": ["chunked_attention"] * 3}, "layer_types"),
        ({"sliding_window": None}, "sliding_window"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_parameters"),
    ],
)
def test_what_cerebras_cannot_say(said: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        windows(**said)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({EVERY_OTHER: True}, LENGTH),
        ({EVERY_OTHER: True, LENGTH: 16, PATTERN: "first"}, PATTERN),
        ({"embeddings_scale": 59.8666}, "embeddings_scale"),
        ({"embeddings_scale": None}, "embeddings_scale"),
        ({"attention_logits_alpha": 1.5}, "attention_logits_alpha"),
        ({"attention_logits_alpha": -1.0}, "attention_logits_alpha"),
        ({"attention_logits_alpha": 0.0}, "attention_logits_alpha"),
        ({"norm_first_sandwich": False}, "norm_first_sandwich"),
        ({"attention_sink_tokens": 512}, "attention_sink_tokens"),
    ],
)
def test_what_transformers_cannot_say(said: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BACK.convert({"model": CS | said})
    assert caught.value.key == key


def test_scores_are_divided_by_the_root_of_a_whole_number() -> None:
    said = THERE.convert(HF | {"query_pre_attn_scalar": 224}, {}).config["model"]["attention_logits_alpha"]
    assert said == math.sqrt(256 / 224)
    back = BACK.convert({"model": CS | {"attention_logits_alpha": said}}).config["query_pre_attn_scalar"]
    assert (back, type(back)) == (224, int)
    assert BACK.convert({"model": CS}).config["query_pre_attn_scalar"] == 256
