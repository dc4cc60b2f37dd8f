"""A synthetic bfloat16 llama in safetensors shards: random bits, no NaN or infinity."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.formats import get_format

HIDDEN, FILTER, VOCAB, HEADS, KV_HEADS = 4096, 14336, 32000, 32, 8


def leaves(layers: int) -> list[Leaf]:
    """The tensors of a llama of these sizes."""
    kv = HIDDEN // HEADS * KV_HEADS
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, HIDDEN)}
    for layer in range(layers):
        own = {
            "self_attn.q_proj": (HIDDEN, HIDDEN),
            "self_attn.k_proj": (kv, HIDDEN),
            "self_attn.v_proj": (kv, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HIDDEN),
            "mlp.gate_proj": (FILTER, HIDDEN),
            "mlp.up_proj": (FILTER, HIDDEN),
            "mlp.down_proj": (HIDDEN, FILTER),
            "input_layernorm": (HIDDEN,),
            "post_attention_layernorm": (HIDDEN,),
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in own.items()}
    shapes |= {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCAB, HIDDEN)}
    return [Leaf(key, TensorSpec(shape, "bfloat16")) for key, shape in shapes.items()]


def make(folder: Path, layers: int = 4, shard_size: int = 700 << 20) -> int:
    """Write the checkpoint and its config unless it exists; returns the bytes of its tensors."""
    wanted = leaves(layers)
    total = sum(leaf.spec.nbytes for leaf in wanted if leaf.spec)
    if (folder / "config.json").exists():
        return total
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20261122)
    writer = get_format("safetensors").create(folder, wanted, WriteOptions(shard_size=shard_size))
    step = 1 << 22
    for leaf in wanted:
        assert leaf.spec is not None
        for start in range(0, leaf.spec.size, step):
            count = min(step, leaf.spec.size - start)
            bits = rng.integers(0, 1 << 16, count, dtype=np.uint16)
            writer.write(leaf.key, start, bits & 0xBFFF)  # clears the exponent's top bit
        writer.finish(leaf.key)
    writer.commit()
    writer.close()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": FILTER,
        "max_position_embeddings": 8192,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": layers,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "vocab_size": VOCAB,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return total
