"""Compare a tree that Orbax restored with the tree that convkit reads from the source: structure, kinds, bits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convkit.checkpoint import Checkpoint, TensorSpec
from convkit.formats.orbax.record import Record
from convkit.state.orbax import tree
from convkit.state.orbax.nested import Path
from convkit.state.orbax.tree import DICT

_EMPTY: dict[str, type] = {"None": type(None), "Dict": dict, "List": list, "Tuple": tuple}
_SCALARS = {"b": bool, "i": int, "u": int, "f": float}


@dataclass(frozen=True)
class Wanted:
    """A leaf or empty node of the source: its ``value_type``, and its bits or its value."""

    kind: str
    spec: TensorSpec | None
    read: Callable[[], Any]
    key_algorithm: str | None = None


def wanted(checkpoint: Checkpoint, record: Record, item: str, dropped: Collection[str] = ()) -> dict[Path, Wanted]:
    """Every leaf and empty node of an item by its path, except the leaves that were dropped, by storage name."""
    found = {}
    for key, name, node in record.nodes():
        if name != item or node.name in dropped:
            continue
        leaf = checkpoint.leaves[key]
        algorithm = known.key_algorithm if (known := record.items[item].arrays.get(node.name)) else None
        read = (lambda key=key: checkpoint.read(key)) if leaf.spec else (lambda leaf=leaf: leaf.value)
        found[node.elements] = Wanted(node.value_type, leaf.spec, read, algorithm)
    return found


def differences(expected: Mapping[Path, Wanted], found: Mapping[Path, Any]) -> Iterator[str]:
    """Yield the problems of a restored tree, one line each."""
    for path in dict.fromkeys([*expected, *found]):
        if path not in found or path not in expected:
            yield f"{spelled(path)}: is {'missing' if path not in found else 'not in the source'}"
        elif problem := _difference(expected[path], found[path]):
            yield f"{spelled(path)}: {problem}"


def spelled(path: Path) -> str:
    """A path as a leaf's storage name."""
    return ".".join(name for name, _ in path) or "the tree"


def _difference(wanted: Wanted, found: Any) -> str | None:
    if wanted.spec is None:
        kinds = _EMPTY.get(wanted.kind, str if wanted.kind == tree.STRING else object)
        same = isinstance(found, kinds) and (found == wanted.read() if wanted.kind == tree.STRING else not found)
        return None if same else f"is {_short(found)}, not {_short(wanted.read())}"
    kind, dtype, algorithm, data = _bits(found, wanted.spec)
    if kind != wanted.kind:
        return f"is {kind}, not {wanted.kind}"
    if algorithm != wanted.key_algorithm:
        return f"is a random key of {algorithm or 'no algorithm'}, not of {wanted.key_algorithm or 'none'}"
    if data is None or (data.shape, dtype) != (wanted.spec.shape, wanted.spec.dtype):
        return f"is {dtype}{list(data.shape) if data is not None else ''}, not {wanted.spec}"
    if data.tobytes() != np.ascontiguousarray(wanted.read()).tobytes():
        return "its bits differ from the source"
    return None


def _bits(found: Any, spec: TensorSpec) -> tuple[str, str, str | None, np.ndarray | None]:
    """Kind, dtype, algorithm of a random key, and elements of a restored leaf."""
    import jax

    if isinstance(found, jax.Array):
        algorithm = None
        if jax.dtypes.issubdtype(found.dtype, jax.dtypes.prng_key):
            algorithm, found = str(jax.random.key_impl(found)), jax.random.key_data(found)
        data = np.asarray(found)
        return tree.ARRAY, data.dtype.name, algorithm, data
    if isinstance(found, np.ndarray):
        return tree.NDARRAY, found.dtype.name, None, found
    kind = _SCALARS.get(np.dtype(spec.dtype).kind) if spec.dtype in np.sctypeDict else None
    if type(found) is kind:
        return tree.SCALAR, spec.dtype, None, np.asarray(found).astype(spec.dtype)
    return type(found).__name__, type(found).__name__, None, None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def planted(found: Mapping[Path, Any], limit: int) -> Iterator[tuple[str, dict[Path, Any]]]:
    """Yield the tree with one fault at a time, which a comparison must catch."""
    import jax

    def like(path: Path, data: np.ndarray) -> Any:
        return jax.numpy.asarray(data) if isinstance(found[path], jax.Array) else data

    arrays = {path: np.asarray(leaf) for path, leaf in found.items() if _is_plain(leaf) and 0 < leaf.nbytes <= limit}
    for path in itertools.islice(arrays, 1):
        spoiled = arrays[path].copy()
        spoiled.reshape(-1).view(np.uint8)[0] ^= 1
        yield "one bit flipped", {**found, path: like(path, spoiled)}
        yield "an array as a list", {**found, path: arrays[path].tolist()}
        yield "an axis more", {**found, path: like(path, arrays[path][None])}
    for path in itertools.islice(found, 1):
        yield "a leaf missing", {key: leaf for key, leaf in found.items() if key != path}
    yield "a leaf too many", {**found, (("surprise", DICT),): 0}
    for one, other in itertools.pairwise(arrays):
        if arrays[one].shape == arrays[other].shape and arrays[one].tobytes() != arrays[other].tobytes():
            yield "two leaves swapped", {**found, one: found[other], other: found[one]}
            return


def _is_plain(leaf: Any) -> bool:
    """Whether it is an array of numbers."""
    import jax

    keys = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return isinstance(leaf, jax.Array | np.ndarray) and not keys
