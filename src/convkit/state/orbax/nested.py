"""Trees of dicts and lists, taken apart into leaves by their paths, and put together again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from convkit.state.orbax.tree import DICT, SEQUENCE

#: a path in a tree: each element with what it is, a key (:data:`DICT`) or a position (:data:`SEQUENCE`)
Path = tuple[tuple[str, int], ...]


class _Held:
    """A leaf while its tree is put together: it may be a dict itself."""

    def __init__(self, leaf: Any) -> None:
        self.leaf = leaf


def nested(leaves: Iterable[tuple[Path, Any]]) -> Any:
    """The tree of these leaves; a leaf without a path is the whole tree."""
    top: dict[tuple[str, int], Any] = {}
    for path, leaf in leaves:
        if not path:
            return leaf
        place = top
        for element in path[:-1]:
            place = place.setdefault(element, {})
        place[path[-1]] = _Held(leaf)
    return _put_together(top)


def _put_together(place: Any) -> Any:
    if isinstance(place, _Held):
        return place.leaf
    children = {element: _put_together(child) for element, child in place.items()}
    if children and all(kind == SEQUENCE for _, kind in children):
        return [children[element] for element in sorted(children, key=lambda element: int(element[0]))]
    return {name: child for (name, _), child in children.items()}


def flat(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Leaves and empty nodes of nested dicts, lists and tuples, in their order."""
    if isinstance(tree, dict) and tree:
        for name, child in tree.items():
            yield from flat(child, (*path, (str(name), DICT)))
    elif isinstance(tree, list | tuple) and tree:
        for position, child in enumerate(tree):
            yield from flat(child, (*path, (str(position), SEQUENCE)))
    else:
        yield path, tree
