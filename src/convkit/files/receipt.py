"""The receipt that a conversion leaves beside its output, and the complement of what it lost.

``<DST>.convkit.json`` (schema ``convkit.receipt/1``) holds the whole plan, per-leaf digests of both
sides, versions and figures; ``<DST>.complement.safetensors`` the tensors that found no place. Where a
checkpoint's state was repaired (:mod:`convkit.migrate.restate`) the record ``<DST>.state.json`` (schema
``convkit.state/1``) says the same of the target; where it was migrated from one API of Orbax's to the other
(:mod:`convkit.migrate.orbax`), ``<DST>.migration.json`` (schema ``convkit.migration/1``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from convkit.checkpoint import Opaque
from convkit.errors import ConvkitError


def same_files(checkpoint: Path, files: Iterable[Path]) -> list[dict[str, Any]]:
    """Files of a checkpoint as receipts record them: the path below its folder, and the size."""
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    return [{"name": Path(os.path.relpath(path, folder)).as_posix(), "bytes": path.stat().st_size} for path in files]


def bare_names(files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same list as receipts had it at first, without folders: chunks of arrays then repeat names."""
    return [{**entry, "name": PurePosixPath(entry["name"]).name} for entry in files]


SCHEMA = "convkit.receipt/1"
STATE_SCHEMA = "convkit.state/1"
_NEEDED = ("plan", "plan_digest", "source", "target", "complement")
_NEEDED_OF_MIGRATIONS = ("plan", "plan_digest", "source", "target", "parts")
MIGRATION_SCHEMA = "convkit.migration/1"


def receipt_path(target: Path) -> Path:
    """Where the receipt of ``target`` lies."""
    return target.with_name(target.name + ".convkit.json")


#: the format of what a conversion keeps
COMPLEMENT_FORMAT = "safetensors"


def complement_path(target: Path) -> Path:
    """Where the tensors that the conversion to ``target`` lost lie."""
    return target.with_name(target.name + ".complement.safetensors")


def record_path(target: Path) -> Path:
    """Where the record of a repair that made ``target`` lies."""
    return target.with_name(target.name + ".state.json")


def migration_path(target: Path) -> Path:
    """Where the receipt of the migration that made ``target`` lies."""
    return target.with_name(target.name + ".migration.json")


def json_value(value: Any) -> Any:
    """A value leaf as JSON."""
    return {"opaque": value.kind, "hex": value.data.hex()} if isinstance(value, Opaque) else value


def from_json_value(value: Any) -> Any:
    """What :func:`json_value` wrote."""
    return Opaque(bytes.fromhex(value["hex"]), value["opaque"]) if isinstance(value, dict) and value else value


def read_receipt(target: Path) -> dict[str, Any] | None:
    """The receipt beside ``target``; None where there is none.

    Raises:
        ConvkitError: it isn't one, or of a schema that this convkit doesn't know.
    """
    return _read(receipt_path(target), SCHEMA, "receipt")


def read_record(target: Path) -> dict[str, Any] | None:
    """The record of a repair beside ``target``; None where there is none.

    Raises:
        ConvkitError: it isn't one, or of a schema that this convkit doesn't know.
    """
    return _read(record_path(target), STATE_SCHEMA, "record")


def read_migration(target: Path) -> dict[str, Any] | None:
    """The receipt of the migration beside ``target``; None where there is none.

    Raises:
        ConvkitError: it isn't one, or of a schema that this convkit doesn't know.
    """
    return _read(migration_path(target), MIGRATION_SCHEMA, "migration", _NEEDED_OF_MIGRATIONS)


def _read(path: Path, schema: str, kind: str, needed: tuple[str, ...] = _NEEDED) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConvkitError(f"is not valid JSON: {error}", path=path, remedy="restore it, or remove it") from None
    if not isinstance(document, dict) or document.get("schema") != schema:
        raise ConvkitError(f"is not a {kind} of schema {schema}", path=path, remedy="use the convkit that wrote it")
    for name in needed:
        if name not in document:
            raise ConvkitError(f"lacks {name}", path=path, remedy="use the convkit that wrote it")
    return document
