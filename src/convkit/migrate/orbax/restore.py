"""Restore a migrated checkpoint with the real Orbax, compare it with the source, and make the verdict.

The worker of ``orbax check`` does it, with as many CPU devices as the arrays were saved on. Arrays that were saved on
devices other than CPUs are restored to one CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.files.receipt_json import Restored
from convkit.migrate.orbax.parts import Fate, Part, root_metadata
from convkit.migrate.orbax.request import Migration
from convkit.orbax.check import run
from convkit.orbax.check.calls import Restoring
from convkit.orbax.check.devices import needed
from convkit.state.json_object import read_value
from convkit.state.orbax import handlers, layout
from convkit.state.orbax.root import common_format, parse_step

_TASK = "convkit.migrate.orbax.real"
#: CPU devices that jax is started with, at most
_DEVICES = 64
#: problems that an error names
_SHOWN = 3


def restore(migration: Migration, folder: Path) -> Restored:
    """Restore the output in ``folder`` and return the result for the receipt, also if Orbax isn't installed.

    Raises:
        ConvkitError: what Orbax restores differs from the source, or Orbax fails.
    """
    if not installed():
        return Restored(skipped="Orbax isn't installed")
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
        raise ConvkitError(f"a planted fault was missed: {missed[0]}", remedy="report this")
    return Restored(**answer)


def installed() -> bool:
    """Whether the real Orbax is installed."""
    return find_spec("orbax") is not None and find_spec("orbax.checkpoint") is not None


def compared(migration: Migration, folder: Path) -> dict[str, Any]:
    """Compare what Orbax restores with the source: return ``measured``, planted ``faults`` and ``problems``.

    Raises:
        ConvkitError: Orbax couldn't be run.
    """
    devices = int(min(_devices(migration), _DEVICES))
    try:
        *_, answer = run.ask(_TASK, job(migration, folder), devices, x64=True)
    except run.NoAnswerError as error:
        if error.imported:
            remedy = "report this; --no-restore keeps the output nevertheless"
            raise ConvkitError(
                f"the real Orbax failed on it: {error}", path=migration.source.path, remedy=remedy
            ) from None
        raise ConvkitError(
            f"the real Orbax couldn't be run: {error}", path=folder, remedy="fix its installation, or say --no-restore"
        ) from None
    return answer


def job(migration: Migration, folder: Path) -> dict[str, Any]:
    """Make the worker's job: to restore ``folder`` with every API that must load it."""
    apis = ("v0", "v1") if migration.request.dual else (migration.request.to,)
    return {
        "here": _devices(migration) <= _DEVICES,
        "parts": [_part(part, folder, apis) for part in migration.parts if part.found.kind != layout.ROOT],
        "root": _root(migration, folder, apis),
    }


def _devices(migration: Migration) -> float:
    """Count the CPU devices that the arrays need to be loaded as they were saved; infinite for other devices."""
    fates = [fate for part in migration.parts for fate in part.fates if fate.pytree]
    texts = {text for fate in fates if fate.pytree for text in fate.pytree.shardings.values()}
    return max(map(needed, texts), default=1)


def _part(part: Part, folder: Path, apis: Sequence[str]) -> dict[str, Any]:
    target = folder.absolute() / part.name
    values = {
        fate.target: read_value(fate.item.file) for fate in part.fates if fate.kind == handlers.JSON and fate.item.file
    }
    return {
        "name": part.name,
        "source": str(part.folder.absolute()),
        "left_out": list(part.left_out),
        "target": str(target),
        "calls": {api: _calls(Restoring(api), part, target, values) for api in apis},
        "json": values,
        "custom_metadata": _custom_metadata(part),
        "kinds": _kinds(part),
    }


def _custom_metadata(part: Part) -> dict[str, Any]:
    """What Orbax must say of a part; v0 doesn't say it of a checkpoint without items, as which a part may come back."""
    without_items = any(not fate.target for fate in part.fates)
    return {} if without_items or not part.found.metadata else dict(part.found.metadata.custom_metadata)


def _calls(calls: Restoring, part: Part, target: Path, values: Iterable[str]) -> dict[str, Any]:
    """The calls that restore a part with one API: for each item with leaves, for each JSON item, for all."""
    items = []
    for fate in part.fates:
        if fate.pytree:
            arguments = "" if calls.api == "v1" else _arguments(fate, target)
            items.append(
                {
                    "source": fate.source,
                    "target": fate.target,
                    "kind": fate.kind,
                    "whole": calls.item(fate.target, arguments).to_json(),
                    "among": bool(arguments),
                    "dropped": list(fate.dropped),
                    "restored": part.restored,
                    "partly": calls.leaves(fate.target).to_json(),
                }
            )
    return {
        "items": items,
        "json": {name: calls.json(name).to_json() for name in values},
        "custom_metadata": calls.custom_metadata().to_json(),
        "all_items": calls.all_items().to_json(),
    }


def _arguments(fate: Fate, target: Path) -> str:
    """The name of v0's arguments for an item; "" for a pytree, which needs none."""
    if fate.kind == handlers.PYTREE:
        return ""
    if fate.kind == handlers.ARRAY:
        return "ArrayRestore"
    return "NumpyRandomKeyRestore" if (target / fate.target / "np_random_key").is_dir() else "JaxRandomKeyRestore"


def _kinds(part: Part) -> list[str]:
    """The kinds of the items; items that a call for everything doesn't find by itself count as unknown.

    These are folders that aren't items, and items written by older releases.
    """
    folders = {name.partition("/")[0] for name in part.files if "/" in name}
    others = part.restored or folders - {fate.target for fate in part.fates}
    return [fate.kind for fate in part.fates] + ([handlers.UNKNOWN] if others else [])


def _root(migration: Migration, folder: Path, apis: Sequence[str]) -> dict[str, Any] | None:
    """What a manager should find in a root; None without a root, or if no name format finds all of its steps."""
    parts = [part for part in migration.parts if part.name]
    form = common_format(part.name for part in parts) if parts else None
    if form is None:
        return None
    return {
        "target": str(folder.absolute()),
        "calls": {api: Restoring(api).steps(form).to_json() for api in apis},
        "custom_metadata": root_metadata(migration.source.path).get("custom_metadata", {}),
        "metrics": {step.step: _metrics(part) for part in parts if (step := parse_step(part.name))},
    }


def _metrics(part: Part) -> Any:
    files = [fate.item.file for fate in part.fates if fate.kind == handlers.METRICS and fate.item.file]
    return read_value(files[0]) if files else None
