"""Amplify weak weights of both models, so that a wrong forward pass shows.

A freshly initialised model attends evenly, and its activations are nearly linear: rotation, head counts and the
activation function leave no trace in its logits. So every weight that is much smaller than a trained model's is
multiplied by a power of two, the same on both sides. That is exact in every float dtype, and errors of the conversion
remain errors. Weights are named by the oracles' roles; no mapping is involved. Biases need no amplification. A weight
that only one oracle names stays as it is on both sides, and is reported (:func:`left_weak`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle


def gains(source: Oracle, target: Oracle) -> dict[str, float]:
    """The factors, by role, that make the source's weights strong; roles whose factor is 1 are left out."""
    shared = [role for role in source.roles if role in target.roles and role.endswith(".weight")]
    found = {role: _gain(role, source.part(role)) for role in shared}
    if source.facts.tied or target.facts.tied:
        heads = [role for role in shared if role.startswith("head.") and _is_embedding(source, target, role)]
        found |= dict.fromkeys(heads, found["embedding.weight"])
    return {role: gain for role, gain in found.items() if gain != 1}


def left_weak(source: Oracle, target: Oracle) -> list[str]:
    """A line for each weight that is weak and stays so, because only one side names it."""
    lines: list[str] = []
    for name, oracle, other in (("source", source, target), ("target", target, source)):
        own = [role for role in oracle.roles if role not in other.roles and role.endswith(".weight")]
        weak = [role for role in own if _gain(role, oracle.part(role)) != 1]
        lines += [f"{name}: {role} is weak and wasn't amplified: the other side doesn't name it" for role in weak]
    return lines


def amplified(oracle: Oracle, gains: dict[str, float]) -> Oracle:
    """The oracle with the weights of those roles multiplied; a head tied to the embedding is multiplied once."""
    embedding = oracle.roles["embedding.weight"]
    own = [role for role in gains if role == "embedding.weight" or oracle.roles[role] != embedding]
    return oracle.rebuilt(tensors=oracle.edited({role: oracle.part(role) * gains[role] for role in own}))


def _is_embedding(source: Oracle, target: Oracle, role: str) -> bool:
    return any(oracle.roles[role] == oracle.roles["embedding.weight"] for oracle in (source, target))


def _gain(role: str, part: Tensor) -> float:
    """A power of two; 1 if the weights are all zero, or already at least half as strong as a trained model's."""
    if "norm" in role:
        strong = 1.0
    elif role.split(".", maxsplit=1)[0] in ("embedding", "positions", "segments"):
        strong = 0.6
    else:
        strong = part.shape[1] ** -0.5
    size = part.square().mean().sqrt().item()
    return 2.0 ** round(math.log2(strong / size)) if 0 < size < strong / 2 else 1.0
