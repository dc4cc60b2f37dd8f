"""Writing an item's arrays anew, leaf by leaf in bounded memory, through convkit's own reader and writer of Orbax.

Each thread has a slab of one leaf, and what must be decoded with it; the writer packs as many chunks at a time as
fit in its own bound.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from convkit.checkpoint import Checkpoint, Leaf, WriteOptions, Writer
from convkit.checkpoint.digests import BlockDigests, combine, digest_value
from convkit.execute.gather import Gather
from convkit.execute.job import Job
from convkit.execute.slabs import SLAB, Piece
from convkit.files.receipt import json_value
from convkit.formats import get_format
from convkit.formats.arrays.ranges import chunk_shape
from convkit.formats.orbax.reader import open_orbax
from convkit.formats.orbax.record import KEY, Record
from convkit.migrate.orbax.parts import Fate
from convkit.migrate.orbax.request import Request
from convkit.state.orbax import layout


def rewrite(
    place: Path, fate: Fate, folder: Path, scratch: Path, request: Request, *, algorithm: str, threads: int
) -> dict[str, dict[str, str]]:
    """Make ``folder``, which holds an item anew, as a pytree; returns the digest of each leaf by storage name.

    Args:
        place: the checkpoint whose item it is.
        fate: which item.
        scratch: a folder on the same file system, that isn't there yet.

    Raises:
        ConvkitError: a leaf can't be read or written.
        OSError: the folder can't be made.
    """
    encoding = request.encoding
    with open_orbax(place) as checkpoint:
        whole = Record.from_json(checkpoint.metadata[KEY])
        record = Record(layout.STEP, {fate.source: whole.items[fate.source]}, {})
        found = {node.path: key for key, item, node in whole.nodes() if item == fate.source}
        keys = {key: found[node.path] for key, _, node in record.nodes()}
        leaves = {key: replace(checkpoint.leaves[full], key=key) for key, full in keys.items()}
        options = WriteOptions(
            metadata={KEY: record.to_json()},
            chunks=_chunks(leaves, encoding.chunk_size),
            zarr=encoding.zarr,
            ocdbt=encoding.ocdbt is not False,
            compressor=encoding.compressor,
        )
        writer = get_format(f"orbax-{request.to}").create(scratch, list(leaves.values()), options)
        try:
            with ThreadPoolExecutor(threads) as pool:
                tensors = [key for key, leaf in leaves.items() if leaf.spec]
                made = list(pool.map(lambda key: _copy(checkpoint, keys[key], writer, key, algorithm), tensors))
            writer.commit()
        finally:
            writer.close()
        digests = dict(zip(tensors, made, strict=True)) | {
            key: digest_value(algorithm, json_value(leaf.value)) for key, leaf in leaves.items() if leaf.spec is None
        }
    folder.parent.mkdir(parents=True, exist_ok=True)
    (scratch / fate.target).rename(folder)
    shutil.rmtree(scratch)
    return {key: {"digest": digest} for key, digest in digests.items()}


def _chunks(leaves: Mapping[str, Leaf], limit: int | None) -> dict[str, tuple[int, ...]]:
    """Shapes of chunks of that many bytes at most; none where nobody asks."""
    specs = {key: leaf.spec for key, leaf in leaves.items() if limit and leaf.spec and leaf.spec.shape}
    return {key: chunk_shape(spec.shape, spec.itemsize, limit or 0) for key, spec in specs.items()}


def _copy(checkpoint: Checkpoint, source: str, writer: Writer, key: str, algorithm: str) -> str:
    """Write one leaf; returns its digest."""
    spec: Any = checkpoint.leaves[source].spec
    gather = Gather(Job("target", key, spec, checkpoint, [Piece(source, key, (spec.size,), 0, (1,), 0, (1,))]))
    unit = writer.granularity(key)
    step = math.ceil(SLAB / (unit * spec.itemsize)) * unit
    digests = BlockDigests(algorithm)
    for start in range(0, spec.size, step):
        data = gather(start, min(spec.size, start + step))
        digests.update(data)
        writer.write(key, start, data)
    writer.finish(key)
    return combine(algorithm, digests.blocks())
