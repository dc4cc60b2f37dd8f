"""Whether a stored sharding can be used where there are other devices than there were.

Source: orbax-checkpoint 0.12.8, ``_src/metadata/sharding.py``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any


def foreign(text: str, devices: int) -> str | None:
    """Why a stored sharding can't be used on the first ``devices`` CPU devices; None if it can."""
    found = json.loads(text)
    match found.get("sharding_type"):
        case "SingleDeviceSharding":
            name = str(found.get("device_str")).replace("TFRT_CPU_", "cpu:")
            return None if name in {f"cpu:{i}" for i in range(devices)} else f"device {name}"
        case "NamedSharding":
            mesh = found.get("device_mesh")
            if not mesh:
                return None if math.prod(found["shape"]) == devices else f"a mesh of {found['shape']} devices"
            ids = set(_device_ids(mesh["mesh"]))
            return None if ids <= set(range(devices)) else f"devices {sorted(ids)}"
        case kind:
            return f"a sharding of kind {kind}"


def _device_ids(mesh: Any) -> Iterator[int]:
    if isinstance(mesh, dict):
        yield mesh["id"]
    else:
        for part in mesh:
            yield from _device_ids(part)
