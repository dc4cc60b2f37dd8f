"""Receipts as documents: their types, of which the schemas are made.

Keys whose default is ``UNSET`` are left out where there is nothing to say. A plan stays as its maker writes it, for
``plan_digest`` is of that; its own type is with its maker.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from convkit.checkpoint.digests import ALGORITHMS
from convkit.files.document import Document, as_json
from convkit.files.packages import Package

Natural = Annotated[int, Meta(ge=0)]
Digest = Annotated[str, Meta(pattern="^[a-z0-9-]+:[0-9a-f]+$")]
Seal = Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]
Api = Annotated[str, Meta(pattern="^v[01]$")]
OrbaxFormat = Annotated[str, Meta(pattern="^orbax-v[01]$")]
#: by name, the versions of what has a part in the work
Versions = dict[str, str]

#: these keys of a receipt come last
_LAST = (
    *("bytes_read", "bytes_written", "peak_anonymous_bytes", "warnings", "started", "seconds", "resumed"),
    *("written", "digest"),
)


class FileEntry(Struct, frozen=True):
    """A file of a checkpoint: its path below the checkpoint's folder, and its size in bytes.

    ``version`` is what a store said of an object that was read there without a copy, such as ``ETag "…"``.
    """

    name: str
    bytes: Natural
    version: str | UnsetType = UNSET


class LeafDigest(Struct, frozen=True):
    """The digest of a leaf."""

    digest: Digest

    def __post_init__(self) -> None:
        _check_digest(self.digest)


class WrittenFile(Struct, frozen=True, kw_only=True):
    """A file of the output set, as it was when it got its final name."""

    name: Annotated[str, Meta(description="its path from the folder in which the target lies")]
    bytes: Natural
    mtime_ns: Annotated[int, Meta(description="its time of change, in nanoseconds")]
    digest: Annotated[Digest, Meta(description="of its bytes, except leaf_bytes")]
    leaf_bytes: Annotated[
        list[tuple[Natural, Natural]] | UnsetType,
        Meta(description="ranges of bytes that the digests of leaves cover, each from a start up to an end"),
    ] = UNSET
    version: Annotated[
        str | UnsetType, Meta(description='of an object in a store: what the store says of it, such as ETag "..."')
    ] = UNSET

    def __post_init__(self) -> None:
        _check_digest(self.digest)
        _check_below([self.name])
        ends = [end for span in self.leaf_bytes or () for end in span]
        if ends != sorted(ends) or (ends and ends[-1] > self.bytes):
            raise ValueError("the ranges of leaf_bytes aren't in order within the file")


class Receipt(Document, frozen=True, kw_only=True):
    """What every receipt says. Receipts of earlier releases don't have the fields that may be left out."""

    schema: Literal["convkit.receipt/2"] = "convkit.receipt/2"
    kind: str
    convkit: str
    commit: Annotated[str | UnsetType, Meta(description="of convkit; -dirty: its files were changed since")] = UNSET
    host: Annotated[str | UnsetType, Meta(description="the name of the machine that did the work")] = UNSET
    command_line: Annotated[str | UnsetType, Meta(description="what was typed, with credentials masked")] = UNSET
    packages: Annotated[
        tuple[Package, ...] | UnsetType,
        Meta(description="other packages whose code took part; left out where there are none"),
    ] = UNSET
    plan: dict[str, Any]
    plan_digest: Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]
    bytes_read: Natural
    bytes_written: Natural
    warnings: list[str]
    started: str
    seconds: Annotated[float, Meta(ge=0)]
    resumed: Annotated[bool, Meta(description="whether the run went on with what a killed one had made")]
    written: Annotated[list[WrittenFile] | UnsetType, Meta(description="every file beside the receipt itself")] = UNSET
    digest: Annotated[Seal | UnsetType, Meta(description="of the receipt's own bytes")] = UNSET

    def to_json(self) -> dict[str, Any]:
        """The document; what was done comes first, then figures. The plan is the same object, for it may be large."""
        found = msgspec.to_builtins(replace(self, plan={}))
        found = as_json(found | {"plan": self.plan})
        last = {name: found.pop(name) for name in _LAST if name in found}
        return found | last


