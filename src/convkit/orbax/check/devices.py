"""Find whether a stored sharding can be used with today's devices, and how many CPU devices it needs.

Source: orbax-checkpoint 0.12.8, ``_src/metadata/sharding.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from convkit.checkpoint import json_text

#: names that jax gives to CPU devices
_CPU = re.compile(r"(TFRT_CPU_|cpu:)(\d+)")


#: what a sharding raises that isn't described as Orbax does
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError)


def foreign(text: str, devices: int) -> str | None:
    """Say why a stored sharding can't be used on the first ``devices`` CPU devices; None if it can."""
    try:
        return _foreign(json_text.loads(text), devices)
    except _MALFORMED:
        return "a sharding that can't be read"


def needed(text: str) -> float:
    """Count the CPU devices that a stored sharding needs; infinite for devices that aren't CPUs."""
    try:
        return _needed(json_text.loads(text))
    except _MALFORMED:
        return math.inf


def _foreign(found: dict[str, Any], devices: int) -> str | None:
    match found.get("sharding_type"):
        case "SingleDeviceSharding":
            name = str(found.get("device_str"))
            match = _CPU.fullmatch(name)
            return None if match and int(match[2]) < devices else f"device {name.replace('TFRT_CPU_', 'cpu:')}"
        case "NamedSharding":
            mesh = found.get("device_mesh")
            if not mesh:
                return None if math.prod(found["shape"]) == devices else f"a mesh of {found['shape']} devices"
            ids = set(_ids(mesh["mesh"]))
            return None if ids <= set(range(devices)) else f"devices {sorted(ids)}"
        case kind:
            return f"a sharding of kind {kind}"


def _needed(found: dict[str, Any]) -> float:
    if "device_str" in found:
        match = _CPU.fullmatch(str(found["device_str"]))
        return int(match[2]) + 1 if match else math.inf
    mesh = found.get("device_mesh")
    return 1 + max(_ids(mesh), default=0) if mesh else math.prod(found.get("shape", [1]))


def _ids(mesh: Any) -> Iterator[int]:
    """The numbers of the devices in a mesh, however it is nested."""
    if isinstance(mesh, list):
        for part in mesh:
            yield from _ids(part)
    elif isinstance(mesh, dict):
        if "id" in mesh:
            yield int(mesh["id"])
        else:
            yield from _ids(list(mesh.values()))
