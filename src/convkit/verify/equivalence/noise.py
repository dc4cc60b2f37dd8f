"""Measure how much float32 rounding alone changes a model's output, since the bound must allow for it.

Models amplify rounding differently: two implementations agree to 7e-7 on one set of weights and to 8e-6 on another. So
the reference is run once more with half of its weights, chosen at random, moved to the neighbouring float: about what
an implementation's own rounding does to every product. Its rotary base is moved by :data:`BASE`: about what float32
exponentials do to the frequencies (frameworks write them differently, and the error grows with the position). The
difference from the first run is the model's noise: a difference of that size says nothing about the conversion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from convkit.verify.equivalence.agreement import compare

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle, Trace

#: A comparison's bound is this many times the noise: right pairs stay below 1.1 times it (recorded and
#: generated models of 2 ... 12 layers, llama, gpt2 and bert).
ROOM = 2.0
#: float32 has 24 bits, and ``exp(-x)`` of a frequency's logarithm (x up to 13) loses up to four of them
BASE = 2.0**-20


def rounding_noise(oracle: Oracle, reference: Trace, probe: Mapping[str, Tensor], seed: int = 0) -> float:
    """The largest relative difference between ``reference`` and a run with weights moved to neighbouring floats."""
    import torch

    random = torch.Generator().manual_seed(seed)

    def aside(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        up = torch.randint(0, 4, tensor.shape, generator=random, dtype=torch.int8)
        infinity = torch.tensor(float("inf"), dtype=tensor.dtype)
        moved = torch.where(up == 0, torch.nextafter(tensor, infinity), tensor)
        return torch.where((up == 1), torch.nextafter(tensor, -infinity), moved)

    tensors = {key: aside(tensor) for key, tensor in oracle.tensors.items()}
    tensors |= {copy: tensors[original] for copy, original in oracle.twins.items()}
    return compare(reference, oracle.rebuilt(oracle.rebased(1 + BASE), tensors).run(probe)).max_rel
