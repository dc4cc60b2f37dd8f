"""Make the output of a migration: copy files, and pass arrays that must be rewritten through the engine.

Each rewritten item is a separate task for :class:`~convkit.execute.carry.Carrier`: the source's leaves, written by
the writer of the target's API. Like every step here it is journaled, so that a killed run can be resumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.checkpoint import Checkpoint, Leaf, Tensors, WriteOptions
from convkit.checkpoint.digests import digest_value
from convkit.checkpoint.progress import Progress
from convkit.checkpoint.views import Renamed
from convkit.execute.publish import Output
from convkit.files.receipt import json_value
from convkit.files.receipt_json import MigratedPart
from convkit.formats import get_format
from convkit.formats.arrays.ranges import chunk_shape
from convkit.formats.orbax.reader import open_orbax
from convkit.formats.orbax.record import KEY, Record
from convkit.migrate.orbax.files import make
from convkit.migrate.orbax.parts import Fate, Part
from convkit.migrate.orbax.record import check_unchanged, part_record
from convkit.migrate.orbax.request import Migration, Request
from convkit.state.orbax import layout

if TYPE_CHECKING:
    from convkit.execute.carry import Carrier


class CarryOut:
    """One migration into one staged output, with a number of threads and a digest algorithm."""

    def __init__(
        self, migration: Migration, output: Output, *, threads: int, algorithm: str, progress: Progress | None
    ) -> None:
        self.migration = migration
        self.output = output
        self.staging = output.staging
        self.threads = threads
        self.algorithm = algorithm
        self.progress = progress
        self.total = sum(_nbytes(fate) for part in migration.parts for fate in part.fates)
        self.done = 0

    def run(self) -> list[MigratedPart]:
        """Make every part, and return the receipt's entry for each.

        Raises:
            ConvkitError: a leaf can't be read or written, or the disk is too small.
            StaleError: what a killed run left isn't of use.
            OSError: a file can't be read or written.
        """
        self.done = 0
        parts, copied = self.migration.parts, 0
        if self.migration.request.copy:
            paths = (path for part in parts for path in part.files.values())
            copied = sum(path.stat().st_size for path in paths if isinstance(path, Path))
        self.output.make_room(self.total + copied)
        return [self._part(part) for part in parts]

    def _part(self, part: Part) -> MigratedPart:
        folder = self.output.main / part.name
        made = f"files of {part.name}"
        make(folder, part.files, link=not self.migration.request.copy)  # anew: a killed run may have had other files
        if made not in self.staging.finished:
            self.staging.record({"key": made})
        leaves = {fate.target: self._write_anew(part, fate) for fate in part.fates if fate.rewritten}
        record = part_record(part, folder, self.algorithm, self.threads, leaves)
        if part.restored:
            check_unchanged(part, record, self.migration.earlier[part.name])
        return record

    def _write_anew(self, part: Part, fate: Fate) -> dict[str, str]:
        """Make the folder of an item, as a pytree, and return the digest of each leaf by storage name.

        The writer makes a whole step; only its item is used.
        """
        from convkit.execute.carry import Carrier
        from convkit.execute.job import copies

        role = "/".join(name for name in (part.name, fate.target) if name)
        folder, step = self.output.main / role, self.staging.folder / "rewritten" / role
        with open_orbax(part.folder, part.left_out) as checkpoint:
            record, source = _item(checkpoint, fate)
            as_packed = self.migration.request.encoding.compressor is None
            jobs = copies(role, source, stored=True, carried=as_packed)
            carrier = Carrier(
                self.staging, checkpoint, threads=self.threads, algorithm=self.algorithm, progress=self._progress()
            )
            written = f"written: {role}"
            if written in self.staging.finished:
                if folder.exists() and not (step / fate.target).exists():  # it had its place already
                    folder.rename(step / fate.target)
                carrier.make(jobs, {})  # each is in the journal
            else:
                step.parent.mkdir(parents=True, exist_ok=True)
                options, form = _options(source, record, self.migration.request), f"orbax-{self.migration.request.to}"
                resume = self.staging.resumed and step.exists()
                writer = get_format(form).create(step, list(source.leaves.values()), options, resume=resume)
                try:
                    carrier.make(jobs, {role: writer})
                    writer.commit()
                finally:
                    writer.close()
                self.staging.record({"key": written})
            values = {
                key: digest_value(self.algorithm, json_value(leaf.value))
                for key, leaf in source.leaves.items()
                if leaf.spec is None
            }
        self._check_taken_over(carrier, role, step)
        folder.parent.mkdir(parents=True, exist_ok=True)
        (step / fate.target).rename(folder)
        self.done += _nbytes(fate)
        return {**carrier.digests.get(role, {}), **values}

    def _check_taken_over(self, carrier: Carrier, role: str, step: Path) -> None:
        """Check what a killed run had made of an item.

        Raises:
            StaleError: it isn't as the journal has it.
        """
        if carrier.taken_over:
            with open_orbax(step) as made:
                carrier.check_taken_over(role, made)

    def _progress(self) -> Progress | None:
        """Turn progress within one item into progress of the whole."""
        progress, before = self.progress, self.done
        return (lambda done, _: progress(before + done, self.total)) if progress else None


def _nbytes(fate: Fate) -> int:
    """The bytes of an item's arrays, if they are rewritten."""
    if not (fate.rewritten and fate.pytree):
        return 0
    return sum(spec.nbytes for name, spec in fate.pytree.specs.items() if name not in fate.dropped)


def _item(checkpoint: Checkpoint, fate: Fate) -> tuple[Record, Tensors]:
    """A checkpoint's record for only one item, and the item's leaves by their keys in it."""
    whole = Record.from_json(checkpoint.metadata[KEY])
    record = Record(layout.STEP, {fate.source: whole.items[fate.source]}, {})
    found = {node.path: key for key, item, node in whole.nodes() if item == fate.source}
    kept = {key: found[node.path] for key, _, node in record.nodes() if node.name not in fate.dropped}
    return record, Renamed(checkpoint, kept)


def _options(source: Tensors, record: Record, request: Request) -> WriteOptions:
    encoding = request.encoding
    return WriteOptions(
        metadata={KEY: record.to_json()},
        chunks=_chunks(source.leaves, encoding.chunk_size),
        zarr=encoding.zarr,
        ocdbt=encoding.ocdbt is not False,
        compressor=encoding.compressor,
    )


def _chunks(leaves: Mapping[str, Leaf], limit: int | None) -> dict[str, tuple[int, ...]]:
    """Shapes of chunks of at most ``limit`` bytes; none without a limit."""
    specs = {key: leaf.spec for key, leaf in leaves.items() if limit and leaf.spec and leaf.spec.shape}
    return {key: chunk_shape(spec.shape, spec.itemsize, limit or 0) for key, spec in specs.items()}
