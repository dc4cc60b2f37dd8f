"""The v1 API loads migrated checkpoints, compared with their writers' values: ``python truth.py JOBS``.

``JOBS`` is a JSON list of [migrated checkpoint, folder with truth.npz and meta.json]. Prints what is wrong, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp

from convkit.state.orbax.root import parse_step


def places(checkpoint: Path, kind: str, key: str) -> tuple[Path, str | None, list[str]]:
    """Of a leaf of the truth the step, the item (None: what a plain call loads), and the path in it."""
    names = key.split("/")
    if kind in ("root", "v1root"):
        step, item, *names = names
        folder = next(path for path in checkpoint.iterdir() if (it := parse_step(path.name)) and it.step == int(step))
        return folder, None if item == "?" else item, names
    if kind == "flaxroot":
        return checkpoint / "checkpoint_2", None, names
    if (checkpoint / names[0] / "_METADATA").is_file():
        return checkpoint, names[0], names[1:]
    return checkpoint, None, names


@cache
def loaded(step: Path, item: str | None) -> Any:
    """By a plain call."""
    return ocp.load(step) if item is None else ocp.load(step, checkpointable_name=item)


def at(tree: Any, names: list[str]) -> Any:
    """The leaf at a path; a key may hold the separator."""
    if not names:
        return tree
    if isinstance(tree, list | tuple):
        return at(tree[int(names[0])], names[1:])
    depth = next(n for n in range(1, len(names) + 1) if "/".join(names[:n]) in tree)
    return at(tree["/".join(names[:depth])], names[depth:])


def wrong(checkpoint: Path, folder: Path) -> Iterator[str]:
    """What isn't as it was."""
    meta = json.loads((folder / "meta.json").read_text())
    truth = np.load(folder / "truth.npz")
    for key in truth.files:
        try:
            step, item, names = places(checkpoint, meta["kind"], key)
            leaf = at(loaded(step, item), names)
        except Exception as error:
            yield f"{folder.parent.name}/{folder.name}: {key}: {type(error).__name__}: {str(error)[:200]}"
            continue
        dtype = meta["leaves"][key]["dtype"]
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        elif dtype.startswith("key:"):
            yield f"{folder.parent.name}/{folder.name}: {key}: is no random key"
        data = np.asarray(leaf) if isinstance(leaf, jax.Array | np.ndarray) else np.asarray(leaf, truth[key].dtype)
        if data.shape != truth[key].shape or data.tobytes() != truth[key].tobytes():
            yield f"{folder.parent.name}/{folder.name}: {key}: is {data!r}"


if __name__ == "__main__":
    jobs = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps([line for target, folder in jobs for line in wrong(Path(target), Path(folder))]))
