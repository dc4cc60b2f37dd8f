from __future__ import annotations

import pytest

from convkit.errors import ConvkitError
from convkit.state.pax.treedef import leaf_names

jax = pytest.importorskip("jax")


def printed(tree: object) -> str:
    return str(jax.tree_util.tree_structure(tree))


def test_names_are_in_the_order_in_which_jax_flattens() -> None:
    tree = {"b": [1, (2, {"x": 3})], "a": {"p#3#i-1": (4,), "none": None, "empty": [], "nothing": {}}}
    assert leaf_names(printed(tree)) == ["a.p#3#i-1_0", "b_0", "b_1_0", "b_1_1.x"]


def test_classes_name_their_fields() -> None:
    """As praxis registers NestedMap, paxml TrainState, and optax its empty nodes."""
    text = (
        "PyTreeDef(CustomNode(TrainState[()], [*, CustomNode(NestedMap[('params', 'fp8')], [{'w': *}, *]), "
        "[(CustomNode(MaskedNode[()], []), CustomNode(NestedMap[('m', \"v\")], [*, *]))], ()]))"
    )
    assert leaf_names(text) == ["step", "mdl_vars.params.w", "mdl_vars.fp8", "opt_states_0_1.m", "opt_states_0_1.v"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PyTreeDef",
        "PyTreeDef(*",
        "PyTreeDef(*) and more",
        "PyTreeDef(x)",
        "PyTreeDef('*')",
        "PyTreeDef({'a' *})",
        "PyTreeDef({a: *})",
        "PyTreeDef([* *])",
        "PyTreeDef([*)",
        "PyTreeDef({'a\\'b': *})",
        "PyTreeDef(CustomNode(NestedMap[('a',",
        "PyTreeDef(__import__('os'))",
        "PyTreeDef(" + "[" * 1000,
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ConvkitError, match="isn't a tree as jax prints it") as refusal:
        leaf_names(text)
    assert len(str(refusal.value)) < 300


def test_a_class_without_names_is_named() -> None:
    with pytest.raises(ConvkitError, match="opt_states: str_pytree_state has a Adam whose fields it doesn't name"):
        leaf_names("PyTreeDef({'opt_states': CustomNode(Adam[()], [*])})")
