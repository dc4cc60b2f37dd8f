"""The faults that are planted where one model multiplies what the other has multiplied in its weights (muP).

They are mistakes of whoever moves a factor into the weights: it is left out, or applied twice. See :mod:`.faults`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from convkit.verify.equivalence.faults import Changes, Kind, Place

if TYPE_CHECKING:
    from convkit.oracles.oracle import Oracle

#: a role in a layer, and what people call it
_IN_A_LAYER = {
    "q": "the queries",
    "k": "the keys",
    "v": "the values",
    "o": "the attention's output",
    "cross_q": "the queries across",
    "cross_k": "the keys across",
    "cross_v": "the values across",
    "cross_o": "the output across",
}
_OUTSIDE = {
    "embedding": "the embeddings",
    "norm_embedding": "the embeddings' norm",
    "head.lm": "the logits",
    "head.mlm": "the logits of masked words",
    "head.nsp": "the logits of next sentences",
}
#: of factors nearer to 1 a fault is too small to be seen
_NEAR = 0.01


def _factors(source: Oracle, target: Oracle) -> dict[str, float]:
    """By role, by what the target's weights must be multiplied in comparison to the source's."""
    ours, theirs = source.factors(), target.factors()
    found = {role: ours.get(role, 1.0) / theirs.get(role, 1.0) for role in ours.keys() | theirs.keys()}
    return {role: factor for role, factor in found.items() if not math.isclose(factor, 1.0, rel_tol=_NEAR)}


def in_a_layer(source: Oracle, target: Oracle) -> tuple[Kind, ...]:
    """The kinds of faults in a layer of the ``target``."""
    factors = _factors(source, target)
    own = [(role, of) for role, of in _IN_A_LAYER.items() if any(name.endswith(f".{role}") for name in factors)]
    return tuple(kind for role, of in own for kind in _both(of, partial(_multiplied, factors, f"layers.*.{role}")))


def outside_layers(source: Oracle, target: Oracle) -> tuple[Kind, ...]:
    """The kinds of faults before and after the layers of the ``target``."""
    factors = _factors(source, target)
    own = [(role, of) for role, of in _OUTSIDE.items() if role in factors]
    return tuple(kind for role, of in own for kind in _both(of, partial(_multiplied, factors, role)))


def _both(of: str, changes: Callable[[int, Place], Changes]) -> tuple[Kind, Kind]:
    return (
        Kind(f"factor of {of} left out", partial(changes, -1)),
        Kind(f"factor of {of} applied twice", partial(changes, 1)),
    )


def _multiplied(factors: Mapping[str, float], role: str, power: int, place: Place) -> Changes:
    """A module's weight and bias, multiplied by a power of the factor."""
    if role.startswith("layers."):
        role = place.role(role.rpartition(".")[2])
    elif not place.reads(f"{role}.weight") or (role.startswith("head.") and role[len("head.") :] not in place.heads):
        return {}
    ends = [f"{role}.{end}" for end in ("weight", "bias") if place.has(f"{role}.{end}")]
    return {end: place.oracle.part(end) * factors[role] ** power for end in ends} if role in factors else {}
