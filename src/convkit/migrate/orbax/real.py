"""Restore a migrated checkpoint with the real Orbax, inside the worker, and compare it with the source.

A small tree is loaded whole, by the plain calls that users make. The leaves of a large tree, or of one saved on devices
that aren't here, are requested by name, as many as fit in :data:`BATCH` bytes, with placeholders for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convkit.formats.orbax.reader import open_orbax
from convkit.formats.orbax.record import KEY, Record
from convkit.migrate.orbax import compare
from convkit.migrate.orbax.compare import Wanted
from convkit.state.orbax import handlers, tree
from convkit.state.orbax.nested import flat, nested

#: bytes of leaves that are loaded together
BATCH = 128 << 20
#: bytes of an array that a fault is planted in
_PLANTED = 1 << 20
#: kinds of items with which a call for everything fails, as it does on what Orbax itself wrote
_NOT_BY_THEMSELVES = {
    "v0": {handlers.UNKNOWN, handlers.PROTO, handlers.METRICS},
    "v1": {handlers.UNKNOWN, handlers.PROTO},
}

Job = Mapping[str, Any]
#: makes a call of Orbax: which one, of what, and with which tree as its target
Make = Callable[..., Any]
Found = dict[compare.Path, Any]


def answers(job: Job, make: Make) -> Iterator[dict[str, Any]]:
    """Restore every part by every API of the job.

    After each call ``{"restored": <path>}``; at the end counts (``measured``), planted ``faults`` and ``problems``.
    """
    counts = {"leaves": 0, "different": 0, "bytes": 0}
    problems: list[str] = []
    faults: list[tuple[str, bool]] = []
    most = 0
    for part in job["parts"]:
        with open_orbax(Path(part["source"]), part["left_out"]) as checkpoint:
            record = Record.from_json(checkpoint.metadata[KEY])
            for api, calls in part["calls"].items():
                for item in calls["items"]:
                    expected = compare.wanted(checkpoint, record, item["source"], item["dropped"])
                    where = "/".join(name for name in (part["name"], item["target"]) if name)
                    found, wrong = yield from _item(make, Path(part["target"]), item, expected, job["here"])
                    counts["leaves"] += len(expected)
                    counts["different"] += len(wrong)
                    counts["bytes"] += sum(leaf.spec.nbytes for leaf in expected.values() if leaf.spec)
                    problems += [f"{api}: {f'{where}: ' if where else ''}{problem}" for problem in wrong]
                    if not wrong and len(found) > most:
                        most, faults = len(found), list(_faults(expected, found))
                problems += [f"{api}: {problem}" for problem in _others(make, api, part, job["here"])]
                yield {"restored": part["target"]}
    if root := job["root"]:
        for api, call in root["calls"].items():
            problems += [f"{api}: {problem}" for problem in _root(make, call, root)]
    yield {"measured": counts, "faults": faults, "problems": problems}


def _item(
    make: Make, path: Path, item: Job, expected: Mapping[compare.Path, Wanted], here: bool
) -> Generator[dict[str, Any], None, tuple[Found, list[str]]]:
    """The leaves of an item restored last, and all problems of the item.

    What is as it was before an earlier migration may be something that Orbax loads only if it is told the shapes, the
    dtypes and where the arrays go, such as an item without its shardings.
    """
    nbytes = sum(leaf.spec.nbytes for leaf in expected.values() if leaf.spec)
    found: Found = {}
    wrong: list[str] = []
    if item["kind"] != handlers.PYTREE or (here and nbytes <= BATCH):
        whole, problem = _called(make, item["whole"], path)
        if not problem:
            # v0 restores what isn't a pytree among the items
            found = dict(flat(whole[item["target"]] if item["among"] else whole))
            return found, list(compare.differences(expected, found))
        if not item["restored"] or item["kind"] != handlers.PYTREE:
            return {}, [problem]
    for batch in _batches(expected):
        del found
        some, problem = _called(make, item["partly"], path, _abstract(expected, batch))
        if problem:
            return {}, [problem]
        found = {key: leaf for key, leaf in flat(some) if leaf is not ...}
        wrong += compare.differences({key: expected[key] for key in batch}, found)
        yield {"restored": str(path)}
    return found, wrong


def _others(make: Make, api: str, part: Job, here: bool) -> Iterator[str]:
    """Yield the problems of items that aren't trees, and of a call for everything."""
    path, calls = Path(part["target"]), part["calls"][api]
    for name, expected in part["json"].items():
        found, problem = _called(make, calls["json"][name], path)
        if problem or found[name] != expected:
            yield f"{name}: {problem or 'is another JSON value than in the source'}"
    found, problem = _called(make, calls["custom_metadata"], path)
    for name, expected in part["custom_metadata"].items():
        if problem or found.get(name) != expected:
            yield problem or f"custom metadata: {name} is {found.get(name)!r}, not {expected!r}"
    if here and not set(part["kinds"]) & _NOT_BY_THEMSELVES[api]:
        found, problem = _called(make, calls["all_items"], path)
        names = [] if problem else [str(name) for name in found.keys()]  # noqa: SIM118 - v0's Composite has keys alone
        missing = [item["target"] for item in calls["items"] if not problem and item["target"] not in names]
        if problem or missing:
            yield problem or f"all items: {missing[0]} is missing"


def _root(make: Make, call: Job, root: Job) -> Iterator[str]:
    """Yield the problems of the steps that a manager finds, their metrics, and the root's own metadata."""
    found, problem = _called(make, call, Path(root["target"]))
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


def _called(make: Make, call: Job, path: Path, target: Any = None) -> tuple[Any, str | None]:
    """Make a call of Orbax: return its value, or its error as text."""
    try:
        return make(call, path, target), None
    except Exception as error:  # any exception is the answer of Orbax
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
    """Make the tree with shapes and dtypes for the leaves of the batch, and placeholders for the others."""
    chosen = set(batch)
    return nested((path, _abstract_leaf(leaf) if path in chosen else ...) for path, leaf in expected.items())


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
