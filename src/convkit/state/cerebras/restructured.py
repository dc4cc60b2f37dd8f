"""The structure of a nested state dict some of whose leaves have other names, are gone, or are new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convkit.state.cerebras.treespec import DICTS, EMPTY_LIST, LEAF, Tree, dict_of, terminals

#: keys, from the outermost container to the leaf
Path = tuple[Any, ...]


def restructured(tree: Tree, moved: Mapping[str, Sequence[str]], wanted: Mapping[str, Tree]) -> Tree | None:
    """A structure of the ``wanted`` leaves that is as much as possible that of a state dict.

    A leaf with a new name keeps its place in its container; a new leaf comes last in the container in which its name
    begins.

    Args:
        tree: the structure as it was.
        moved: the names that each of its leaves has now; a leaf without one is gone.
        wanted: the leaves, and empty containers, by their names.

    Returns:
        None if there is no such structure.
    """
    kinds = dict(_containers(tree, ()))
    placed: dict[Path, Tree] = {}
    for path, node in _paths(tree, ()):
        for name in moved.get(_name(path), ()):
            if name in wanted:
                placed[_renamed(path, name, kinds) or _new(name, kinds)] = node if node.type else LEAF
    named = set(map(_name, placed))
    for name, node in wanted.items():
        if name not in named:
            placed[_new(name, kinds)] = node
    made = _built((), placed, kinds)
    return made if {name for name, _ in terminals(made)} == wanted.keys() else None


def _name(path: Path) -> str:
    return ".".join(map(str, path))


def _containers(tree: Tree, path: Path) -> Iterator[tuple[Path, Tree]]:
    """Every container, without its children."""
    if tree.type is not None:
        yield path, tree
    for key, child in zip(tree.keys, tree.children, strict=True):
        yield from _containers(child, (*path, key))


def _paths(tree: Tree, path: Path) -> Iterator[tuple[Path, Tree]]:
    """Leaves and empty containers in order."""
    if tree.type is None or (path and not tree.children):
        yield path, tree
    for key, child in zip(tree.keys, tree.children, strict=True):
        yield from _paths(child, (*path, key))


def _renamed(path: Path, name: str, kinds: dict[Path, Tree]) -> Path | None:
    """The same path with at most one other key, by which it has this name; None if there is none."""
    if _name(path) == name:
        return path
    for place in reversed(range(len(path))):
        before, after = _name((*path[:place], "")), _name(("", *path[place + 1 :]))
        key = name[len(before) : len(name) - len(after)]
        changed = (*path[:place], key, *path[place + 1 :])
        if key and _name(changed) == name:
            for depth in range(place + 1, len(path)):
                kinds.setdefault(changed[:depth], kinds[path[:depth]])
            return changed
    return None


def _new(name: str, kinds: dict[Path, Tree]) -> Path:
    """The path of a leaf that wasn't there: its name below the innermost container in which it can be."""
    path: Path = ()
    while (inner := next((one for one in kinds if _is_below(one, path, name)), None)) is not None:
        path = inner
    rest = name.removeprefix(_name((*path, "")) if path else "")
    if path and kinds[path].type in DICTS:
        return (*path, rest)
    keys = rest.split(".")
    for depth in range(len(keys)):
        here = (*path, *keys[:depth])
        kinds.setdefault(here, EMPTY_LIST if keys[depth] == "0" else dict_of({}))
    return (*path, *keys)


def _is_below(container: Path, path: Path, name: str) -> bool:
    """Whether a container lies directly in another one, and a name begins in it."""
    return len(container) == len(path) + 1 and container[:-1] == path and name.startswith(f"{_name(container)}.")


def _built(path: Path, placed: Mapping[Path, Tree], kinds: Mapping[Path, Tree]) -> Tree:
    """The container at a path, with all that is placed below it."""
    if path in placed:
        return placed[path]
    depth = len(path)
    below: dict[Any, dict[Path, Tree]] = {}
    for place, node in placed.items():
        below.setdefault(place[depth], {})[place] = node
    children = {key: _built((*path, key), part, kinds) for key, part in below.items()}
    kind = kinds[path]
    if kind.type in DICTS:
        return Tree(kind.type, dict_of(children).context, tuple(children.values()))
    in_order = [children[key] for key in sorted(children, key=int)]
    return Tree(kind.type, kind.context, tuple(in_order))
