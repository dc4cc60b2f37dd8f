"""Write the reconverted checkpoint, if the round trip is to keep it; the round trip then compares that copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Set
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from convkit.checkpoint import Checkpoint, Leaf, WriteOptions, Writer
from convkit.checkpoint.progress import Meter, Progress
from convkit.checkpoint.threads import workers
from convkit.errors import UsageError
from convkit.files.receipt import from_json_value
from convkit.formats import get_format, open_checkpoint
from convkit.verify.roundtrip.chain import Claimed
from convkit.verify.roundtrip.reconvert import MISSING, Claim, Sides, stored, value_of


def write(folder: Path, claimed: Claimed, sides: Sides, threads: int, progress: Progress | None = None) -> Checkpoint:
    """Write the reconverted source, in its own format, into a new ``folder``.

    ``progress`` is called with the bytes written so far and the bytes in all.

    Raises:
        UsageError: the folder exists.
        ConvkitError: a leaf can't be made again. The folder is removed.
    """
    if folder.exists():
        raise UsageError("exists already", path=folder, remedy="name another folder to keep")
    source = sides.source
    name = "" if source.path.is_dir() else source.path.name
    staging = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        ours = ([c for c in claimed[0] if c.checkpoint is source], [c for c in claimed[1] if c.checkpoint is source])
        whole = {key for claim in ours[0] if claim.step is None for key in claim.keys}
        format = get_format(source.format)
        leaves = _leaves(ours, source, format.ties)
        writer = format.create(staging / name, leaves, WriteOptions())
        try:
            specs = {leaf.key: leaf.spec for leaf in leaves if leaf.spec and leaf.same_as is None}
            advance = Meter(sum(spec.nbytes for spec in specs.values()), progress)
            # a leaf that a complement also holds is written from there, without rounding
            once = [claim for claim in ours[0] if claim.step is None or whole.isdisjoint(claim.keys)]
            with workers(threads, sum(spec.nbytes for spec in specs.values())) as pool:
                list(pool.map(lambda claim: _write(writer, claim, specs.keys(), advance), once))
            writer.commit()
        finally:
            writer.close()
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return open_checkpoint(folder / name, source.format)


def from_kept(claimed: Claimed, sides: Sides, kept: Checkpoint) -> Claimed:
    """Redirect the claims about the source to the written copy; keep the others."""
    tensors: list[Claim] = []
    for claim in claimed[0]:
        if claim.checkpoint is sides.source:
            tensors += [
                replace(claim, keys=(key,), blocks=stored(kept, key, claim.spec), of=None, moved=None)
                for key in claim.keys
            ]
        else:
            tensors.append(claim)
    values = [
        replace(claim, value=value_of(kept, claim.key)) if claim.checkpoint is sides.source else claim
        for claim in claimed[1]
    ]
    return tensors, values


def _leaves(claimed: Claimed, source: Checkpoint, ties: bool) -> list[Leaf]:
    """List the leaves to write, in the order of the source; names that share bytes there share them here."""
    found: dict[str, Leaf] = {}
    for claim in claimed[0]:
        first, *others = claim.keys
        found[first] = Leaf(first, claim.spec)
        for name in others:
            shared = ties and any(key in source.leaves and source.leaves[key].same_as for key in (first, name))
            found[name] = Leaf(name, claim.spec, same_as=first if shared else None)
    for value in claimed[1]:
        if value.value is not MISSING:
            found[value.key] = Leaf(value.key, None, from_json_value(value.value))
    return [found[key] for key in source.leaves if key in found]


def _write(writer: Writer, claim: Claim, written: Set[str], advance: Meter) -> None:
    for key in written & set(claim.keys):
        for start, block in _aligned(claim.blocks(), writer.granularity(key)):
            writer.write(key, start, block)
            advance(block.nbytes)
        writer.finish(key)


def _aligned(blocks: Iterator[np.ndarray], unit: int) -> Iterator[tuple[int, np.ndarray]]:
    """Cut the elements at multiples of ``unit``; yield each run with its start."""
    start, held = 0, None
    for block in blocks:
        held = block if held is None else np.concatenate([held, block])
        whole = held.size - held.size % unit
        if whole:
            yield start, held[:whole]
        start, held = start + whole, held[whole:] if whole < held.size else None
    if held is not None:
        yield start, held