# --- conversions ------------------------------------------------------------------------------------------------------


class ConvertedSide(Struct, frozen=True, kw_only=True):
    """The source or the target of a conversion; the target's path is its name. ``config`` is the name of its config
    beside it, where it isn't called as the target.
    """

    path: str
    format: str
    files: list[FileEntry]
    leaves: dict[str, LeafDigest]
    config: str | UnsetType = UNSET


class ConversionComplement(Struct, frozen=True, kw_only=True):
    """What found no place in the target: fields of the config, values, and tensors, which lie beside the target."""

    config: dict[str, Any]
    values: dict[str, Any]
    tensors: dict[str, LeafDigest]


class MadePart(Struct, frozen=True, kw_only=True):
    """A part of a conversion: its number, and who made it, when and how."""

    part: Natural
    host: str
    started: str
    seconds: Annotated[float, Meta(ge=0)]
    threads: Annotated[int, Meta(ge=1)]
    bytes_made: Natural
    bytes_digested: Annotated[Natural, Meta(description="of the source, for digests alone")]
    peak_anonymous_bytes: int
    resumed: bool


class InParts(Struct, frozen=True, kw_only=True):
    """The parts in which a conversion was carried out, and the identity that all have in common."""

    identity: Seal
    made: list[MadePart]


class ConversionReceipt(Receipt, frozen=True, kw_only=True):
    """What a conversion leaves beside its output."""

    kind: Literal["conversion"] = "conversion"
    plan: Annotated[dict[str, Any], Meta(extra_json_schema={"$ref": "plan.schema.json"})]
    source: ConvertedSide
    target: ConvertedSide
    complement: ConversionComplement
    before: Annotated[
        list[Annotated[dict[str, Any], Meta(extra_json_schema={"$ref": "plan.schema.json"})]] | UnsetType,
        Meta(description="plans of mappings before this conversion that it keeps what they lost of, the oldest first"),
    ] = UNSET
    versions: Versions
    threads: Annotated[int, Meta(ge=1)]
    peak_anonymous_bytes: int
    in_parts: Annotated[
        InParts | UnsetType, Meta(description="where the target was made in parts; figures are of all of them")
    ] = UNSET


# --- repairs ----------------------------------------------------------------------------------------------------------


class Repair(Struct, frozen=True):
    """One repair: ``what`` (format, structure, tied copy, last_epoch), where, and why."""

    what: str
    key: str
    before: Any
    after: Any
    why: str


class StreamedWorkers(Struct, frozen=True, kw_only=True):
    """How many samples each worker of a training had streamed, at which data step."""

    step: int
    samples: dict[str, int]
    missing: list[str]
    ignored: list[str]

    def __post_init__(self) -> None:
        for worker in self.samples:
            int(worker)


class RepairComplement(Struct, frozen=True, kw_only=True):
    """What the repaired file doesn't show."""

    tensors: dict[str, LeafDigest]
    workers: StreamedWorkers | UnsetType = UNSET


class RepairedSource(Struct, frozen=True):
    """What was repaired, and the version of its file format."""

    path: str
    version: float


class RepairedTarget(Struct, frozen=True, kw_only=True):
    """What was written; its path is its name."""

    path: str
    format: str
    bytes: Natural
    files: list[FileEntry]
    leaves: dict[str, LeafDigest]
    config: str | UnsetType = UNSET


RepairCommand = Literal["fix-checkpoint-spec", "data-iter-state"]


class RepairReceipt(Receipt, frozen=True, kw_only=True):
    """What a repair of a checkpoint's state leaves beside its output."""

    kind: Literal["repair"] = "repair"
    plan: Annotated[dict[str, Any], Meta(extra_json_schema={"$ref": "#/$defs/RepairPlan"})]
    command: RepairCommand
    repairs: list[Repair] | UnsetType = UNSET
    dataloader: Annotated[
        dict[str, Any] | UnsetType, Meta(description="the loader state that was put in, as a tree")
    ] = UNSET
    complement: RepairComplement
    source: RepairedSource
    target: RepairedTarget
    tensors: Natural


# --- migrations -------------------------------------------------------------------------------------------------------


