"""Weights from a seed: large enough that a wrong forward pass is visible, and the same on every machine.

With the small weights of an untrained model attention is uniform and activations are linear: a wrong
rotary or a swapped gate changes nothing that can be measured. So matrices preserve the scale of their inputs (attention
scores then spread by 1 to 3, activations leave their linear range), norm scales spread around 1, and no bias is zero.
Numbers are sums of four uniform integers from the raw stream of PCG64: numpy guarantees that stream forever (NEP 19),
but not its normal distribution, and integers don't round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from convkit.checkpoint.progress import Meter, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: standard deviations: of a matrix (times the square root of its inputs), an embedding, a bias, a norm scale around 1
MATRIX, EMBEDDING, BIAS, NORM = 1.25, 0.5, 0.2, 0.3

#: of a sum of four integers, each uniform below 2**16
_MEAN, _STD = 2 * 65535, ((2**32 - 1) / 3) ** 0.5
#: parameters that are embeddings, and no module's
_TABLES = ("cls_token", "position_embeddings")
#: numbers that are drawn at a time: few enough that they stay in a processor's cache
_PIECE = 1 << 15


def drawn(seed: int, key: str, count: int) -> Iterator[np.ndarray]:
    """Numbers of mean 0 and variance 1, bell-shaped, none beyond 3.47; float64, 1-D, in pieces."""
    entropy = int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest(), "little")
    stream = np.random.PCG64(entropy)
    for start in range(0, count, _PIECE):
        parts = stream.random_raw(min(_PIECE, count - start)).astype("<u8", copy=False).view("<u2")
        sums = parts[0::4].astype(np.uint32)
        for part in (parts[1::4], parts[2::4], parts[3::4]):
            sums += part
        yield (sums.astype(np.float64) - _MEAN) / _STD


def draw(seed: int, key: str, size: int) -> np.ndarray:
    """The numbers of :func:`drawn` in one piece."""
    return np.concatenate([np.empty(0), *drawn(seed, key, size)])


def fill(model: PreTrainedModel, seed: int, progress: Progress | None = None) -> None:
    """Set every parameter's weights by its name without the base model's prefix, so a headless model gets the same.

    Numbers are float32 before they are rounded to the parameter's dtype.

    Args:
        model: its parameters are contiguous.
        seed: of the numbers.
        progress: called with the bytes that are set, and those of all parameters.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    advance = Meter(sum(parameter.nbytes for parameter in model.parameters()), progress)
    embeddings = {module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    for key, parameter in model.named_parameters():
        owner, _, name = key.rpartition(".")
        if parameter.ndim == 1:
            mean, std = (0.0, BIAS) if name == "bias" else (1.0, NORM)
        elif parameter in embeddings or name in _TABLES:
            mean, std = 0.0, EMBEDDING
        else:
            inputs = parameter.shape[0 if isinstance(model.get_submodule(owner), Conv1D) else 1]
            if isinstance(model.get_submodule(owner), torch.nn.Conv2d):
                inputs = parameter[0].numel()
            mean, std = 0.0, MATRIX / inputs**0.5
        flat, start = parameter.detach().view(-1), 0
        for numbers in drawn(seed, key.removeprefix(f"{model.base_model_prefix}."), parameter.numel()):
            values = (mean + std * numbers).astype(np.float32)
            flat[start : start + values.size] = torch.from_numpy(values)
            start += values.size
            advance(values.size * parameter.element_size())
