"""Checkpoints of release 0.4.1, without a golden: names with slashes in separate databases, plain shardings.

Built by tensorstore after its ``type_handlers.py``: ``_sharding`` at the JSON pointer of each name, texts at the top.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgpack
import numpy as np
import pytest
import tensorstore

from convkit.formats.orbax.reader import open_orbax
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import Request
from convkit.state.orbax import arrays, tree

ARRAYS = {"w": np.arange(4, dtype=np.float32), "c/d": np.ones((2, 3), np.float32), "p.é": np.arange(3) + 2**40}
SHARDED = {"sharding_type": "NamedSharding", "shape": [1], "axis_names": ["x"], "partition_spec": ["x"]}


def _write(folder: Path) -> Path:
    for name, array in ARRAYS.items():
        above, _, last = name.rpartition("/")
        (folder / above).mkdir(parents=True, exist_ok=True)
        store = {"driver": "ocdbt", "base": f"file://{folder / above}/", "path": f"{last}/"}
        metadata = {"shape": array.shape, "chunks": array.shape, "dtype": array.dtype.str, "compressor": None}
        spec = {"driver": "zarr", "kvstore": store, "metadata": metadata}
        tensorstore.open(spec, create=True).result().write(array).result()
    kept = {"w": "PLACEHOLDER://w", "c/d": "PLACEHOLDER://c/d", "p": {"é": "PLACEHOLDER://p.é"}, "s": "PLACEHOLDER://s"}
    (folder / "checkpoint").write_bytes(msgpack.packb(kept))
    (folder / "_strings.json").write_text(json.dumps({"s": "text"}))
    (folder / "_sharding").write_text(json.dumps({"w": json.dumps(SHARDED), "c": {"d": ""}, "p.é": ""}))
    return folder


@pytest.mark.parametrize("told", [False, True])
def test_it_migrates_and_the_real_orbax_restores_it(tmp_path: Path, *, told: bool) -> None:
    source = _write(tmp_path / "source")
    if told:
        kinds = {("w",): tree.ARRAY, ("c/d",): tree.ARRAY, ("p", "é"): tree.NDARRAY, ("s",): tree.STRING}
        nodes = [tree.node([(name, tree.DICT) for name in path], kind) for path, kind in kinds.items()]
        (source / tree.FILE).write_bytes(tree.Tree(tuple(nodes), None, None).dumps())
    receipt = migrate(source, tmp_path / "target", Request("v1"))
    assert receipt["restored"]["measured"]["leaves"] == 4
    assert receipt["restored"]["measured"]["different"] == 0
    with open_orbax(tmp_path / "target") as opened:
        for name, array in ARRAYS.items():
            assert opened.read(name).tobytes() == array.tobytes()
        assert opened.leaves["s"].value == "text"
    if told:
        shardings = arrays.read_shardings(tmp_path / "target" / "state")
        assert json.loads(shardings["w"]) == SHARDED
        assert shardings["c/d"] == arrays.single_device()
