"""The structure of a nested state dict: torch's ``treespec_dumps`` text, read without torch.

The text is ``[1, node]``; a node is ``{"type", "context", "children_spec"}``: ``type`` is null for a
leaf and the container's name otherwise, ``context`` the JSON text of a dict's keys (torch 2.4 to 2.13,
``torch/utils/_pytree.py``, protocol 1). A leaf's name is its path joined by ".", with positions for
the children of lists, tuples, sets and named tuples (``recurse_spec`` in cerebras-pytorch 2.10,
``cerebras/pytorch/utils/nest.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from convkit.checkpoint import Leaf, json_text
from convkit.errors import ConvkitError
from convkit.state.budget import Budget

_PROTOCOL = 1
#: containers whose children have keys
DICTS = ("builtins.dict", "collections.OrderedDict")
#: containers without a JSON counterpart
_NOT_JSON = ("builtins.set", "collections.deque")


class Tree(Struct, frozen=True):
    """A leaf (``type`` is None) or a container with its children; ``context`` as its JSON text."""

    type: str | None = None
    context: str | None = None
    children: tuple[Tree, ...] = ()

    @property
    def keys(self) -> list[Any]:
        """A dict's keys, or the positions in another container."""
        return json_text.loads(self.context or "[]") if self.type in DICTS else list(range(len(self.children)))

    @property
    def empty(self) -> list | dict:
        """The value of an empty container."""
        return {} if self.type in DICTS else []


LEAF = Tree()
EMPTY_LIST = Tree("builtins.list", "null")


def node_of(leaf: Leaf) -> Tree:
    """The node of a leaf, or of the empty container that it stands for."""
    if leaf.spec is None and leaf.value == {}:
        return dict_of({})
    return EMPTY_LIST if leaf.spec is None and leaf.value == [] else LEAF


def dict_of(children: Mapping[str, Tree]) -> Tree:
    """The spec of a plain dict."""
    return Tree("builtins.dict", json.dumps(list(children)), tuple(children.values()))


def loads(text: str) -> Tree:
    """The tree that torch's ``treespec_dumps`` wrote.

    Raises:
        ConvkitError: not a tree spec, or a container whose children can't be named.
    """
    try:
        protocol, node = json_text.loads(text)
        if protocol != _PROTOCOL:
            raise ConvkitError(f"a tree spec of protocol {protocol!r}", remedy=f"protocol {_PROTOCOL} is read")
        return _parse(node)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConvkitError(f"the tree spec is corrupt: {error}", remedy="fetch the file again") from error


def dumps(tree: Tree) -> str:
    """The text that torch's ``treespec_loads`` reads."""
    return json.dumps([_PROTOCOL, _node(tree)])


def terminals(tree: Tree) -> Iterator[tuple[str, Tree]]:
    """Leaves and empty containers in order, by name. The outermost container has none.

    Raises:
        ConvkitError: more, or with longer names, than are read (:mod:`convkit.state.budget`).
    """
    return _terminals(tree, (), Budget())


def _terminals(tree: Tree, path: tuple[str, ...], budget: Budget) -> Iterator[tuple[str, Tree]]:
    if tree.type is None or (path and not tree.children):
        name = ".".join(path)
        budget.take(name)
        yield name, tree
    for key, child in zip(tree.keys, tree.children, strict=True):
        yield from _terminals(child, (*path, str(key)), budget)


def template(tree: Tree) -> Any:
    """The structure as plain JSON with "*" for every leaf; None if JSON can't express it."""
    try:
        return _template(tree)
    except TypeError:
        return None


def flat(names: Iterable[tuple[str, Tree]], prefix: str) -> Tree:
    """The spec of a dict of all names, in which those with the prefix are in a dict of their own."""
    top: dict[str, Tree] = {}
    below: dict[str, Tree] = {}
    for name, node in names:
        inner = name.removeprefix(f"{prefix}.")
        if inner != name:
            top[prefix] = LEAF
            below[inner] = node
        else:
            top[name] = node
    if below:
        top[prefix] = dict_of(below)
    return dict_of(top)


def _parse(node: dict[str, Any]) -> Tree:
    tree = Tree(node["type"], node["context"], tuple(_parse(child) for child in node["children_spec"]))
    if tree.type == "collections.defaultdict":
        raise ConvkitError("holds a defaultdict, which cerebras.pytorch can't name", remedy="save it as a dict")
    if tree.type in DICTS and len(tree.keys) != len(tree.children):
        raise ValueError(f"{len(tree.keys)} keys for {len(tree.children)} children")
    return tree


def _node(tree: Tree) -> dict[str, Any]:
    return {"type": tree.type, "context": tree.context, "children_spec": [_node(child) for child in tree.children]}


def _template(tree: Tree) -> Any:
    if tree.type is None:
        return "*"
    if tree.type in _NOT_JSON:
        raise TypeError(tree.type)
    inner = [_template(child) for child in tree.children]
    if tree.type in DICTS:
        return dict(zip(tree.keys, inner, strict=True))
    return inner
