"""A synthetic llama, of bfloat16 or float32, in safetensors shards: random bits, no NaN or infinity."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.checkpoint.tensors import carrier
from convkit.formats import get_format


@dataclass(frozen=True)
class Size:
    """Sizes of a llama; those of 4 layers are 2.27 GB."""

    layers: int = 4
    hidden: int = 4096
    intermediate: int = 14336
    vocab: int = 32000
    heads: int = 32
    kv_heads: int = 8


def leaves(size: Size, dtype: str = "bfloat16") -> list[Leaf]:
    """The tensors of a llama of these sizes."""
    hidden, wide, kv = size.hidden, size.intermediate, size.hidden // size.heads * size.kv_heads
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (size.vocab, hidden)}
    for layer in range(size.layers):
        own = {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (wide, hidden),
            "mlp.up_proj": (wide, hidden),
            "mlp.down_proj": (hidden, wide),
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in own.items()}
    shapes |= {"model.norm.weight": (hidden,), "lm_head.weight": (size.vocab, hidden)}
    return [Leaf(key, TensorSpec(shape, dtype)) for key, shape in shapes.items()]


def make(folder: Path, size: Size = Size(), shard_size: int = 700 << 20, dtype: str = "bfloat16") -> int:
    """Write the checkpoint and its config unless it exists; returns the bytes of its tensors."""
    wanted = leaves(size, dtype)
    total = sum(leaf.spec.nbytes for leaf in wanted if leaf.spec)
    if (folder / "config.json").exists():
        return total
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20261122)
    writer = get_format("safetensors").create(folder, wanted, WriteOptions(shard_size=shard_size))
    step, keep = 1 << 22, {2: 0xBFFF, 4: 0xBFFFFFFF}[TensorSpec((), dtype).itemsize]  # without the exponent's top bit
    for leaf in wanted:
        assert leaf.spec is not None
        for start in range(0, leaf.spec.size, step):
            count = min(step, leaf.spec.size - start)
            bits = rng.integers(0, 1 << 8 * leaf.spec.itemsize, count, dtype=carrier(dtype))
            writer.write(leaf.key, start, bits & keep)
        writer.finish(leaf.key)
    writer.commit()
    writer.close()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "max_position_embeddings": 8192,
        "model_type": "llama",
        "num_attention_heads": size.heads,
        "num_hidden_layers": size.layers,
        "num_key_value_heads": size.kv_heads,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "vocab_size": size.vocab,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return total
