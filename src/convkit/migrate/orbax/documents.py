"""The plan of a migration as a document, and what is read of an earlier migration's receipt: their types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from convkit.files.document import Document, typed
from convkit.files.receipt import receipts_beside
from convkit.files.receipt_json import Api, MigratedPart, Natural, OrbaxFormat, Versions
from convkit.plan.figures import Figures


class AskedEncoding(Struct, frozen=True):
    """How arrays that are written anew are to be stored; None is the target API's own way."""

    zarr: Annotated[int, Meta(ge=2, le=3)] | None
    ocdbt: bool | None
    compressor: str | None
    chunk_size: int | None


class Asked(Struct, frozen=True, kw_only=True):
    """What the user asked for."""

    to: Api
    mode: Annotated[str, Meta(pattern="^(metadata|rewrite)$")] | None
    steps: list[Natural]
    dual: bool
    drop: Annotated[list[str], Meta(description="leaves and items that are left out, by name or glob")] = []
    encoding: AskedEncoding


class PlannedOrbax(Struct, frozen=True, kw_only=True):
    """The source: its API, and what it is."""

    layout: None = None
    format: OrbaxFormat
    kind: str
    config: dict[str, Any]


class PlannedTarget(Struct, frozen=True, kw_only=True):
    """The target: its API."""

    layout: None = None
    format: OrbaxFormat
    config: dict[str, Any]


class SourceLeaf(Struct, frozen=True, kw_only=True):
    """A leaf of the source, and why it is written anew or dropped, if it is; a text has neither shape nor dtype."""

    shape: list[Natural] | None
    dtype: str | None
    reason: str | None
    fate: Literal["moved", "dropped"] = "moved"


class TargetLeaf(Struct, frozen=True, kw_only=True):
    """A leaf of the target, and why it is written anew, if it is; a text has neither shape nor dtype."""

    shape: list[Natural] | None
    dtype: str | None
    reason: str | None
    origin: Literal["moved"] = "moved"


class MigrationPlan(Document, frozen=True, kw_only=True):
    """What a migration will do."""

    schema: Literal["convkit.migration/1"] = "convkit.migration/1"
    request: Asked
    source: PlannedOrbax
    target: PlannedTarget
    source_leaves: dict[str, SourceLeaf]
    target_leaves: dict[str, TargetLeaf]
    steps: list[Any]
    warnings: list[str]
    summary: Figures


class RecordedSide(Struct, frozen=True):
    """The source of an earlier migration: its API."""

    format: OrbaxFormat


class RecordedPlan(Struct, frozen=True):
    """The plan of an earlier migration: what was asked for."""

    request: Asked


class Recorded(Struct, frozen=True):
    """What is read of an earlier migration's receipt, of this release or of one before."""

    source: RecordedSide
    plan: RecordedPlan
    parts: list[MigratedPart]
    versions: Versions


def recorded(receipt: Mapping[str, Any], target: Path) -> Recorded:
    """The receipt of ``target``, as JSON, as typed values.

    Raises:
        ConvkitError: it is malformed; the file and the JSON path are named.
    """
    beside = receipts_beside(target)
    return typed(Recorded, receipt, beside[0] if beside else target)
