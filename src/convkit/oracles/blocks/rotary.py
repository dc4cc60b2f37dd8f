"""Rotary positions as Cerebras computes them: interleaved pairs, float32 tables.

Source: Cerebras ModelZoo 2.10.0, ``layers/RotaryPositionEmbeddingHelper.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError

if TYPE_CHECKING:
    from torch import Tensor


def rotate(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Rotate the pairs (2i, 2i+1) of the first dims of each head; the other dims are unchanged.

    Args:
        x: ``[batch, positions, heads, head_dim]``, float32.
        sin: ``[positions, rotary_dim]``, each value twice; the same for ``cos``.
    """
    import torch

    turned, rest = x[..., : sin.shape[-1]], x[..., sin.shape[-1] :]
    quarter = torch.stack((-turned[..., 1::2], turned[..., ::2]), dim=-1).flatten(-2)
    return torch.cat((turned * cos[:, None] + quarter * sin[:, None], rest), dim=-1)


def tables(config: Mapping[str, Any], rotary_dim: int, length: int) -> tuple[Tensor, Tensor]:
    """Sine and cosine, ``[length, rotary_dim]`` each, float32.

    Raises:
        ConvkitError: a scaling type that ModelZoo 2.10 doesn't have, or one without its parameters.
    """
    import torch

    kind = str(config.get("pos_scaling_type") or "linear").lower()
    if kind not in _SCALINGS:
        raise ConvkitError(f"no rotary scaling is called {kind!r}", key="pos_scaling_type", remedy="; ".join(_SCALINGS))
    positions = torch.arange(length, dtype=torch.float32)
    try:
        frequencies, positions, magnitude = _SCALINGS[kind](config, rotary_dim, positions)
    except KeyError as error:
        key = f"pos_scaling_extra_args.{error.args[0]}"
        raise ConvkitError(f"{kind} scaling needs this field", key=key, remedy="add it to the yaml") from error
    phases = (positions[:, None] * frequencies).repeat_interleave(2, dim=-1)
    return torch.sin(phases) * magnitude, torch.cos(phases) * magnitude


def switches_at(config: Mapping[str, Any]) -> int:
    """For longrope, the input length above which other frameworks use the same frequencies as this one."""
    extra = config.get("pos_scaling_extra_args") or {}
    if str(config.get("pos_scaling_type")).lower() != "longrope":
        return 0
    return int(extra.get("original_max_position_embeddings") or 0)


def _frequencies(config: Mapping[str, Any], dim: int) -> Tensor:
    """Unscaled frequencies; the two formulas round differently in float32, so each is kept."""
    import torch

    theta = torch.tensor(float(config.get("rope_theta", 10000)), dtype=torch.float32)
    pairs = torch.arange(dim // 2, dtype=torch.float32)
    if config.get("fold_rope_consts"):
        return 1 / theta ** (2 * pairs / dim)
    return torch.exp(pairs * (-torch.log(theta) * 2 / dim))


def _linear(config: Mapping[str, Any], dim: int, positions: Tensor) -> tuple[Tensor, Tensor, float]:
    return _frequencies(config, dim), positions / float(config.get("pos_scaling_factor", 1.0)), 1.0


def _llama3(config: Mapping[str, Any], dim: int, positions: Tensor) -> tuple[Tensor, Tensor, float]:
    """Low frequencies are scaled down, high ones kept, and those between are interpolated."""
    import torch

    extra = config.get("pos_scaling_extra_args") or {}
    low, high = float(extra.get("low_freq_factor", 1)), float(extra.get("high_freq_factor", 4))
    original = float(extra.get("original_max_position_embeddings", 8192))
    plain = _frequencies(config, dim)
    slow = plain / float(config.get("pos_scaling_factor", 1.0))
    waves = 2 * math.pi / plain
    blend = (original / waves - low) / (high - low)
    between = (1 - blend) * slow + blend * plain
    return (
        torch.where(waves < original / high, plain, torch.where(waves > original / low, slow, between)),
        positions,
        1.0,
    )


def _yarn(config: Mapping[str, Any], dim: int, positions: Tensor) -> tuple[Tensor, Tensor, float]:
    """High frequencies are kept, low ones scaled down, with a linear ramp between."""
    import torch

    extra = config.get("pos_scaling_extra_args") or {}
    factor, theta = float(config.get("pos_scaling_factor", 1.0)), float(config.get("rope_theta", 10000))
    original = extra["original_max_position_embeddings"]

    def pair_that_turns(times: float) -> float:
        return dim * math.log(original / (times * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair_that_turns(extra.get("beta_fast", 32)), pair_that_turns(extra.get("beta_slow", 1))
    if extra.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    ramp = (torch.arange(dim // 2, dtype=torch.float32) - first) / (last - first or 0.001)
    keep = (1 - ramp.clamp(0, 1)) * extra.get("extrapolation_factor", 1.0)
    plain = _frequencies(config, dim)
    magnitude = extra.get("mscale_a", 0.1) * math.log(factor) + extra.get("mscale_b", 1.0) if factor > 1 else 1.0
    return plain / factor * (1 - keep) + plain * keep, positions, magnitude


def _longrope(config: Mapping[str, Any], dim: int, positions: Tensor) -> tuple[Tensor, Tensor, float]:
    """Each pair has its own factor, chosen by the model's maximum positions and not by the input's length."""
    import torch

    extra = config.get("pos_scaling_extra_args") or {}
    original = extra["original_max_position_embeddings"]
    stretch = config["max_position_embeddings"] / original
    side = "long" if stretch > 1 else "short"
    factors = torch.tensor(extra[f"{side}_factor"], dtype=torch.float32)
    pairs = torch.arange(dim // 2, dtype=torch.float32)
    default = math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0
    magnitude = extra.get(f"{side}_mscale", extra.get("attention_factor", default))
    return 1.0 / (factors * float(config.get("rope_theta", 10000)) ** (2 * pairs / dim)), positions, float(magnitude)


_SCALINGS = {"linear": _linear, "llama3": _llama3, "yarn": _yarn, "longrope": _longrope}
