"""Wrong rotary positions, as fields of a config of transformers 5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convkit.oracles.oracle import Facts

Fields = dict[str, Any]


def other_base(rope: Mapping[str, Any], facts: Facts, factor: float) -> Fields | None:
    """The base of the frequencies, multiplied; None where none matters, and for a model with a fixed one."""
    if not facts.base_matters or "rope_theta" not in rope:
        return None
    return {"rope_parameters": {**rope, "rope_theta": factor * rope["rope_theta"]}}


def wrong_rotary(config: Mapping[str, Any], rope: Mapping[str, Any], facts: Facts, head_dim: int) -> dict[str, Fields]:
    """What can be wrong, by the name of the fault; ``rope`` are the ``rope_parameters`` that the model has."""
    wrong: dict[str, Fields] = {}
    if rebased := other_base(rope, facts, 1.1):
        wrong["wrong rotary base"] = rebased
    if rope.get("rope_type", "default") != "default":
        plain = {name: rope[name] for name in ("rope_theta", "partial_rotary_factor") if name in rope}
        wrong["rotary scaling left out"] = {"rope_parameters": {"rope_type": "default", **plain}}
    other = facts.other_rotary_dim(head_dim) if facts.rotary_dim < head_dim else 0
    if other and config.get("rotary_dim"):
        wrong["wrong number of rotary dims"] = {"rotary_dim": other}
    elif other and "partial_rotary_factor" in rope:
        share = min(1.0, (other + 0.5) / head_dim)  # the model takes the whole dims of it
        wrong["wrong number of rotary dims"] = {"rope_parameters": {**rope, "partial_rotary_factor": share}}
    return wrong
