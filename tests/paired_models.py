"""The same model in both layouts, written down by hand: nothing here is shared with the mappings.

Sizes are awkward on purpose. Weights are strong enough that a wrong forward pass shows:
biases and norms are random too, and attention is far from uniform.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Pair:
    hf_config: dict[str, Any]
    hf: dict[str, Tensor]
    cs_config: dict[str, Any]
    cs: dict[str, Tensor]


def strong(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Random tensors of those shapes, as large as a trained model's."""
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 2:
            fan_in = shape[0] if ".c_" in name else shape[1]
            out[name] = noise * (0.6 if "emb" in name or ".wte" in name or ".wpe" in name else 1.1 * fan_in**-0.5)
        elif "norm" in name.lower() or ".ln_" in name:
            out[name] = 1 + 0.2 * noise if name.endswith("weight") else 0.2 * noise
        else:
            out[name] = 0.2 * noise
    return out


def interleave(rows: Tensor, heads: int) -> Tensor:
    """Half-split rotary rows in the order of interleaved pairs."""
    return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def llama(
    *, hidden: int = 24, heads: int = 6, kv: int = 2, layers: int = 3, ffn: int = 14, vocab: int = 23,
    positions: int = 300, tied: bool = False, bias: bool = False, theta: float = 10000.0,
    rope: dict[str, Any] | None = None, cs_rope: dict[str, Any] | None = None, act: str = "silu", seed: int = 0,
) -> Pair:  # fmt: skip
    dim = hidden // heads
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden)}
    for i in range(layers):
        at = f"model.layers.{i}"
        linear = {
            "self_attn.q_proj": (heads * dim, hidden),
            "self_attn.k_proj": (kv * dim, hidden),
            "self_attn.v_proj": (kv * dim, hidden),
            "self_attn.o_proj": (hidden, heads * dim),
            "mlp.gate_proj": (ffn, hidden),
            "mlp.up_proj": (ffn, hidden),
            "mlp.down_proj": (hidden, ffn),
        }
        for name, shape in linear.items():
            shapes[f"{at}.{name}.weight"] = shape
            if bias:
                shapes[f"{at}.{name}.bias"] = shape[:1]
        shapes[f"{at}.input_layernorm.weight"] = shapes[f"{at}.post_attention_layernorm.weight"] = (hidden,)
    shapes["model.norm.weight"] = (hidden,)
    if not tied:
        shapes["lm_head.weight"] = (vocab, hidden)
    hf = strong(shapes, seed)

    names = {
        "self_attn.q_proj": "self_attn.proj_q_dense_layer",
        "self_attn.k_proj": "self_attn.proj_k_dense_layer",
        "self_attn.v_proj": "self_attn.proj_v_dense_layer",
        "self_attn.o_proj": "self_attn.proj_output_dense_layer",
        "mlp.gate_proj": "ffn.ffn.0.linear_layer_for_glu",
        "mlp.up_proj": "ffn.ffn.0.linear_layer",
        "mlp.down_proj": "ffn.ffn.1.linear_layer",
        "input_layernorm": "norm1",
        "post_attention_layernorm": "norm3",
    }
    cs = {"model.embedding_layer.word_embeddings.weight": hf["model.embed_tokens.weight"]}
    for key, value in hf.items():
        if key.startswith("model.layers."):
            _, _, i, *name, end = key.split(".")
            module = ".".join(name)
            turned = interleave(value, heads if "q_proj" in module else kv) if module[-6] in "qk" else value
            cs[f"model.transformer_decoder.layers.{i}.{names[module]}.{end}"] = turned
    cs["model.transformer_decoder.norm.weight"] = cs["model.ln_f.weight"] = hf["model.norm.weight"]
    cs["model.lm_head.weight"] = hf["model.embed_tokens.weight" if tied else "lm_head.weight"].clone()

    hf_config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocab, "hidden_size": hidden,
        "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv, "hidden_act": act, "max_position_embeddings": positions, "rms_norm_eps": 1e-6,
        "rope_theta": theta, "rope_scaling": rope, "tie_word_embeddings": tied, "attention_bias": bias,
        "mlp_bias": bias, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    cs_config = {
        "name": "llama", "vocab_size": vocab, "hidden_size": hidden, "filter_size": ffn, "num_hidden_layers": layers,
        "num_heads": heads, "max_position_embeddings": positions, "layer_norm_epsilon": 1e-6, "norm_type": "rmsnorm",
        "nonlinearity": {"silu": "swiglu", "relu": "reglu", "gelu": "geglu"}[act], "position_embedding_type": "rotary",
        "rotary_dim": dim, "rope_theta": theta, "share_embedding_weights": tied, "use_bias_in_output": False,
        "use_ffn_bias": bias, "use_ffn_bias_in_attention": bias, "use_projection_bias_in_attention": bias,
        "attention_module": "aiayn_attention" if kv == heads else "multiquery_attention",
        "extra_attention_params": {} if kv == heads else {"num_kv_groups": kv}, **(cs_rope or {}),
    }  # fmt: skip
    return Pair(hf_config, hf, cs_config, cs)
