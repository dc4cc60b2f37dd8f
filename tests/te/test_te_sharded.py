"""Stacked Pax layers with a sharded axis, as the names of their optimizer's leaves show, in folders and in OCDBT."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine.disk import converted
from engine.memory import assert_same, carried
from te_runs import Arrays, arrays, genuine

from convkit.errors import ConvkitError
from convkit.formats import open_checkpoint
from convkit.mapping import inverse
from convkit.mappings import find_mapping

REPEAT = find_mapping("pax/lm-repeat", "te/pax-repeat")


def sharded(sharding: str) -> Arrays:
    """Three genuine layers, as Paxml calls their moments where the layers' axis is sharded so."""
    return {key.replace("p#3#i-1", f"p#3#{sharding}"): array for key, array in genuine("pax_repeat").items()}


@pytest.mark.golden
@pytest.mark.parametrize("sharding", ["", "i-1", "smdl", "tsdata,smdl", "i-1#sdata", "smdl#tsreplica,sdata"])
def test_there_and_back(sharding: str) -> None:
    source = sharded(sharding)
    te = carried(REPEAT, source, format="torch")
    moments = f"opt_states_0.p#3#{sharding}_2.m.params.lm.transformer.repeat.sub.x_layers_0.transformerlayer.cld."
    assert te[f"{moments}attention.qkv.kernel"].shape == (3, 8, 3, 8)
    assert_same(carried(inverse(REPEAT), te, format="torch", given={"heads": 2}), source)


@pytest.mark.golden
def test_an_axis_of_which_nothing_is_known_is_refused() -> None:
    with pytest.raises(ConvkitError, match="only Adam's moments can"):
        carried(REPEAT, sharded("sstage"), format="torch")


def tree_of(named: Arrays) -> dict[str, Any]:
    """The train state behind these names: elements of dicts after dots, of lists after "_"."""
    tree: dict[Any, Any] = {}
    for key, array in named.items():
        # "." stands within the name of a group, too
        group = re.search(r"p#[^_]*", key)
        path: list[Any] = []
        for part in (key.replace(group[0], "GROUP") if group else key).split("."):
            name, *positions = re.split(r"_(?=\d+$)|(?<=opt_states)_(?=\d)", part) if "opt_states" in part else [part]
            if part.startswith(("GROUP_", "no_prefix_")):
                name, _, position = part.rpartition("_")
                positions = [position]
            path += [group[0] if group and name == "GROUP" else name, *map(int, positions)]
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = array
    return _listed(tree)


def _listed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    children = {name: _listed(child) for name, child in node.items()}
    if all(isinstance(name, int) for name in children):
        return [children.get(position, {}) for position in range(max(children) + 1)]
    return children


@pytest.mark.golden
@pytest.mark.parametrize("sharding", ["i-1", "smdl", "tsdata,smdl#sdata"])
def test_a_database_is_read_under_the_names_of_folders(sharding: str, tmp_path: Path) -> None:
    """What the real Orbax writes of such a train state; and what we write of it, in folders."""
    ocp = pytest.importorskip("orbax.checkpoint")
    source = sharded(sharding)
    step = tmp_path / "checkpoint_00000007"
    step.mkdir()
    ocp.PyTreeCheckpointer(use_ocdbt=True).save(step / "state", tree_of(source))
    with open_checkpoint(step) as checkpoint:
        assert (checkpoint.format, checkpoint.metadata["container"]) == ("pax", "ocdbt")
        assert checkpoint.leaves.keys() == source.keys()
    converted(step, tmp_path / "te" / "state", "te/pax-repeat")
    converted(tmp_path / "te" / "state", tmp_path / "fw" / "state", "pax/lm-repeat")
    np.testing.assert_equal(arrays(tmp_path / "fw" / "state"), source)


@pytest.mark.parametrize("group", ["p#2.3.4#i0.smdl.i-1", "p#2.3#i0.i-1", "p#2.3#i-1.#sdata."])
def test_names_of_layers_stacked_twice(group: str, tmp_path: Path) -> None:
    """In circular pipelines: the sizes of the stack are no positions in lists."""
    ocp = pytest.importorskip("orbax.checkpoint")
    (tmp_path / "step").mkdir()
    array = np.arange(6, dtype="float32")
    tree = {"mdl_vars": {"w": array}, "opt_states": [{group: [{}, {}, {"m": {"w": array}}]}]}
    ocp.PyTreeCheckpointer(use_ocdbt=True).save(tmp_path / "step" / "state", tree)
    with open_checkpoint(tmp_path / "step", "pax") as checkpoint:
        assert set(checkpoint.leaves) == {"mdl_vars.w", f"opt_states_0.{group}_2.m.w"}
