"""The decoders of ``transformers``, a row a family.

Source of every row: ``models/<family>/{configuration,modeling}_<family>.py`` in transformers 5.23.
"""

from __future__ import annotations

from typing import Any

from convkit.oracles.hf.family import Architecture, Config, Family, Names
from convkit.oracles.oracle import A_SHORTER_WINDOW, SHORT_WINDOW


def _decoder(name: str, head: Names = "lm_head", lm: str = "ForCausalLM", **row: Any) -> Family:
    """A family whose models have one head, over the vocabulary."""
    return Family(
        name=name,
        heads={"head.lm": head},
        architectures=(Architecture(f"{name}{lm}", (), {"lm": ("logits",)}), Architecture(f"{name}Model")),
        states={"final": row["outside"]["norm_final"]},
        **row,
    )


_ATTENTION = {
    "norm_attention": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "norm_ffn": "post_attention_layernorm",
}
_GATED = {"gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}


def _llama_like(name: str, **row: Any) -> Family:
    """A family whose modules are called as llama's."""
    common: dict[str, Any] = {
        "trunk": "model",
        "layers": "layers",
        "outside": {"embedding": "embed_tokens", "norm_final": "norm"},
        "inside": _ATTENTION | _GATED,
        "attention": "self_attn",
        "rotary": "half",
        "activation": "hidden_act",
        "epsilon": "rms_norm_eps",
    }
    return _decoder(name, **common | row)


_WITH_POSITIONS = {"embedding": "wte", "positions": "wpe", "norm_final": "ln_f"}
_GPT2 = {
    "norm_attention": "ln_1",
    "q+k+v": "attn.c_attn",
    "o": "attn.c_proj",
    "norm_ffn": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}


def _gpt_like(name: str, **row: Any) -> Family:
    """A family whose parts are called as GPT-2's."""
    common: dict[str, Any] = {
        "trunk": "transformer",
        "layers": "h",
        "outside": {"embedding": "wte", "norm_final": "ln_f"},
        "attention": "attn",
        "activation": "activation_function",
        "epsilon": "layer_norm_epsilon",
    }
    return _decoder(name, **common | row)


def _fused(attention: str, norm_attention: Names, norm_ffn: Names) -> dict[str, Names]:
    """A layer as Megatron writes it: queries, keys and values in one module."""
    return {
        "norm_attention": norm_attention,
        "q+k+v": f"{attention}.query_key_value",
        "o": f"{attention}.dense",
        "norm_ffn": norm_ffn,
        "up": "mlp.dense_h_to_4h",
        "down": "mlp.dense_4h_to_h",
    }


def _every_head(config: Any) -> tuple[int, tuple[int, ...]]:
    """Queries, keys and values of one head after another."""
    return config.num_attention_heads, (1, 1, 1)


def _falcon(config: Any) -> tuple[int, tuple[int, ...]]:
    """The queries of a key head, the key, the value, one key head after another."""
    grouped = config.num_kv_heads if config.new_decoder_architecture else config.num_attention_heads
    keys = grouped if config.new_decoder_architecture or not config.multi_query else 1
    return keys, (config.num_attention_heads // keys, 1, 1)


def _refined_web(config: Config) -> Config:
    """What Falcon's first models on the hub say, in the library's words; only that of 40 billion had groups of keys.

    Source: ``configuration_RW.py`` and ``modelling_RW.py`` beside tiiuae/falcon-7b and -40b until July 2023.
    """
    if config.get("model_type") not in _REFINED_WEB:
        return config
    names = {"n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "n_head_kv": "num_kv_heads"}
    plain = {names.get(field, field): value for field, value in config.items() if not field.startswith("rope_")}
    return (
        {"multi_query": False, "parallel_attn": False}
        | plain
        | {
            "model_type": "falcon",
            "new_decoder_architecture": config["model_type"] == _REFINED_WEB[1],
        }
    )


def _bigcode(config: Any) -> tuple[int, tuple[int, ...]]:
    """All queries, then the one key and the one value; without shared keys as in bloom."""
    return (1, (config.num_attention_heads, 1, 1)) if config.multi_query else _every_head(config)


def _other_layers(config: Config) -> Config:
    """The window on the layers that have none, and none on those that have it."""
    other = {"sliding_attention": "full_attention", "full_attention": "sliding_attention"}
    return {"layer_types": [other[kind] for kind in config["layer_types"]]}


def _shorter_window(config: Config) -> Config:
    """The window one position less, if an input shows it."""
    window = config.get("sliding_window")
    return {"sliding_window": window - 1} if window and 1 < window <= SHORT_WINDOW else {}


_WINDOW = {A_SHORTER_WINDOW: _shorter_window}
_REFINED_WEB = ("RefinedWebModel", "RefinedWeb")

DECODERS: dict[str, Family] = {
    "hf/llama": _llama_like("Llama"),
    "hf/mistral": _llama_like("Mistral", wrong=_WINDOW),
    "hf/mixtral": _llama_like(
        "Mixtral",
        inside={
            **_ATTENTION,
            "router": ("block_sparse_moe.gate", "mlp.gate"),
            "experts.{e}.gate": "block_sparse_moe.experts.{e}.w1",
            "experts.{e}.down": "block_sparse_moe.experts.{e}.w2",
            "experts.{e}.up": "block_sparse_moe.experts.{e}.w3",
        },
        feed_forward="mlp",
        wrong=_WINDOW | {"one expert a token": lambda config: {"num_experts_per_tok": 1}},
    ),
    "hf/gemma2": _llama_like(
        "Gemma2",
        inside={
            **_ATTENTION,
            **_GATED,
            "norm_attention_post": "post_attention_layernorm",
            "norm_ffn": "pre_feedforward_layernorm",
            "norm_ffn_post": "post_feedforward_layernorm",
        },
        activation="hidden_activation",
        minus_one=True,
        wrong={
            "softcap of the scores left out": lambda config: {"attn_logit_softcapping": None},
            "softcap of the logits left out": lambda config: {"final_logit_softcapping": None},
            "window on the wrong layers": _other_layers,
            **_WINDOW,
        },
    ),
    "hf/gpt2": _gpt_like("GPT2", lm="LMHeadModel", outside=_WITH_POSITIONS, inside=_GPT2),
    "hf/gpt_bigcode": _gpt_like("GPTBigCode", outside=_WITH_POSITIONS, inside=_GPT2, cut=_bigcode),
    "hf/gptj": _gpt_like(
        "GPTJ",
        inside={
            "norm_attention": "ln_1",
            "q": "attn.q_proj",
            "k": "attn.k_proj",
            "v": "attn.v_proj",
            "o": "attn.out_proj",
            "up": "mlp.fc_in",
            "down": "mlp.fc_out",
        },
        rotary="interleaved",
    ),
    "hf/codegen": _gpt_like(
        "CodeGen",
        inside={
            "norm_attention": "ln_1",
            "q+v+k": "attn.qkv_proj",
            "o": "attn.out_proj",
            "up": "mlp.fc_in",
            "down": "mlp.fc_out",
        },
        cut=lambda config: (4, (1, 1, 1)),
        rotary="interleaved",
    ),
    "hf/gpt_neox": _decoder(
        "GPTNeoX",
        head=("embed_out", "lm_head"),
        trunk="gpt_neox",
        layers="layers",
        outside={"embedding": "embed_in", "norm_final": "final_layer_norm"},
        inside=_fused("attention", "input_layernorm", "post_attention_layernorm"),
        attention="attention",
        cut=_every_head,
        rotary="half",
        activation="hidden_act",
        epsilon="layer_norm_eps",
        wrong={"parallel residual left out": lambda config: {"use_parallel_residual": False}},
    ),
    "hf/bloom": _gpt_like(
        "Bloom",
        outside={
            "embedding": "word_embeddings",
            "norm_embedding": "word_embeddings_layernorm",
            "norm_final": "ln_f",
        },
        inside=_fused("self_attention", "input_layernorm", "post_attention_layernorm"),
        attention="self_attention",
        cut=_every_head,
        activation="",
    ),
    "hf/falcon": _gpt_like(
        "Falcon",
        outside={"embedding": "word_embeddings", "norm_final": "ln_f"},
        inside=_fused("self_attention", ("ln_attn", "input_layernorm"), ("ln_mlp", "post_attention_layernorm")),
        attention="self_attention",
        cut=_falcon,
        rotary="half",
        activation="activation",
        also=_REFINED_WEB,
        respelled=_refined_web,
    ),
}
