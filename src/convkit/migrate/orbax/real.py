"""The real Orbax restores a migrated checkpoint, in a process of its own: ``python -m`` this module.

It reads a job (:mod:`~convkit.migrate.orbax.restore`) from the standard input and prints what it found. A small
tree is loaded whole, by the plain calls that users make. Of a large one, or one of devices that aren't here, the
leaves are asked for by name, as many as fit in :data:`BATCH` bytes; the others are placeholders meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convkit.formats.orbax.reader import open_orbax
from convkit.formats.orbax.record import KEY, Record
from convkit.migrate.orbax import compare
from convkit.migrate.orbax.apis import API, V0, V1
from convkit.migrate.orbax.compare import Wanted
from convkit.state.orbax import handlers, tree
from convkit.state.orbax.tree import SEQUENCE

#: bytes of leaves that are loaded together
BATCH = 128 << 20
#: bytes of an array that a fault is planted in
_PLANTED = 1 << 20
#: kinds of items with which a call for everything fails, as it does on what Orbax itself wrote
_NOT_BY_THEMSELVES = {
    "v0": {handlers.UNKNOWN, handlers.PROTO, handlers.METRICS},
    "v1": {handlers.UNKNOWN, handlers.PROTO},
}


def check(job: Mapping[str, Any]) -> dict[str, Any]:
    """Restore every part by every API of the job; returns counts, planted faults and problems."""
    counts = {"leaves": 0, "different": 0, "bytes": 0}
    problems: list[str] = []
    faults: list[tuple[str, bool]] = []
    most = 0
    for part in job["parts"]:
        with open_orbax(Path(part["source"])) as checkpoint:
            record = Record.from_json(checkpoint.metadata[KEY])
            for api in (API[name] for name in job["apis"]):
                for item in part["items"]:
                    expected = compare.wanted(checkpoint, record, item["source"])
                    where = "/".join(name for name in (part["name"], item["target"]) if name)
                    found, wrong = _item(api, Path(part["target"]), item, expected, job["here"])
                    counts["leaves"] += len(expected)
                    counts["different"] += len(wrong)
                    counts["bytes"] += sum(leaf.spec.nbytes for leaf in expected.values() if leaf.spec)
                    problems += [f"{api.name}: {f'{where}: ' if where else ''}{problem}" for problem in wrong]
                    if not wrong and len(found) > most:
                        most, faults = len(found), list(_faults(expected, found))
                problems += [f"{api.name}: {problem}" for problem in _others(api, part, job["here"])]
    for api in (API[name] for name in job["apis"] if job["root"]):
        problems += [f"{api.name}: {problem}" for problem in _root(api, job["root"])]
    return {"measured": counts, "faults": faults, "problems": problems}


def _item(
    api: V0 | V1, path: Path, item: Mapping[str, str], expected: Mapping[compare.Path, Wanted], here: bool
) -> tuple[dict[compare.Path, Any], list[str]]:
    """What was given back of an item last, and what is wrong with all of it."""
    nbytes = sum(leaf.spec.nbytes for leaf in expected.values() if leaf.spec)
    found: dict[compare.Path, Any] = {}
    wrong: list[str] = []
    name = item["target"]
    if item["kind"] != handlers.PYTREE or (here and nbytes <= BATCH):
        whole, problem = _called(partial(api.plain, path, name, item["kind"]))
        if problem:
            return {}, [problem]
        found = dict(compare.flat(whole))
        return found, list(compare.differences(expected, found))
    for batch in _batches(expected):
        del found
        some, problem = _called(partial(api.partly, path, name, _abstract(expected, batch)))
        if problem:
            return {}, [problem]
        found = {key: leaf for key, leaf in compare.flat(some) if leaf is not ...}
        wrong += compare.differences({key: expected[key] for key in batch}, found)
    return found, wrong


def _others(api: V0 | V1, part: Mapping[str, Any], here: bool) -> Iterator[str]:
    """What is wrong with the items that are no trees, and with a call for everything."""
    path = Path(part["target"])
    for name, told in part["json"].items():
        found, problem = _called(partial(api.json, path, name))
        if problem or found != told:
            yield f"{name}: {problem or 'is another JSON value than in the source'}"
    found, problem = _called(partial(api.custom_metadata, path))
    for name, told in part["custom_metadata"].items():
        if problem or found.get(name) != told:
            yield problem or f"custom metadata: {name} is {found.get(name)!r}, not {told!r}"
    if here and not set(part["kinds"]) & _NOT_BY_THEMSELVES[api.name]:
        found, problem = _called(partial(api.everything, path))
        missing = [item["target"] for item in part["items"] if not problem and item["target"] not in found]
        if problem or missing:
            yield problem or f"all items: {missing[0]} is missing"


def _root(api: V0 | V1, root: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the steps that a manager finds, their metrics, and the root's own metadata."""
    found, problem = _called(partial(api.steps, Path(root["target"]), root["prefix"], root["width"]))
    if problem:
        yield problem
        return
    steps, metadata = found
    if sorted(steps) != sorted(map(int, root["metrics"])):
        yield f"the steps that are found are {sorted(steps)}"
    for step, metrics in root["metrics"].items():
        if metrics is not None and steps.get(int(step)) != metrics:
            yield f"step {step}: metrics are {steps.get(int(step))}, not {metrics}"
    if dict(metadata) != root["custom_metadata"]:
        yield f"metadata of the root are {metadata}, not {root['custom_metadata']}"


