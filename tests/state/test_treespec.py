"""Tree specs against torch's own."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convkit.errors import ConvkitError
from convkit.state.cerebras import treespec

pytree = pytest.importorskip("torch.utils._pytree")


def states() -> st.SearchStrategy[Any]:
    """Nested containers with a None at every leaf."""

    def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        keys = st.text(max_size=5) | st.integers()
        return st.one_of(
            st.dictionaries(keys, inner, max_size=3),
            st.dictionaries(keys, inner, max_size=3).map(OrderedDict),
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
        )

    return containers(st.recursive(st.none(), containers, max_leaves=10))


@given(state=states())
def test_text_is_torchs_own(state: Any) -> None:
    text = pytree.treespec_dumps(pytree.tree_structure(state))
    tree = treespec.loads(text)
    assert treespec.dumps(tree) == text


@given(state=states())
def test_names_and_template(state: Any) -> None:
    leaves, spec = pytree.tree_flatten_with_path(state)
    tree = treespec.loads(pytree.treespec_dumps(spec))
    paths = [[str(getattr(step, "key", getattr(step, "idx", None))) for step in path] for path, _ in leaves]
    assert [name for name, node in treespec.terminals(tree) if node.type is None] == [".".join(path) for path in paths]
    template = pytree.tree_map(lambda _: "*", state)
    assert json.dumps(treespec.template(tree)) == json.dumps(template)


def test_empty_containers_have_names() -> None:
    tree = treespec.loads(pytree.treespec_dumps(pytree.tree_structure({"a": {"b": [], "c": {}, "d": ()}, "e": 1})))
    assert {name: node.empty for name, node in treespec.terminals(tree) if node.type} == {
        "a.b": [],
        "a.c": {},
        "a.d": [],
    }


def test_sets_have_no_template() -> None:
    node = '{"type": "builtins.set", "context": "null", "children_spec": []}'
    tree = treespec.loads(f"[1, {node}]")
    assert treespec.template(treespec.dict_of({"s": tree})) is None


def test_flat() -> None:
    tree = treespec.flat(
        [("model.a.b", treespec.LEAF), ("step", treespec.LEAF), ("model.c", treespec.EMPTY_LIST)], "model"
    )
    assert treespec.template(tree) == {"model": {"a.b": "*", "c": []}, "step": "*"}


LEAF = '{"type": null, "context": null, "children_spec": []}'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "corrupt"),
        ("[1", "corrupt"),
        ("3", "corrupt"),
        ("[1, 2]", "corrupt"),
        ("[1, {}]", "corrupt"),
        (f"[2, {LEAF}]", "protocol 2"),
        (f'[1, {{"type": "builtins.dict", "context": "[]", "children_spec": [{LEAF}]}}]', "0 keys for 1"),
        (f'[1, {{"type": "builtins.dict", "context": "3", "children_spec": [{LEAF}]}}]', "corrupt"),
        (f'[1, {{"type": "builtins.dict", "context": "{{", "children_spec": [{LEAF}]}}]', "corrupt"),
        ('[1, {"type": "collections.defaultdict", "context": {}, "children_spec": []}]', "defaultdict"),
        ("[1, " + '{"type": "builtins.list", "context": "null", "children_spec": [' * 5000, "corrupt"),
        ("[" * 100_000, "corrupt"),
    ],
)
def test_refuses(text: str, problem: str) -> None:
    with pytest.raises(ConvkitError, match=problem):
        treespec.loads(text)
