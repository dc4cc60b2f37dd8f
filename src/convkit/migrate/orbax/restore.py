"""Having the real Orbax restore what was migrated, and comparing it with the source: a verdict.

Orbax and jax run in a process of their own, on so many of the machine's processors as devices as the arrays were
saved on. Arrays that were saved on other devices than processors are asked for on one of these.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.migrate.orbax.parts import Part, root_metadata
from convkit.migrate.orbax.request import Migration
from convkit.state.orbax import handlers, layout
from convkit.state.orbax.root import common_format, parse_step

_CPU = re.compile(r"(TFRT_CPU_|cpu:)(\d+)")
#: devices that are made of one machine's processors, at most
_DEVICES = 64
#: problems that an error names
_SHOWN = 3


def restore(migration: Migration, folder: Path) -> dict[str, Any]:
    """What came of restoring the output, which lies in ``folder``; says so where Orbax isn't installed.

    Raises:
        ConvkitError: what Orbax gives back differs from the source, or it fails.
    """
    if not installed():
        return {"skipped": "Orbax isn't installed"}
    answer = compared(migration, folder)
    if answer["problems"]:
        more = len(answer["problems"]) - _SHOWN
        raise ConvkitError(
            "the real Orbax doesn't restore the source: "
            + "; ".join(answer["problems"][:_SHOWN])
            + (f"; and {more} more" if more > 0 else ""),
            path=migration.source.path,
            remedy="report this; --no-restore keeps the output nevertheless",
        )
    if missed := [name for name, caught in answer["faults"] if not caught]:
        raise ConvkitError(f"a planted fault was not seen: {missed[0]}", remedy="report this")
    return answer


def installed() -> bool:
    """Whether the real Orbax is there."""
    return find_spec("orbax") is not None and find_spec("orbax.checkpoint") is not None


def compared(migration: Migration, folder: Path) -> dict[str, Any]:
    """What Orbax gives back of the output, compared with the source: ``measured``, planted ``faults``, ``problems``.

    Raises:
        ConvkitError: Orbax couldn't be run.
    """
    return _run(job(migration, folder), min(_devices_of_all(migration), _DEVICES), folder)


def job(migration: Migration, folder: Path) -> dict[str, Any]:
    """What the process is asked: to restore what lies in ``folder`` by every API that is to load it."""
    return {
        "apis": ["v0", "v1"] if migration.request.dual else [migration.request.to],
        "here": _devices_of_all(migration) <= _DEVICES,
        "parts": [_part(part, folder) for part in migration.parts if part.found.kind != layout.ROOT],
        "root": _root(migration, folder),
    }


def _devices_of_all(migration: Migration) -> float:
    return max((_devices(part) for part in migration.parts), default=1)


def _part(part: Part, folder: Path) -> dict[str, Any]:
    return {
        "name": part.name,
        "source": str(part.folder),
        "target": str(folder / part.name),
        "items": [
            {"source": fate.source, "target": fate.target, "kind": fate.kind} for fate in part.fates if fate.pytree
        ],
        "json": {
            fate.target: json.loads(fate.item.file.read_bytes())
            for fate in part.fates
            if fate.kind == handlers.JSON and fate.item.file
        },
        "custom_metadata": dict(part.found.metadata.custom_metadata) if part.found.metadata else {},
        "kinds": _kinds(part),
    }


def _kinds(part: Part) -> list[str]:
    """The kinds of the items; folders that are none, and what older releases wrote, no call finds untold."""
    folders = {name.partition("/")[0] for name in part.files if "/" in name}
    untold = part.given_back or folders - {fate.target for fate in part.fates}
    return [fate.kind for fate in part.fates] + ([handlers.UNKNOWN] if untold else [])


def _root(migration: Migration, folder: Path) -> dict[str, Any] | None:
    """What a manager should find in a root; None where there is none, or no name format finds all of its steps."""
    parts = [part for part in migration.parts if part.name]
    form = common_format(part.name for part in parts) if parts else None
    if form is None:
        return None
    return {
        "target": str(folder),
        "prefix": form[0],
        "width": form[1],
        "custom_metadata": root_metadata(migration.source.path).get("custom_metadata", {}),
        "metrics": {step.step: _metrics(part) for part in parts if (step := parse_step(part.name))},
    }


def _metrics(part: Part) -> Any:
    files = [fate.item.file for fate in part.fates if fate.kind == handlers.METRICS and fate.item.file]
    return json.loads(files[0].read_bytes()) if files else None


def _devices(part: Part) -> float:
    """So many devices the arrays need to be loaded as they were saved; infinite for others than processors."""
    texts = {text for fate in part.fates if fate.pytree for text in fate.pytree.shardings.values()}
    return max((_devices_of(json.loads(text)) for text in texts), default=1)


def _devices_of(sharding: dict[str, Any]) -> float:
    if "device_str" in sharding:
        match = _CPU.fullmatch(str(sharding["device_str"]))
        return int(match[2]) + 1 if match else math.inf
    mesh = sharding.get("device_mesh")
    return 1 + max(_ids(mesh), default=0) if mesh else math.prod(sharding.get("shape", [1]))


def _ids(mesh: Any) -> list[int]:
    """The numbers of the devices in a mesh, however it is nested."""
    if isinstance(mesh, list):
        return [number for inner in mesh for number in _ids(inner)]
    if isinstance(mesh, dict):
        return [mesh["id"]] if "id" in mesh else _ids(list(mesh.values()))
    return []


def _run(asked: dict[str, Any], devices: float, folder: Path) -> dict[str, Any]:
    """The answer of the process.

    Raises:
        ConvkitError: it ended without one.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={int(devices)}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    command = [sys.executable, "-m", "convkit.migrate.orbax.real"]
    ended = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, env=environment, check=False
    )
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise ConvkitError(
            f"the real Orbax couldn't be run: {last}", path=folder, remedy="mend its installation, or say --no-restore"
        )
    return json.loads(ended.stdout.strip().splitlines()[-1])
