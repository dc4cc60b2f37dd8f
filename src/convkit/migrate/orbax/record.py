"""Record each part of a migration in the receipt, and restore the source's own files from it.

A part of the receipt lists the output's files, each with its digest and the file of the source that it is; and the
complement, the source's files that aren't in the output, with their content. Those of rewritten items are in
neither: their arrays are restored as they are in the output.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from msgspec import UNSET

from convkit.checkpoint.digests import digest_file, digest_files
from convkit.errors import ConvkitError
from convkit.files.receipt_json import (
    Handlers,
    HeldFile,
    LeafDigest,
    MigratedFile,
    MigratedItem,
    MigratedPart,
    MigrationComplement,
)
from convkit.migrate.orbax.files import Files, below, is_metadata, listed, under
from convkit.migrate.orbax.parts import Fate, Part
from convkit.state.orbax import handlers
from convkit.state.orbax.layout import FLAX, ROOT, SAFETENSORS

#: files smaller than this are digested to see whether they have changed; all metadata are
_SMALL = 1 << 20


def part_record(
    part: Part, folder: Path, algorithm: str, threads: int, leaves: Mapping[str, Mapping[str, str]]
) -> MigratedPart:
    """Make the receipt's entry for a part, which is in ``folder`` now.

    Args:
        part: what was done.
        folder: where it is now.
        algorithm: of the files' digests.
        threads: that digest them.
        leaves: by item that was written anew, the digest of each leaf by storage name.

    Raises:
        OSError: a file can't be read.
    """
    made = listed(folder)
    if part.found.kind == ROOT:
        made = {name: file for name, file in made.items() if name in part.files}
    origins = {path: name for name, path in part.own.items() if isinstance(path, Path)}
    sources = {name: origins.get(path) for name, path in part.files.items() if isinstance(path, Path)}
    files = {name: path for name, path in made.items() if isinstance(path, Path)}
    digests = digest_files(algorithm, files.values(), threads)
    return MigratedPart(
        name=part.name,
        kind=part.found.kind,
        api=part.found.api,
        why=part.found.why,
        given_back=part.restored,
        items={fate.target: _item(fate, leaves.get(fate.target)) for fate in part.fates},
        files={
            name: MigratedFile(sources.get(name), path.stat().st_size, digest)
            for (name, path), digest in zip(files.items(), digests, strict=True)
        },
        folders=[name for name in made if name.endswith("/")],
        complement=_complement(part, {name for name in sources.values() if name}),
        left_out=dict(part.left_out),
        notes=list(part.notes),
    )


def _item(fate: Fate, leaves: Mapping[str, str] | None) -> MigratedItem:
    return MigratedItem(
        kind=fate.item.kind,
        why=fate.item.why,
        source=fate.source,
        handlers=Handlers(fate.item.handler, fate.handler),
        rewritten=fate.rewritten,
        leaves=UNSET if leaves is None else {key: LeafDigest(digest) for key, digest in leaves.items()},
    )


def _complement(part: Part, carried: Collection[str]) -> MigrationComplement:
    """The files and empty folders of the source that aren't copied, except those rewritten or left out."""
    kept = {
        name: origin
        for name, origin in part.own.items()
        if name not in carried and name not in part.rewritten and name.partition("/")[0] not in part.left_out
    }
    return MigrationComplement(
        files={name: HeldFile.of(path.read_bytes()) for name, path in kept.items() if isinstance(path, Path)},
        folders=[name for name in kept if name.endswith("/")],
    )


def restored(part: Part, recorded: MigratedPart, to: str) -> Part:
    """Restore the part from before the recorded migration; keep it if that had the other API or metadata changed.

    Raises:
        ConvkitError: an array's data have changed.
    """
    if recorded.api != to or recorded.kind in (FLAX, SAFETENSORS):
        return part
    if changed := sorted(_changed(part, recorded)):
        if data := [name for name in changed if _holds_data(name, recorded)]:
            raise _altered(part.folder / data[0])
        note = f"{changed[0]} isn't as it was migrated: its state before that migration isn't restored"
        return replace(part, notes=(*part.notes, note))
    lone = [name for name, item in recorded.items.items() if item.rewritten and item.kind != handlers.PYTREE]
    if lone:  # the files that made it another kind of item are nowhere
        note = f"{lone[0]} was rewritten as a pytree: the state before that migration isn't restored"
        return replace(part, notes=(*part.notes, note))
    return replace(part, files=_before(part, recorded), fates=_fates(part, recorded), notes=(), restored=True)


def _changed(part: Part, recorded: MigratedPart) -> Iterator[str]:
    """Files that were added or removed since, and small ones whose content has changed."""
    files = {name for name in part.own if not name.endswith("/")}
    yield from files ^ set(recorded.files)
    for name in files & set(recorded.files):
        path, file = part.folder / name, recorded.files[name]
        size = path.stat().st_size
        if size != file.bytes or (size < _SMALL and digest_file(file.digest.partition(":")[0], path) != file.digest):
            yield name


def _holds_data(name: str, recorded: MigratedPart) -> bool:
    """Whether a file of the receipt holds a pytree's arrays."""
    item = recorded.items.get(name.partition("/")[0]) or recorded.items.get("")
    known = item is not None and item.kind == handlers.PYTREE and name in recorded.files
    return known and not is_metadata(name)


def _before(part: Part, recorded: MigratedPart) -> Files:
    """The files of the source of the recorded migration."""
    moved = {file.source: name for name, file in recorded.files.items() if file.source is not None}
    files: Files = {source: part.own[name] for source, name in moved.items()}
    for target, item in recorded.items.items():
        if item.rewritten:
            files |= under(item.source, below(target, part.own))
    complement = recorded.complement
    for name, held in complement.files.items():
        files[name] = held.data
    return files | dict.fromkeys(complement.folders, b"")


def _fates(part: Part, recorded: MigratedPart) -> tuple[Fate, ...]:
    """The fates that turn each item back into what it was."""
    items = recorded.items
    return tuple(
        replace(
            fate,
            target=items[fate.source].source,
            kind=items[fate.source].kind,
            handler=items[fate.source].handlers.source,
            rewritten=None,
        )
        for fate in part.fates
        if fate.source in items
    )


def check_unchanged(part: Part, record: MigratedPart, recorded: MigratedPart) -> None:
    """Check that restored files have the bytes that were migrated.

    Raises:
        ConvkitError: a file of the source has changed since; names it.
    """
    known = {file.source: file.digest for file in recorded.files.values() if file.source}
    for name, file in record.files.items():
        if name in known and known[name] != file.digest:
            raise _altered(part.folder / name)


def _altered(path: Path) -> ConvkitError:
    return ConvkitError(
        "has changed since it was migrated",
        path=path,
        remedy="fetch the checkpoint again, or say --afresh to migrate it as it is",
    )