def _called(call: Callable[[], Any]) -> tuple[Any, str | None]:
    """What a call of Orbax's returns, or why it doesn't."""
    try:
        return call(), None
    except Exception as error:  # whatever it is, it is Orbax's answer
        return None, f"Orbax raises {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _batches(expected: Mapping[compare.Path, Wanted]) -> Iterator[list[compare.Path]]:
    """Leaves that are loaded together; empty nodes have nothing to load."""
    batch: list[compare.Path] = []
    size = 0
    for path, leaf in expected.items():
        if leaf.spec is None and leaf.kind != tree.STRING:
            continue
        nbytes = leaf.spec.nbytes if leaf.spec else 0
        if batch and size + nbytes > BATCH:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += nbytes
    if batch:
        yield batch


def _abstract(expected: Mapping[compare.Path, Wanted], batch: list[compare.Path]) -> Any:
    """The tree with what says of the leaves of the batch what they are, and placeholders for the others."""
    chosen = set(batch)
    top: dict[tuple[str, int], Any] = {}
    for path, leaf in expected.items():
        if not path:
            return _abstract_leaf(leaf)
        place = top
        for element in path[:-1]:
            place = place.setdefault(element, {})
        place[path[-1]] = _Held(_abstract_leaf(leaf) if path in chosen else ...)
    return _nested(top)


class _Held:
    """A leaf while a tree is put together."""

    def __init__(self, leaf: Any) -> None:
        self.leaf = leaf


def _nested(place: Any) -> Any:
    if isinstance(place, _Held):
        return place.leaf
    children = {name: _nested(child) for (name, _), child in place.items()}
    return list(children.values()) if all(kind == SEQUENCE for _, kind in place) else children


def _abstract_leaf(leaf: Wanted) -> Any:
    import jax

    if leaf.spec is None:
        return ""
    dtype = np.dtype(leaf.spec.dtype) if leaf.spec.dtype in np.sctypeDict else jax.numpy.dtype(leaf.spec.dtype)
    if leaf.kind == tree.ARRAY:
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        return jax.ShapeDtypeStruct(leaf.spec.shape, dtype, sharding=here)
    if leaf.kind == tree.SCALAR:
        return np.zeros((), dtype).item()
    return np.broadcast_to(np.zeros((), dtype), leaf.spec.shape)


def _faults(expected: Mapping[compare.Path, Wanted], found: Mapping[compare.Path, Any]) -> Iterator[tuple[str, bool]]:
    wanted = {path: leaf for path, leaf in expected.items() if path in found}
    for name, spoiled in compare.planted(found, _PLANTED):
        yield name, any(True for _ in compare.differences(wanted, spoiled))


def main() -> None:
    """Answer one job."""
    with contextlib.redirect_stdout(sys.stderr):
        answer = check(json.load(sys.stdin))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
