"""Amplify weak weights of a stage on both sides, so that a wrong forward pass shows.

A freshly initialised model attends evenly, and its activations are nearly linear: rotation, head counts and the
activation function leave no trace in its logits. So every weight that is much smaller than a trained model's is
multiplied by a power of two, the same on both sides. That is exact in every float dtype, and errors of the conversion
remain errors. Of the scale of a norm that is stored minus one, what the model uses is multiplied. Weights are named by
the oracles' roles; no mapping is involved. Biases need no amplification. A weight that only one oracle names stays as
it is on both sides, and is reported (:func:`left_weak`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from convkit.oracles.windows import Rows, spread, table

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle

#: roles of tables of which a stage reads some rows
_TABLES = ("embedding", "positions", "segments")


def gains(source: Oracle, target: Oracle, stage: str, rows: Tensor | None = None) -> dict[str, float]:
    """The factors, by role, that make the source's weights of a stage strong; roles whose factor is 1 are left out.

    Of the embedding, only the given ``rows`` are looked at: those that the input uses.
    """
    shared = [role for role in _weights(source, stage) if role in target.roles]
    found = {role: _gain(role, _used(source, role, rows)) for role in shared}
    return {role: gain for role, gain in found.items() if gain != 1}


def left_weak(side: str, oracle: Oracle, other: Oracle, stage: str, rows: Tensor | None = None) -> list[str]:
    """A line for each weight of a stage that is weak and stays so, because the other side doesn't name it."""
    own = [role for role in _weights(oracle, stage) if role not in other.roles]
    weak = [role for role in own if _gain(role, _used(oracle, role, rows)) != 1]
    return [f"{side}: {role} is weak and wasn't amplified: the other side doesn't name it" for role in weak]


def stronger(
    oracle: Oracle, gains: Mapping[str, float], rows: Tensor | None = None
) -> Mapping[str, Callable[[], Tensor]]:
    """How the tensors of these roles are made, by key, with the weights multiplied."""
    return oracle.edits({role: partial(_multiplied, oracle, role, gain, rows) for role, gain in gains.items()})


def _multiplied(oracle: Oracle, role: str, gain: float, rows: Tensor | None) -> Tensor:
    part = oracle.part(role)
    if not _is_table_of_words(role) or rows is None:
        added = oracle.offset(role)
        return (part + added) * gain - added
    window = Rows(0, rows)
    return spread(part[rows] * gain, window, table(window, part.shape))


def _weights(oracle: Oracle, stage: str) -> list[str]:
    return [role for role in oracle.roles if role.endswith(".weight") and oracle.stage_of(role) == stage]


def _used(oracle: Oracle, role: str, rows: Tensor | None) -> Tensor:
    part = oracle.part(role) + oracle.offset(role)
    return part[rows] if _is_table_of_words(role) and rows is not None else part


def _is_table_of_words(role: str) -> bool:
    return role.split(".")[-2:] == ["embedding", "weight"]


def _gain(role: str, part: Tensor) -> float:
    """A power of two; 1 if the weights are all zero, or already at least half as strong as a trained model's."""
    if "norm" in role:
        strong = 1.0
    elif role.split(".")[-2] in _TABLES:
        strong = 0.6
    else:
        strong = part.shape[1] ** -0.5
    size = part.square().mean().sqrt().item()
    return 2.0 ** round(math.log2(strong / size)) if 0 < size < strong / 2 else 1.0
