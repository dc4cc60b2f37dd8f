"""Samples of leaves with their elements, to write in any format."""

from __future__ import annotations

import math
import string
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

from convkit.checkpoint import Leaf, TensorSpec
from convkit.checkpoint.tensors import ITEMSIZE, NARROW, carrier

#: most elements of a tensor, so that many samples can be tried
MAX_SIZE = 4096


@dataclass(frozen=True)
class Sample:
    """Leaves to write, and each tensor's elements: 1-D, carrier dtype."""

    leaves: tuple[Leaf, ...]
    data: dict[str, np.ndarray]


@cache
def specs() -> st.SearchStrategy[TensorSpec]:
    """Shapes of 0 to 4 axes, empty ones included, in every dtype."""
    shapes = st.lists(st.integers(0, 17), max_size=4).map(tuple).filter(lambda shape: math.prod(shape) <= MAX_SIZE)
    return st.builds(TensorSpec, shapes, st.sampled_from(sorted(ITEMSIZE)))


@cache
def values() -> st.SearchStrategy[Any]:
    """Values that a leaf without a tensor may hold, except serialized objects."""
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.just([]),
        st.just({}),
    )


@cache
def keys() -> st.SearchStrategy[str]:
    """Dotted names, with numbers in the middle."""
    letters = f"{string.ascii_letters}_"
    text = st.text(letters + string.digits, min_size=1, max_size=8)  # several times as quick as a regular expression
    name = text.map(lambda text: text if text[0] in letters else f"_{text[1:]}")
    middle = st.lists(name | st.integers(0, 99).map(str), max_size=2)
    return st.builds(lambda first, rest, last: ".".join([first, *rest, last]), name, middle, name)


@cache
def _trees(most: int) -> st.SearchStrategy[list[str]]:
    """Names of leaves of one tree, which needn't be made anew for each sample."""
    return st.lists(keys(), min_size=2, max_size=most, unique=True).filter(_is_a_tree)


@cache
def _contents() -> st.SearchStrategy[TensorSpec | None]:
    return st.none() | specs()


_SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def samples(draw: st.DrawFn, max_leaves: int = 6) -> Sample:
    """Tensors of arbitrary bits (NaN payloads, negative zeros), values, and a tied pair."""
    names = draw(_trees(max_leaves))
    leaves: list[Leaf] = []
    data: dict[str, np.ndarray] = {}
    for name in names[1:]:
        spec = draw(_contents())
        if spec is None:
            leaves.append(Leaf(name, value=draw(values())))
        else:
            leaves.append(Leaf(name, spec))
            data[name] = bits(spec, draw(_SEEDS))
    tensors = [leaf for leaf in leaves if leaf.spec]
    if tensors:
        target = draw(st.sampled_from(tensors))
        leaves.append(Leaf(names[0], target.spec, same_as=target.key))
        data[names[0]] = data[target.key]
    return Sample(tuple(leaves), data)


def bits(spec: TensorSpec, seed: int) -> np.ndarray:
    """Random elements: any bits at all, except in a bool or a narrow dtype, where only valid ones."""
    raw = np.random.default_rng(seed).integers(0, 256, spec.nbytes, np.uint8)
    meant = 1 if spec.dtype == "bool" else NARROW.get(spec.dtype, 8)
    return (raw & ((1 << meant) - 1)).view(carrier(spec.dtype))


def _is_a_tree(names: Iterable[str]) -> bool:
    names = set(names)
    return not any(
        ".".join(name.split(".")[:depth]) in names for name in names for depth in range(1, name.count(".") + 1)
    )
