"""A T5X AdamW checkpoint of T5 1.1's shape, 834 MB: 2 + 2 layers, random float32 weights and moments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.formats import get_format
from convkit.generate.t5x import T5X

MODEL = T5X(layers=2, decoder_layers=2, heads=16, head_dim=64, hidden=1024, intermediate=2816, vocab=4736)
STEP = 1 << 20


def leaves() -> Iterator[Leaf]:
    """Weights, Adam's moments, and the counts."""
    for name, parameter in MODEL.parameters().items():
        for root in ("target", "state.param_states.1.0.mu", "state.param_states.1.0.nu"):
            yield Leaf(f"{root}.{name.removeprefix('target.')}", TensorSpec(parameter.shape, "float32"))
    for count in ("state.param_states.1.0.count", "state.step"):
        yield Leaf(count, TensorSpec((), "int32"))


def make(folder: Path, compressor: str) -> int:
    """Write the checkpoint unless it exists; returns the bytes of its tensors."""
    wanted = {leaf.key: leaf.spec for leaf in leaves() if leaf.spec}
    if not (folder / "checkpoint").exists():
        random = np.random.default_rng(20261122)
        writer = get_format("t5x").create(folder, list(leaves()), WriteOptions(compressor=compressor))
        for key, spec in wanted.items():
            grain = writer.granularity(key)
            step = max(1, STEP // grain) * grain
            for start in range(0, spec.size, step):
                count = min(step, spec.size - start)
                drawn = random.standard_normal(count, dtype=np.float32)
                writer.write(key, start, drawn.astype(spec.dtype).view(np.uint32))
            writer.finish(key)
        writer.commit()
        writer.close()
    return sum(spec.nbytes for spec in wanted.values())
