"""The receipt beside every output of convkit, and the complement of what a conversion lost.

``<DST>.convkit.json`` (schema ``convkit.receipt/2``) holds the whole plan, digests, versions and figures. Its
``kind`` says what was done: a ``conversion``, a ``repair`` of a checkpoint's state (:mod:`convkit.migrate.restate`),
or a ``migration`` between Orbax's two APIs (:mod:`convkit.migrate.orbax`). ``<DST>.complement.safetensors`` holds
the tensors that found no place in a conversion's target.

Earlier releases wrote the receipt of a conversion as ``convkit.receipt/1``, without a kind, and those of other
work under other names: ``<DST>.state.json`` (``convkit.state/1``) of a repair, ``<DST>.migration.json``
(``convkit.migration/1``) of a migration. They are still read, and never written. The schema has another number than
before so that those releases refuse what they would take for a conversion.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from convkit.checkpoint import Opaque, UnknownObject
from convkit.checkpoint.source_files import Ranged
from convkit.errors import ConvkitError
from convkit.files.document import read_json
from convkit.files.long_document import read_long
from convkit.files.receipt_json import FileEntry

SCHEMA = "convkit.receipt/2"
CONVERSION, REPAIR, MIGRATION = "conversion", "repair", "migration"
#: plans of the kinds of work that have no mapping
STATE_SCHEMA = "convkit.state/1"
MIGRATION_SCHEMA = "convkit.migration/1"

#: what every receipt has
_NEEDED = ("plan", "plan_digest", "source", "target")
#: and what one of a kind has beside
_NEEDED_OF = {CONVERSION: ("complement",), REPAIR: ("complement",), MIGRATION: ("parts",)}
#: suffix -> what is read there, as schema -> kind; where there are several, a tie goes to the first
_READ: dict[str, dict[str, str]] = {
    ".convkit.json": {"convkit.receipt/1": CONVERSION},
    ".state.json": {STATE_SCHEMA: REPAIR},
    ".migration.json": {MIGRATION_SCHEMA: MIGRATION},
}


def receipt_path(target: Path) -> Path:
    """Where the receipt of ``target`` lies."""
    return target.with_name(target.name + ".convkit.json")


#: the format of what a conversion keeps
COMPLEMENT_FORMAT = "safetensors"


def complement_path(target: Path) -> Path:
    """Where the tensors that the conversion to ``target`` lost lie."""
    return target.with_name(target.name + ".complement.safetensors")


def receipts_beside(target: Path) -> list[Path]:
    """Receipts of ``target`` that exist, of this release and of earlier ones."""
    places = (target.with_name(target.name + suffix) for suffix in _READ)
    return [path for path in places if path.is_file()]


def read_receipt(target: Path, kind: str | None = None) -> dict[str, Any] | None:
    """The receipt beside ``target``, its ``kind`` filled in; None where there is none, or of another kind than asked.

    Releases before ``convkit.receipt/2`` could leave two receipts beside one target. Then that one counts whose work
    was started last; a receipt of today's schema counts always.

    Raises:
        ConvkitError: it isn't one, or of a schema that this convkit doesn't know; or the target, in a store, isn't
            finished.
    """
    if isinstance(target, Ranged):
        target.check_finished()
    found: list[dict[str, Any]] = []
    for path in receipts_beside(target):
        found.append(_read(path, _READ[path.name.removeprefix(target.name)]))
        if found[-1]["schema"] == SCHEMA:
            break
    receipt = max(found, key=lambda receipt: str(receipt.get("started", "")), default=None)
    return receipt if receipt is not None and kind in (None, receipt["kind"]) else None


def side_of(receipt: Mapping[str, Any], which: str) -> Mapping[str, Any]:
    """A side of a receipt as it was read, ``source`` or ``target``; {} where a damaged one has something else there."""
    side = receipt.get(which)
    return side if isinstance(side, dict) else {}


def recorded_config(target: Path) -> Path | None:
    """The config beside ``target``, if the receipt of its conversion says that it isn't called as the target."""
    try:
        name = (read_receipt(target, CONVERSION) or {})["target"]["config"]
    except (ConvkitError, KeyError, TypeError):
        return None
    return target.with_name(name) if isinstance(name, str) and name and Path(name).name == name else None


def _read(path: Path, earlier: dict[str, str]) -> dict[str, Any]:
    document = read_json(path, "restore it, or remove it", parse=read_long)
    schema = str(document.get("schema")) if isinstance(document, dict) else None
    if schema in earlier:
        document["kind"] = earlier[schema]
    elif schema != SCHEMA:
        known = " or ".join((SCHEMA, *earlier))
        raise ConvkitError(f"is not a receipt of schema {known}", path=path, remedy="use the convkit that wrote it")
    if str(document.get("kind")) not in _NEEDED_OF:
        raise ConvkitError(
            f"is of a kind that this convkit doesn't know: {document.get('kind')!r}",
            path=path,
            remedy="use the convkit that wrote it",
        )
    for name in (*_NEEDED, *_NEEDED_OF[document["kind"]]):
        if name not in document:
            raise ConvkitError(f"lacks {name}", path=path, remedy="use the convkit that wrote it")
    return document


def same_files(checkpoint: Path, files: Iterable[Path]) -> list[FileEntry]:
    """Files of a checkpoint as receipts record them: the path below its folder, the size, and a store's version."""
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    return [_entry(path, folder) for path in files]


def _entry(path: Path, folder: Path) -> FileEntry:
    if isinstance(path, Ranged):
        return FileEntry(str(path.relative_to(folder)), path.stat().st_size, path.version)
    return FileEntry(Path(os.path.relpath(path, folder)).as_posix(), path.stat().st_size)


def bare_names(files: Iterable[FileEntry]) -> list[FileEntry]:
    """The same list as receipts had it at first, without folders: chunks of arrays then repeat names."""
    return [FileEntry(PurePosixPath(entry.name).name, entry.bytes) for entry in files]


def json_value(value: Any) -> Any:
    """A value leaf as JSON; of an unknown object its kind."""
    if isinstance(value, UnknownObject):
        return {"opaque": value.kind}
    return {"opaque": value.kind, "hex": value.data.hex()} if isinstance(value, Opaque) else value


def from_json_value(value: Any) -> Any:
    """What :func:`json_value` wrote."""
    return Opaque(bytes.fromhex(value["hex"]), value["opaque"]) if isinstance(value, dict) and value else value
