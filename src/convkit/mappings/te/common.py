"""Declarations that the mappings to TE share.

Facts: JAX-Toolbox, ``rosetta/utils/te_pax_t5x_ckpt_converter`` at 3e33819f, the last release of the original
converter, and its branches; TransformerEngine v1.5 ... v2.2, ``jax/flax/transformer.py`` and ``module.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from msgspec.structs import replace

from convkit.errors import ConfigError
from convkit.mapping import Derived, LeftBehind, Part, Refused, Rule, Variant
from convkit.mapping.declaration import Which

#: The scope of a conversion to or from TE: everything, or only the weights.
SCOPE = Variant("scope", "right", ("all", "weights"))
#: Whether norms and biases are converted or keep their names.
NORMS = Variant("norms", "right", ("converted", "kept"))
BIASES = Variant("biases", "right", ("converted", "kept"))

WEIGHT_ONLY = "convert only the weights, and keep the rest as it is: --weight-only, or --variant scope=weights"


def where(condition: str, rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules with a further condition."""
    return tuple(rule.changed(when=" & ".join(filter(None, (rule.when, condition)))) for rule in rules)


def split_heads(names: dict[str, Any]) -> tuple[int | None, int | None]:
    """The number of heads and their size, on one joined axis, as far as they are known.

    Raises:
        ConfigError: they don't multiply to the axis's length.
    """
    joined, heads, head_dim = names.get("joined"), names.get("heads"), names.get("head_dim")
    if joined is None or (heads is None and head_dim is None):
        return None, None
    heads = heads or max(1, joined // head_dim)
    head_dim = head_dim or max(1, joined // heads)
    if heads * head_dim != joined:
        raise ConfigError(
            f"{heads} heads of {head_dim} are {heads * head_dim}, but the kernels have {joined}",
            remedy="correct --num-of-head (--size heads=N) or --head-dim (--size head_dim=N), or leave them out",
        )
    return heads, head_dim


_T = TypeVar("_T", LeftBehind, Refused, Derived, Part)


def both_sides(rule: _T) -> tuple[_T, _T]:
    """The measure for the leaves of either layout."""
    sides: tuple[Which, Which] = ("left", "right")
    return replace(rule, side=sides[0]), replace(rule, side=sides[1])
