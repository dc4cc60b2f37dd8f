"""Generated trees, saved by the real Orbax, read and written by us, restored by the other API of the real one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from restored import by_v0, by_v1, described
from test_writing import rewrite

from convkit.checkpoint import TensorSpec
from convkit.checkpoint.tensors import ITEMSIZE, value_dtype
from convkit.testing import bits

#: Orbax can't hold arrays without elements
SHAPES = st.lists(st.integers(1, 5), max_size=3).map(tuple)
#: dots and slashes are what storage names and their folders are made of
KEYS = st.text("ab01./ _é", max_size=4)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Arbitrary bits in every dtype; jax's arrays in those that it has without 64-bit mode."""
    import jax.numpy as jnp

    spec = TensorSpec(draw(SHAPES), draw(st.sampled_from(sorted(ITEMSIZE))))
    array = bits(spec, draw(st.integers(0, 2**32 - 1))).view(value_dtype(spec.dtype)).reshape(spec.shape)
    if spec.itemsize <= 4 and draw(st.booleans()):
        return jnp.asarray(array)
    return array


def trees() -> st.SearchStrategy[Any]:
    """Nested dicts, lists and tuples of arrays, numbers, texts and empty nodes."""
    numbers = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats()
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    empty = st.sampled_from([None, {}, [], ()])
    leaf = arrays() | numbers | texts | empty.map(lambda node: node if node is None else type(node)())

    def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        some = st.lists(inner, min_size=1, max_size=3)
        return st.dictionaries(KEYS, inner, min_size=1, max_size=3) | some | some.map(tuple)

    tree = st.dictionaries(KEYS, st.recursive(leaf, deeper, max_leaves=6), min_size=1, max_size=4)
    return tree.filter(is_storable)


def is_storable(tree: Any) -> bool:
    """Whether Orbax can save it: all names differ, and no text lies where the names of other texts go on by a slash."""
    names = [name for name, _ in stored(tree)]
    texts = [name for name, leaf in stored(tree) if isinstance(leaf, str)]
    return len(set(names)) == len(names) and not any(b.startswith(f"{a}/") for a in texts for b in texts)


def stored(tree: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Leaves and empty nodes under the names that Orbax gives them, except for a last slash."""
    if isinstance(tree, dict | list | tuple) and tree:
        children = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for name, child in children:
            yield from stored(child, (*where, str(name)))
    else:
        yield ".".join(where).removesuffix("/"), tree


def save(api: str, path: Path, tree: Any) -> Any:
    """Save it with the real Orbax; returns what that restores."""
    if api == "orbax-v0":
        import orbax.checkpoint as ocp

        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(path, tree)
        return by_v0(path)
    import orbax.checkpoint.experimental.v1 as ocp1

    ocp1.save(path, tree)
    return by_v1(path, "state")


@pytest.mark.parametrize(("of", "to"), [("orbax-v0", "orbax-v1"), ("orbax-v1", "orbax-v0")])
@settings(max_examples=25, deadline=None)
@given(tree=trees())
def test_there_and_back(of: str, to: str, tree: Any) -> None:
    with TemporaryDirectory() as folder:
        first = Path(folder) / "first"
        expected = described(save(of, first, tree))
        second = rewrite(first, Path(folder) / "second", to)
        assert described(by_v1(second, "state") if to == "orbax-v1" else by_v0(second / "state")) == expected
        shutil.rmtree(first)
        third = rewrite(second, Path(folder) / "third", of)
        assert described(by_v1(third, "state") if of == "orbax-v1" else by_v0(third / "state")) == expected
