"""Write a migration as a plan: the fate of every leaf, which changes only in its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from convkit.checkpoint import TensorSpec
from convkit.files.receipt import MIGRATION_SCHEMA
from convkit.migrate.orbax.parts import Fate, Part
from convkit.migrate.orbax.request import Migration

#: bytes of memory that rewriting takes at most; unchanged data takes none
_PEAK = 256 << 20


def plan_json(migration: Migration) -> dict[str, Any]:
    """Make the document that describes a migration."""
    source: dict[str, dict[str, Any]] = {}
    target: dict[str, dict[str, Any]] = {}
    nbytes = 0
    for part in migration.parts:
        for fate in part.fates:
            for leaf, spec in _leaves(fate):
                entry = {**_spec_json(spec), "reason": fate.rewritten}
                source[_key(part, fate.source, leaf)] = {**entry, "fate": "moved"}
                target[_key(part, fate.target, leaf)] = {**entry, "origin": "moved"}
                nbytes += spec.nbytes if spec else 0
    request = migration.request
    anew = any(fate.rewritten for part in migration.parts for fate in part.fates)
    return {
        "schema": MIGRATION_SCHEMA,
        "request": {
            "to": request.to,
            "mode": request.mode,
            "steps": list(request.steps),
            "dual": request.dual,
            "encoding": asdict(request.encoding),
        },
        "source": {
            "layout": None,
            "format": f"orbax-{migration.source.api}",
            "kind": migration.source.kind,
            "config": {},
        },
        "target": {"layout": None, "format": f"orbax-{request.to}", "config": {}},
        "source_leaves": source,
        "target_leaves": target,
        "steps": [],
        "warnings": migration.notes,
        "summary": {
            "source_leaves": len(source),
            "target_leaves": len(target),
            "bytes_read": nbytes,
            "bytes_written": nbytes,
            "peak_bytes": _PEAK if anew else 0,
        },
    }


def _leaves(fate: Fate) -> Iterator[tuple[str, TensorSpec | None]]:
    """The leaves of an item by storage name; texts have no spec."""
    if fate.pytree is not None:
        yield from fate.pytree.specs.items()
        yield from ((name, None) for name in fate.pytree.texts)


def _key(part: Part, item: str, leaf: str) -> str:
    return "/".join(name for name in (part.name, item, leaf) if name)


def _spec_json(spec: TensorSpec | None) -> dict[str, Any]:
    return {"shape": list(spec.shape) if spec else None, "dtype": spec.dtype if spec else None}
