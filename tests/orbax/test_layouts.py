"""The layouts that the other tests assume are the intended ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from convkit.state.orbax.layout import recognise

Layout = Callable[[str], Path]


@pytest.mark.parametrize(
    ("name", "kind", "api", "items"),
    [
        ("v0_manager_root", "root", "v0", {}),
        ("v0_manager_root/1234", "step", "v0", {"state": "pytree", "pytree": "pytree", "my_json_data": "json"}),
        ("v0_manager_root/1234/state", "item", "v0", {"": "pytree"}),
        ("v0_direct_pytree", "direct", "v0", {"": "pytree"}),
        ("v0_legacy_msgpack_only", "direct", "v0", {"": "pytree"}),
        ("v1_checkpointer_root", "root", "v1", {}),
        ("v1_checkpointer_root/0", "step", "v1", {"state": "pytree", "metrics": "metrics"}),
        ("safetensors_dir", "safetensors", "v1", {}),
        ("v1_items", "step", "v1", {"state": "pytree", "json": "json", "proto": "proto"}),
    ],
)
def test_recognised(layout: Layout, name: str, kind: str, api: str, items: dict[str, str]) -> None:
    found = recognise(layout(name))
    assert (found.kind, found.api) == (kind, api)
    assert {name: item.kind for name, item in found.items.items()} == items


def test_every_item(layout: Layout) -> None:
    kinds = {name: item.kind for name, item in recognise(layout("v0_items")).items.items()}
    assert kinds == {
        "state": "pytree",
        "keys": "pytree",
        "json": "json",
        "proto": "proto",
        "typed": "random-key",
        "raw": "random-key",
        "numpy": "random-key",
        "array": "array",
    }


@pytest.mark.parametrize("name", ["v0_sharded", "v1_sharded/state"])
def test_on_several_devices(layout: Layout, name: str) -> None:
    shardings = json.loads((layout(name) / "_sharding").read_text()).values()
    assert {tuple(json.loads(text)["shape"]) for text in shardings} == {(2, 2)}
