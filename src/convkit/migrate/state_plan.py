"""The plan of a repair as a document: its types, of which the schema is made."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from convkit.files.document import Document
from convkit.files.receipt_json import Natural, Repair, RepairCommand, RepairComplement
from convkit.plan.figures import Figures

Word = Literal["moved", "tied", "derived"]


class SourceState(Struct, frozen=True, kw_only=True):
    """A leaf of the source, and what becomes of it; a value has neither shape nor dtype."""

    shape: list[Natural] | None
    dtype: str | None
    value: Any | UnsetType = UNSET
    fate: Word | Literal["dropped"]
    reason: str | None


class TargetState(Struct, frozen=True, kw_only=True):
    """A leaf of the target, and where it comes from; a value has neither shape nor dtype."""

    shape: list[Natural] | None
    dtype: str | None
    value: Any | UnsetType = UNSET
    origin: Word
    reason: str | None


class PlannedFile(Struct, frozen=True, kw_only=True):
    """The source."""

    layout: None = None
    format: str
    path: str


class PlannedState(Struct, frozen=True, kw_only=True):
    """The target."""

    layout: None = None
    format: str
    config: dict[str, Any]


class RepairPlan(Document, frozen=True, kw_only=True):
    """What a repair of a checkpoint's state will do."""

    schema: Literal["convkit.state/1"] = "convkit.state/1"
    command: RepairCommand
    repairs: list[Repair] | UnsetType = UNSET
    dataloader: dict[str, Any] | UnsetType = UNSET
    warnings: list[str]
    complement: RepairComplement
    source: PlannedFile
    target: PlannedState
    source_leaves: dict[str, SourceState]
    target_leaves: dict[str, TargetState]
    summary: Figures
