"""The same model in both layouts, written by hand, sharing nothing with the mappings.

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


def gpt2(
    *, hidden: int = 24, heads: int = 6, layers: int = 3, ffn: int = 14, vocab: int = 23, positions: int = 300,
    tied: bool = True, act: str = "gelu_new", scaled: bool = True, seed: int = 0,
) -> Pair:  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (vocab, hidden),
        "transformer.wpe.weight": (positions, hidden),
    }
    for i in range(layers):
        linear = {
            "attn.c_attn": (hidden, 3 * hidden),
            "attn.c_proj": (hidden, hidden),
            "mlp.c_fc": (hidden, ffn),
            "mlp.c_proj": (ffn, hidden),
            "ln_1": (hidden,),
            "ln_2": (hidden,),
        }
        for name, shape in linear.items():
            shapes[f"transformer.h.{i}.{name}.weight"] = shape
            shapes[f"transformer.h.{i}.{name}.bias"] = shape[-1:]
    shapes["transformer.ln_f.weight"] = shapes["transformer.ln_f.bias"] = (hidden,)
    if not tied:
        shapes["lm_head.weight"] = (vocab, hidden)
    hf = strong(shapes, seed)

    names = {
        "attn.c_proj": "self_attn.proj_output_dense_layer",
        "mlp.c_fc": "ffn.ffn.0.linear_layer",
        "mlp.c_proj": "ffn.ffn.1.linear_layer",
        "ln_1": "norm1",
        "ln_2": "norm3",
    }
    cs = {
        "model.embedding_layer.word_embeddings.weight": hf["transformer.wte.weight"],
        "model.embedding_layer.position_embeddings.embed.weight": hf["transformer.wpe.weight"],
    }
    for key, value in hf.items():
        if key.startswith("transformer.h."):
            _, _, i, *name, end = key.split(".")
            module, rows = ".".join(name), value.T.contiguous() if value.ndim == 2 else value
            if module == "attn.c_attn":
                for role, part in zip("qkv", rows.chunk(3), strict=True):
                    cs[f"model.transformer_decoder.layers.{i}.self_attn.proj_{role}_dense_layer.{end}"] = part.clone()
            else:
                cs[f"model.transformer_decoder.layers.{i}.{names[module]}.{end}"] = rows
    for end in ("weight", "bias"):
        cs[f"model.transformer_decoder.norm.{end}"] = cs[f"model.ln_f.{end}"] = hf[f"transformer.ln_f.{end}"]
    cs["model.lm_head.weight"] = hf["transformer.wte.weight" if tied else "lm_head.weight"].clone()

    hf_config = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": vocab, "n_embd": hidden,
        "n_head": heads, "n_layer": layers, "n_inner": ffn, "n_positions": positions, "activation_function": act,
        "scale_attn_weights": scaled, "tie_word_embeddings": tied, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    cs_config = {
        "name": "gpt2", "vocab_size": vocab, "hidden_size": hidden, "num_heads": heads, "num_hidden_layers": layers,
        "filter_size": ffn, "max_position_embeddings": positions, "nonlinearity": act,
        "attention_type": "scaled_dot_product" if scaled else "dot_product", "share_embedding_weights": tied,
        "layer_norm_epsilon": 1e-5, "use_bias_in_output": False,
    }  # fmt: skip
    return Pair(hf_config, hf, cs_config, cs)


#: HF module -> Cerebras module, below the trunk
_BERT = {
    "embeddings.word_embeddings": "embedding_layer.word_embeddings",
    "embeddings.position_embeddings": "embedding_layer.position_embeddings.embed",
    "embeddings.token_type_embeddings": "embedding_layer.segment_embeddings",
    "embeddings.LayerNorm": "embed_ln_f",
    "attention.self.query": "self_attn.proj_q_dense_layer",
    "attention.self.key": "self_attn.proj_k_dense_layer",
    "attention.self.value": "self_attn.proj_v_dense_layer",
    "attention.output.dense": "self_attn.proj_output_dense_layer",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "ffn.ffn.0.linear_layer",
    "output.dense": "ffn.ffn.1.linear_layer",
    "output.LayerNorm": "norm2",
    "pooler.dense": "pooler.pooler.ffn.0.linear_layer",
}
_BERT_HEADS = {
    "cls.predictions.transform.dense": "bert_mlm_head.mlm_transform.ffn.ffn.0.linear_layer",
    "cls.predictions.transform.LayerNorm": "bert_mlm_head.mlm_transform.ln",
    "cls.predictions.decoder": "bert_mlm_head.classifier.ffn.0.linear_layer",
    "cls.seq_relationship": "bert_cls_head.classifier.ffn.0.linear_layer",
    "classifier": "classifier",
    "qa_outputs": "classifier",
}


def bert_to_cerebras(hf: Mapping[str, Tensor], prefix: str, trunk: str) -> dict[str, Tensor]:
    cs = {}
    for key, value in hf.items():
        module, end = key.rsplit(".", 1)
        if module in _BERT_HEADS:
            cs[f"model.{_BERT_HEADS[module]}.{end}"] = value
        elif "encoder.layer." in module:
            _, _, i, name = module.removeprefix(prefix).split(".", 3)
            cs[f"model.{trunk}transformer_encoder.layers.{i}.{_BERT[name]}.{end}"] = value
        elif module.removeprefix(prefix) in _BERT:
            cs[f"model.{trunk}{_BERT[module.removeprefix(prefix)]}.{end}"] = value
    if "cls.predictions.bias" in hf:
        cs["model.bert_mlm_head.classifier.ffn.0.linear_layer.bias"] = hf["cls.predictions.bias"]
        embedding = hf[f"{prefix}embeddings.word_embeddings.weight"]
        cs.setdefault("model.bert_mlm_head.classifier.ffn.0.linear_layer.weight", embedding)
    return cs


def bert(
    head: str = "pretraining", *, hidden: int = 24, heads: int = 6, layers: int = 3, ffn: int = 14, vocab: int = 23,
    positions: int = 300, tied: bool = True, act: str = "gelu", seed: int = 0,
) -> Pair:  # fmt: skip
    """Heads: pretraining, mlm, sequence, token, qa, none."""
    linear: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings": (vocab, hidden),
        "bert.embeddings.position_embeddings": (positions, hidden),
        "bert.embeddings.token_type_embeddings": (2, hidden),
    }
    biased: dict[str, tuple[int, ...]] = {"bert.embeddings.LayerNorm": (hidden,)}
    for i in range(layers):
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            biased[f"bert.encoder.layer.{i}.{name}"] = (hidden, hidden)
        biased[f"bert.encoder.layer.{i}.attention.output.LayerNorm"] = (hidden,)
        biased[f"bert.encoder.layer.{i}.intermediate.dense"] = (ffn, hidden)
        biased[f"bert.encoder.layer.{i}.output.dense"] = (hidden, ffn)
        biased[f"bert.encoder.layer.{i}.output.LayerNorm"] = (hidden,)
    if head in ("pretraining", "sequence", "none"):
        biased["bert.pooler.dense"] = (hidden, hidden)
    if head in ("pretraining", "mlm"):
        biased["cls.predictions.transform.dense"] = (hidden, hidden)
        biased["cls.predictions.transform.LayerNorm"] = (hidden,)
    if head == "pretraining":
        biased["cls.seq_relationship"] = (2, hidden)
    if head in ("sequence", "token", "qa"):
        biased["qa_outputs" if head == "qa" else "classifier"] = (2 if head == "qa" else 5, hidden)
    shapes = {f"{name}.weight": shape for name, shape in linear.items()}
    for name, shape in biased.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    if head in ("pretraining", "mlm"):
        shapes["cls.predictions.bias"] = (vocab,)
        if not tied:
            shapes["cls.predictions.decoder.weight"] = (vocab, hidden)
    hf = strong(shapes, seed)
    if head in ("pretraining", "mlm") and not tied:
        hf["cls.predictions.decoder.bias"] = hf["cls.predictions.bias"]
    trunk = "bert_encoder." if head in ("pretraining", "mlm", "none") else "bert."
    cs = bert_to_cerebras(hf, "bert.", trunk)
    if head == "none":
        hf = {key.removeprefix("bert."): value for key, value in hf.items()}

    architecture = {
        "pretraining": "BertForPreTraining", "mlm": "BertForMaskedLM", "sequence": "BertForSequenceClassification",
        "token": "BertForTokenClassification", "qa": "BertForQuestionAnswering", "none": "BertModel",
    }[head]  # fmt: skip
    hf_config = {
        "architectures": [architecture], "model_type": "bert", "vocab_size": vocab, "hidden_size": hidden,
        "num_attention_heads": heads, "num_hidden_layers": layers, "intermediate_size": ffn, "hidden_act": act,
        "max_position_embeddings": positions, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        "tie_word_embeddings": tied,
    }  # fmt: skip
    cs_config = {
        "name": "bert", "vocab_size": vocab, "hidden_size": hidden, "num_heads": heads, "num_hidden_layers": layers,
        "filter_size": ffn, "max_position_embeddings": positions, "encoder_nonlinearity": act,
        "mlm_nonlinearity": act, "pooler_nonlinearity": "tanh", "layer_norm_epsilon": 1e-12,
        "share_embedding_weights": tied,
    }  # fmt: skip
    return Pair(hf_config, hf, cs_config, cs)
