"""Measure how much float32 rounding alone changes what a stage gives, since the bound must allow for it.

Models amplify rounding differently: two implementations agree to 7e-7 on one set of weights and to 8e-6 on another. So
the source's stage is run once more with half of its weights, chosen at random, moved to the neighbouring float: about
what an implementation's own rounding does to every product. Its rotary base is moved by :data:`BASE`: about what
float32 exponentials do to the frequencies (frameworks write them differently, and the error grows with the position).
The difference from the first run is the stage's noise: a difference of that size says nothing about the conversion.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: A comparison's bound is this many times the noise: right pairs stay below 1.1 times it (recorded and
#: generated models of 2 ... 12 layers, llama, gpt2 and bert).
ROOM = 2.0
#: float32 has 24 bits, and ``exp(-x)`` of a frequency's logarithm (x up to 13) loses up to four of them
BASE = 2.0**-20
#: elements that are moved at once
_BLOCK = 1 << 20


def move_aside(tensor: Tensor, key: str) -> None:
    """Move half of a tensor's elements, chosen at random by its key, to a neighbouring float32, in place.

    The neighbour of a float's bits, read as an integer, is the next float away from zero or towards it. Zeros stay:
    below them is no smaller number, and the bits of their neighbour are those of NaN.
    """
    import torch

    random = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    drawn = torch.randint(0, 4, (min(_BLOCK, tensor.numel()),), generator=random, dtype=torch.int8)
    steps = ((drawn == 0).int() - (drawn == 1).int()).to(tensor.device)
    flat = tensor.view(-1) if tensor.is_contiguous() else tensor.reshape(-1)
    for start in range(0, flat.numel(), _BLOCK):
        block = flat[start : start + _BLOCK]
        block.view(torch.int32).add_(steps[: block.numel()] * ((block != 0) & block.isfinite()))
    if not tensor.is_contiguous():
        tensor.copy_(flat.view(tensor.shape))
