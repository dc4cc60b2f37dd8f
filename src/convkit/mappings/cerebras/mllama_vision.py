"""The vision model of Llama 3.2 Vision: patches of tiles go through layers, then through gated ones.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/mllama.py``: it has the embedding of patches as a
projection of their pixels, channels last; transformers, ``models/mllama``, where it is a convolution.
"""

from __future__ import annotations

from typing import Any

from convkit.config import Answer, ConfigError, ConfigTable, Constant, Coupled, Field
from convkit.mapping import Mapping, Rule, under
from convkit.mappings.cerebras import vision as mz
from convkit.mappings.cerebras.classes.mllama import MLLAMA_VISION
from convkit.mappings.cerebras.common import DOWN, OUT, QKV, UP, Cs, Hf, fixed
from convkit.mappings.cerebras.heads import equal_heads
from convkit.mappings.cerebras.hf_classes.mllama import MLLAMA_VISION_CONFIG

Values = dict[str, Any]
#: rows and columns of tiles that an image may be cut into, where a config doesn't say it
RATIOS = [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]]


def _tiles_to_cerebras(values: Values, names: Values) -> Answer:
    ratios = values.get("supported_aspect_ratios") or RATIOS
    most, tiles = _most(ratios), values.get("max_num_tiles", 4)
    if tiles != most:
        problem = f"is {tiles}, and the largest of supported_aspect_ratios has {most}"
        raise ConfigError(problem, key="max_num_tiles", remedy="ModelZoo has no such field: it must be the same number")
    return Answer({"supported_aspect_ratios": ratios}, {"tiles": tiles, "ids": len(ratios) + 1})


def _tiles_to_hf(values: Values, names: Values) -> Answer:
    ratios = values.get("supported_aspect_ratios")
    if ratios is None:
        raise ConfigError("is missing", key="supported_aspect_ratios", remedy="add it: there is no default")
    tiles = _most(ratios)
    fields = {"supported_aspect_ratios": ratios, "max_num_tiles": tiles}
    return Answer(fields, {"tiles": tiles, "ids": len(ratios) + 1})


def _most(ratios: list[list[int]]) -> int:
    if not ratios or any(len(ratio) != len(RATIOS[0]) for ratio in ratios):
        remedy = "it must be a list of [rows, columns] of tiles"
        raise ConfigError(f"is {ratios!r}", key="supported_aspect_ratios", remedy=remedy)
    return max(rows * columns for rows, columns in ratios)


# fmt: off
BLOCK = (
    Rule("self_attn.{qkv:q|k|v}_proj.weight", f"{QKV}.weight", "o d -> o d", o="hidden", d="hidden"),
    Rule("self_attn.o_proj.weight", f"{OUT}.weight", "d o -> d o", d="hidden", o="hidden"),
    Rule("mlp.fc1.{p:weight|bias}", f"{UP}.{{p}}", "f ... -> f ...", f="filter"),
    Rule("mlp.fc2.{p:weight|bias}", f"{DOWN}.{{p}}", "d ... -> d ...", d="hidden"),
    mz.norm("input_layernorm", "norm1"), mz.norm("post_attention_layernorm", "norm2"),
)
GATE = Rule("gate_{n:attn|ffn}", "gate_{n}_weight", "one -> one", one=1)
EMBEDDING = "{w:pre|post}_tile_positional_embedding"
TILES = "gated_positional_embedding.tile_embedding.weight"
VISION = Mapping(
    Hf("mllama_vision_model", ("MllamaVisionModel",), MLLAMA_VISION_CONFIG, "", "").layout,
    Cs("mllama-vision", "", MLLAMA_VISION).layout,
    rules=(
        Rule("class_embedding", "class_embedding", "d -> d", d="hidden"),
        Rule("patch_embedding.weight", "patch_embedding.weight", "o c y x -> o (y x c)", o="hidden", c="channels",
             y="patch_height", x="patch_width"),
        Rule("gated_positional_embedding.embedding", "gated_positional_embedding.embedding", "p d -> p d",
             p="positions", d="hidden"),
        Rule(TILES, TILES, "i (t p d) -> i (t p d)", i="ids", t="tiles", p="positions", d="hidden"),
        Rule(f"{EMBEDDING}.embedding.weight", "{w}_tile_positional_embedding.embedding.weight", "i (t d) -> i (t d)",
             i="ids", t="tiles", d="hidden"),
        Rule("{w:gated|pre_tile|post_tile}_positional_embedding.gate", "{w}_positional_embedding.gate", "one -> one",
             one=1),
        mz.norm("layernorm_{w:pre|post}", "layernorm_{w}"),
        *under("transformer.layers.{j}.", "transformer.layers.{j}.", BLOCK),
        *under("global_transformer.layers.{k}.", "global_transformer.layers.{k}.", (*BLOCK, GATE)),
    ),
    config=ConfigTable((
        Constant("left", "model_type", "mllama_vision_model"), Constant("right", "name", "MllamaVisionModel"),
        Field("hidden_size", "hidden_size", "hidden"), Field("num_hidden_layers", "num_hidden_layers", "layers"),
        Field("num_global_layers", "num_global_layers", "global_layers"),
        Field("attention_heads", "num_heads", "heads"), equal_heads("attention_heads"),
        Field("intermediate_size", "filter_size", "filter"), Field("num_channels", "num_channels", "channels"),
        Field("hidden_act", "nonlinearity", "act", values=mz.ACTS), Field("norm_eps", "layer_norm_epsilon", "eps"),
        Field("vision_output_dim", "vision_output_dim", "features"), Field("initializer_range", "initializer_range"),
        Field("intermediate_layers_indices", "intermediate_layers_indices", null=[3, 7, 15, 23, 30]),
        Coupled(("supported_aspect_ratios", "max_num_tiles"), ("supported_aspect_ratios",), _tiles_to_cerebras,
                _tiles_to_hf),
        mz.sizes(448, 14, square=True, there=None),
        *fixed(use_conv_patchified_embedding=False, use_projection_bias_in_attention=True,
               use_ffn_bias_in_attention=False, use_ffn_bias=True),
    ), left=MLLAMA_VISION_CONFIG, right=MLLAMA_VISION),
    axes={"j": "layers", "k": "global_layers"},
)
