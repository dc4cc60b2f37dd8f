"""A T5X AdamW checkpoint of T5 1.1's shape, 818 MB: 2 + 2 layers, random float32 weights and moments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from convkit.checkpoint import Leaf, WriteOptions
from convkit.formats import get_format
from convkit.tensors import TensorSpec

LAYERS, WIDTH, MLP, VOCAB, HEADS = 2, 1024, 2816, 4736, 16
STEP = 1 << 20


def parameters() -> dict[str, tuple[int, ...]]:
    """The names and shapes of the model; heads are joined, as T5X has them."""
    square, up, down, norm = (WIDTH, WIDTH), (WIDTH, MLP), (MLP, WIDTH), (WIDTH,)
    mlp = {"mlp.wi_0.kernel": up, "mlp.wi_1.kernel": up, "mlp.wo.kernel": down, "pre_mlp_layer_norm.scale": norm}
    shapes: dict[str, tuple[int, ...]] = {
        "token_embedder.embedding": (VOCAB, WIDTH),
        "decoder.logits_dense.kernel": (WIDTH, VOCAB),
        "encoder.relpos_bias.rel_embedding": (HEADS, 32),
        "decoder.relpos_bias.rel_embedding": (HEADS, 32),
        "encoder.encoder_norm.scale": norm,
        "decoder.decoder_norm.scale": norm,
    }
    kinds = {
        "encoder": {"attention": "pre_attention_layer_norm"},
        "decoder": {
            "self_attention": "pre_self_attention_layer_norm",
            "encoder_decoder_attention": "pre_cross_attention_layer_norm",
        },
    }
    for side, attentions in kinds.items():
        for layer in range(LAYERS):
            own = {f"{name}.{n}.kernel": square for name in attentions for n in ("query", "key", "value", "out")}
            own |= {f"{scale}.scale": norm for scale in attentions.values()} | mlp
            shapes |= {f"{side}.layers_{layer}.{name}": shape for name, shape in own.items()}
    return shapes


def leaves() -> Iterator[Leaf]:
    """Weights, Adam's moments, and the counts."""
    for root in ("target", "state.param_states.1.0.mu", "state.param_states.1.0.nu"):
        for name, shape in parameters().items():
            yield Leaf(f"{root}.{name}", TensorSpec(shape, "float32"))
    yield Leaf("state.param_states.1.0.count", TensorSpec((), "int32"))
    yield Leaf("state.step", TensorSpec((), "int32"))
    yield Leaf("state.param_states.0", value={})


def make(folder: Path, compressor: str) -> int:
    """Write the checkpoint unless it is there; returns the bytes of its tensors."""
    wanted = list(leaves())
    if not (folder / "checkpoint").exists():
        random = np.random.default_rng(20261122)
        writer = get_format("t5x").create(folder, wanted, WriteOptions(compressor=compressor))
        for leaf in wanted:
            if leaf.spec is None:
                continue
            grain = writer.granularity(leaf.key)
            step = max(1, STEP // grain) * grain
            for start in range(0, leaf.spec.size, step):
                count = min(step, leaf.spec.size - start)
                drawn = random.standard_normal(count, dtype=np.float32)
                writer.write(leaf.key, start, drawn.astype(leaf.spec.dtype).view(np.uint32))
            writer.finish(leaf.key)
        writer.commit()
        writer.close()
    return sum(leaf.spec.nbytes for leaf in wanted if leaf.spec)