class MigratedSide(Struct, frozen=True):
    """The source or the target of a migration; the target's path is its name."""

    path: str
    format: OrbaxFormat


class Handlers(Struct, frozen=True):
    """What reads an item, in the source and in the target; None where nothing is recorded."""

    source: str | None
    target: str | None


class MigratedItem(Struct, frozen=True, kw_only=True):
    """An item of a checkpoint: its name in the source, and why its arrays were written anew, if they were."""

    kind: str
    why: str
    source: str
    handlers: Handlers
    rewritten: str | None
    leaves: Annotated[
        dict[str, LeafDigest] | UnsetType, Meta(description="by storage name, where arrays were written anew")
    ] = UNSET


class MigratedFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the target, and the file of the source that it is, if it is one."""

    source: str | None
    bytes: Natural
    digest: Digest

    def __post_init__(self) -> None:
        _check_digest(self.digest)


class HeldFile(Struct, frozen=True, forbid_unknown_fields=True):
    """What a file of the source holds: text, or other bytes."""

    text: str | UnsetType = UNSET
    base64: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.text is UNSET) == (self.base64 is UNSET):
            raise ValueError("a file has a text, or bytes as base64")
        _ = self.data

    @classmethod
    def of(cls, data: bytes) -> HeldFile:
        """These bytes."""
        try:
            return cls(text=data.decode())
        except UnicodeDecodeError:
            return cls(base64=base64.b64encode(data).decode())

    @property
    def data(self) -> bytes:
        """The file's bytes."""
        if self.text is not UNSET:
            return self.text.encode()
        return base64.b64decode(self.base64 or "")


Held = Annotated[HeldFile, Meta(extra_json_schema={"minProperties": 1, "maxProperties": 1})]


class MigrationComplement(Struct, frozen=True):
    """The files and empty folders of the source that aren't in the target."""

    files: dict[str, Held]
    folders: list[str]


class MigratedPart(Struct, frozen=True, kw_only=True):
    """A part of a migrated checkpoint: a step, or what else is a checkpoint, and the files of a root."""

    name: str
    kind: Annotated[str, Meta(pattern="^(root|step|direct|item|flax|safetensors)$")]
    api: Api
    why: str
    given_back: bool
    items: dict[str, MigratedItem]
    files: dict[str, MigratedFile]
    folders: list[str]
    complement: MigrationComplement
    left_out: dict[str, str]
    notes: list[str]

    def __post_init__(self) -> None:
        sources = [file.source for file in self.files.values() if file.source is not None]
        items = [name for target, item in self.items.items() for name in (target, item.source)]
        kept = [*self.complement.files, *self.complement.folders]
        _check_below([self.name, *self.files, *self.folders, *sources, *items, *kept])


class Restored(Struct, frozen=True, kw_only=True):
    """What came of restoring the target by the real Orbax: why it wasn't done, or a comparison with the source."""

    skipped: str | UnsetType = UNSET
    measured: dict[str, int] | UnsetType = UNSET
    faults: Annotated[
        list[tuple[str, bool]] | UnsetType, Meta(description="faults planted on purpose, and whether each was caught")
    ] = UNSET
    problems: list[str] | UnsetType = UNSET


_RESTORED = {"oneOf": [{"required": ["skipped"]}, {"required": ["measured", "faults", "problems"]}]}


class MigrationReceipt(Receipt, frozen=True, kw_only=True):
    """What a migration between Orbax's two APIs leaves beside its output."""

    kind: Literal["migration"] = "migration"
    plan: Annotated[dict[str, Any], Meta(extra_json_schema={"$ref": "#/$defs/MigrationPlan"})]
    source: MigratedSide
    target: MigratedSide
    parts: list[MigratedPart]
    restored: Annotated[Restored, Meta(extra_json_schema=_RESTORED)]
    versions: Versions


def _check_digest(digest: str) -> None:
    if digest.partition(":")[0] not in ALGORITHMS:
        raise ValueError(f"no digest {digest.partition(':')[0]!r}")


def _check_below(names: Iterable[str]) -> None:
    """Names are those of files and folders below a folder."""
    for name in names:
        if "\0" in name or name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{name!r} isn't a path below the checkpoint's folder")
