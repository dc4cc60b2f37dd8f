"""Writing the reconverted checkpoint, which a round trip then compares if it is asked to keep it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from convkit.checkpoint import Checkpoint, Leaf, WriteOptions, Writer
from convkit.errors import UsageError
from convkit.files.receipt import from_json_value
from convkit.formats import get_format, open_checkpoint
from convkit.verify.roundtrip.chain import Claimed
from convkit.verify.roundtrip.reconvert import MISSING, Claim, Sides, stored, value_of


def write(folder: Path, claimed: Claimed, sides: Sides, threads: int) -> Checkpoint:
    """Write the source as it comes back, in its own format, into a new ``folder``.

    Raises:
        UsageError: the folder is there.
        ConvkitError: a leaf can't be made again. Nothing is left behind.
    """
    if folder.exists():
        raise UsageError("is there already", path=folder, remedy="name another folder to keep")
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
            written = {leaf.key for leaf in leaves if leaf.spec and leaf.same_as is None}
            # a leaf that a complement also answers for is written from there, where nothing is rounded
            once = [claim for claim in ours[0] if claim.step is None or whole.isdisjoint(claim.keys)]
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda claim: _write(writer, claim, written), once))
            writer.commit()
        finally:
            writer.close()
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return open_checkpoint(folder / name, source.format)


def from_kept(claimed: Claimed, sides: Sides, kept: Checkpoint) -> Claimed:
    """The same claims; those about the source are now about what was written."""
    tensors: list[Claim] = []
    for claim in claimed[0]:
        if claim.checkpoint is sides.source:
            tensors += [replace(claim, keys=(key,), blocks=stored(kept, key, claim.spec)) for key in claim.keys]
        else:
            tensors.append(claim)
    values = [
        replace(claim, value=value_of(kept, claim.key)) if claim.checkpoint is sides.source else claim
        for claim in claimed[1]
    ]
    return tensors, values


def _leaves(claimed: Claimed, source: Checkpoint, ties: bool) -> list[Leaf]:
    """The leaves to write, in the order of the source; names that share bytes there share them here."""
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


def _write(writer: Writer, claim: Claim, written: set[str]) -> None:
    for key in written.intersection(claim.keys):
        for start, block in _aligned(claim.blocks(), writer.granularity(key)):
            writer.write(key, start, block)
        writer.finish(key)


def _aligned(blocks: Iterator[np.ndarray], unit: int) -> Iterator[tuple[int, np.ndarray]]:
    """The same elements cut at multiples of ``unit``, each run with its start."""
    start, held = 0, None
    for block in blocks:
        held = block if held is None else np.concatenate([held, block])
        whole = held.size - held.size % unit
        if whole:
            yield start, held[:whole]
        start, held = start + whole, held[whole:] if whole < held.size else None
    if held is not None:
        yield start, held
