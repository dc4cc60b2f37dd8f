"""The devices that a stored sharding needs, and whether this machine has them."""

from __future__ import annotations

import json
import math

import pytest

from convkit.orbax.check.devices import foreign, needed


def single(name: str) -> str:
    return json.dumps({"sharding_type": "SingleDeviceSharding", "device_str": name})


def on_mesh(*ids: int) -> str:
    mesh = {"mesh": [[{"id": number}] for number in ids]}
    return json.dumps({"sharding_type": "NamedSharding", "shape": [len(ids)], "device_mesh": mesh})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (single("TFRT_CPU_0"), 1),
        (single("cpu:3"), 4),
        (single("cuda:0"), math.inf),
        (single("TPU_0(process=0,(0,0,0,0))"), math.inf),
        (on_mesh(0, 1, 5), 6),
        (json.dumps({"sharding_type": "NamedSharding", "shape": [2, 4]}), 8),
    ],
)
def test_devices_that_are_needed(text: str, number: float) -> None:
    """With as many a sharding can be used, and with one fewer it can't."""
    assert needed(text) == number
    if number != math.inf:
        assert foreign(text, int(number)) is None
        assert foreign(text, int(number) - 1)
    else:
        assert foreign(text, 64)
