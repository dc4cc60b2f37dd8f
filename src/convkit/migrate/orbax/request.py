"""Describe the migration that a user requests, and derive the parts of the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convkit.errors import ConvkitError, UsageError
from convkit.files.receipt import MIGRATION, read_receipt
from convkit.files.receipt_json import MigratedPart
from convkit.formats.orbax.safetensors import as_checkpoint
from convkit.migrate.orbax.documents import Recorded, recorded
from convkit.migrate.orbax.dropping import Dropping
from convkit.migrate.orbax.items import Target
from convkit.migrate.orbax.parts import Part, checkpoint_part, root_part
from convkit.migrate.orbax.record import restored
from convkit.state.orbax import layout, root
from convkit.state.orbax.layout import Found, recognise

METADATA, REWRITE = "metadata", "rewrite"
#: what neither API wrote
_OF_OTHERS = (layout.SAFETENSORS, layout.FLAX)


@dataclass(frozen=True)
class Encoding:
    """How rewritten arrays are stored; None is the target API's default.

    ``chunk_size`` is the most that a chunk may have, in bytes before compression; None keeps the source's chunks.
    """

    zarr: int | None = None
    ocdbt: bool | None = None
    compressor: str | None = None
    chunk_size: int | None = None

    @property
    def asked(self) -> bool:
        """Whether any encoding is requested, which requires rewriting."""
        return self != Encoding()


@dataclass(frozen=True)
class Request:
    """A migration.

    Args:
        to: the API that is to load the result, ``v0`` or ``v1``.
        mode: ``metadata``, ``rewrite``, or None to rewrite only the items that must be.
        steps: the steps of a root, by number; () for all.
        dual: whether the other API must load it too.
        drop: leaves and items to leave out, by name or glob.
        copy: whether data files are to be copies, never hard links.
        afresh: whether to ignore the receipt of an earlier migration.
        encoding: how rewritten arrays are stored.
    """

    to: str
    mode: str | None = None
    steps: Sequence[int] = ()
    dual: bool = False
    drop: Sequence[str] = ()
    copy: bool = False
    afresh: bool = False
    encoding: Encoding = Encoding()


@dataclass(frozen=True)
class Migration:
    """The work to do: the source, and each part of the output."""

    source: Found
    request: Request
    parts: tuple[Part, ...]
    #: the parts of the receipt of the migration that made the source, by name
    earlier: dict[str, MigratedPart]

    @property
    def notes(self) -> list[str]:
        """Notes for the user, with the part's name if there are several parts."""
        return [f"{part.name}: {note}" if part.name else note for part in self.parts for note in _notes(part)]


def _notes(part: Part) -> list[str]:
    return [*part.notes, *(f"{name} {why}: left out" for name, why in part.left_out.items())]


def plan_migration(source: Path, request: Request) -> Migration:
    """Derive the parts of the output from the metadata of the source; no array is read.

    Raises:
        UsageError: there is nothing to do, a step doesn't exist, a step of a checkpoint that isn't a root, or nothing
            has a name that is to be dropped.
        ConvkitError: it isn't an Orbax checkpoint, it is incomplete or damaged, or new metadata isn't enough
            but only metadata may be written.
    """
    found = recognise(source)
    target = Target(request.to, request.dual)
    checkpoints = _checkpoints(found, request)
    why = _rewriting(request)
    there = all(each.api == request.to and each.kind not in _OF_OTHERS for each in checkpoints.values())
    receipt = None if request.afresh or why else _recorded(source)
    was_dual = receipt is not None and receipt.plan.request.dual  # both APIs' files can be restored
    if there and not (request.dual or was_dual or request.drop) and why is None:
        raise UsageError(
            f"is already a {request.to} checkpoint",
            path=source,
            remedy="name the other API with --to, or rewrite its arrays with --mode rewrite",
        )
    earlier = {part.name: part for part in receipt.parts} if receipt else {}
    parts = [root_part(found, target)] if found.kind == layout.ROOT else []
    drop = Dropping(request.drop)
    parts += [checkpoint_part(each, name, target, drop, rewrite=why) for name, each in checkpoints.items()]
    drop.check_used(source)
    if not request.dual:
        parts = [restored(part, was, request.to) if (was := earlier.get(part.name)) else part for part in parts]
    if request.mode == METADATA:
        _refuse_rewriting(parts)
    return Migration(found, request, tuple(parts), earlier)


def _recorded(source: Path) -> Recorded | None:
    """The receipt of the migration that made the source, if one did."""
    receipt = read_receipt(source, MIGRATION)
    return None if receipt is None else recorded(receipt, source)


def _rewriting(request: Request) -> str | None:
    """Why every pytree is to be rewritten, if the user requests it."""
    if request.mode == METADATA and request.encoding.asked:
        raise UsageError("--mode metadata leaves arrays as they are", remedy="say --mode rewrite")
    if request.mode == REWRITE:
        return "asked for"
    return "another encoding was requested" if request.encoding.asked else None


def _checkpoints(found: Found, request: Request) -> dict[str, Found]:
    """The checkpoints to migrate, by the names of their folders in the output.

    Raises:
        UsageError: it isn't a root, or lacks such steps.
    """
    if found.kind != layout.ROOT:
        if request.steps:
            raise UsageError(
                f"isn't a root: --step {request.steps[0]}", path=found.path, remedy="leave --step out, or name the root"
            )
        return {"": as_checkpoint(found) if found.kind == layout.SAFETENSORS else found}
    numbers = {path: parsed.step for path in found.steps if (parsed := root.parse_step(path.name))}
    missing = [step for step in request.steps if step not in numbers.values()]
    if missing:
        there = ", ".join(map(str, numbers.values()))
        raise UsageError(f"has no step {missing[0]}", path=found.path, remedy=f"its steps: {there}")
    chosen = [path for path, number in numbers.items() if not request.steps or number in request.steps]
    return {path.name: recognise(path) for path in chosen}


def _refuse_rewriting(parts: Sequence[Part]) -> None:
    for part in parts:
        for fate in part.fates:
            if fate.rewritten:
                raise ConvkitError(
                    f"its arrays must be rewritten: {fate.rewritten}",
                    path=fate.item.path,
                    remedy="leave --mode out",
                )
