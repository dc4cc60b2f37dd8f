"""Writing an item's arrays anew, leaf by leaf in bounded memory, through convkit's own reader and writer of Orbax.

Each thread has a slab of one leaf, and what must be decoded with it; the writer packs as many chunks at a time as
fit in its own bound.
"""

from __future__ import annotations

import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from convkit.checkpoint import Checkpoint, WriteOptions, Writer
from convkit.digests import BlockDigests, combine, digest_value
from convkit.formats import get_format
from convkit.formats.orbax_reader import open_orbax
from convkit.jobs import Gather, Job
from convkit.orbax.migration.items import STATE
from convkit.orbax.migration.parts import Fate
from convkit.orbax.migration.request import Request
from convkit.receipt import json_value
from convkit.slabs import SLAB
from convkit.steps import Piece


def rewrite(
    fate: Fate, folder: Path, scratch: Path, request: Request, *, algorithm: str, threads: int
) -> dict[str, dict[str, str]]:
    """Make ``folder``, which holds the item's pytree anew; returns the digest of each leaf by storage name.

    Args:
        scratch: a folder on the same file system, that isn't there yet.

    Raises:
        ConvkitError: a leaf can't be read or written.
        OSError: the folder can't be made.
    """
    encoding = request.encoding
    with open_orbax(fate.item.path) as checkpoint:
        options = WriteOptions(
            metadata=checkpoint.metadata,
            zarr=encoding.zarr,
            ocdbt=encoding.ocdbt is not False,
            compressor=encoding.compressor,
        )
        writer = get_format(f"orbax-{request.to}").create(scratch, list(checkpoint.leaves.values()), options)
        try:
            with ThreadPoolExecutor(threads) as pool:
                tensors = [key for key, leaf in checkpoint.leaves.items() if leaf.spec]
                made = list(pool.map(lambda key: _copy(checkpoint, writer, key, algorithm), tensors))
            writer.commit()
        finally:
            writer.close()
        digests = dict(zip(tensors, made, strict=True)) | {
            key: digest_value(algorithm, json_value(leaf.value))
            for key, leaf in checkpoint.leaves.items()
            if leaf.spec is None
        }
    folder.parent.mkdir(parents=True, exist_ok=True)
    inner = scratch / STATE
    (inner if inner.is_dir() else scratch).rename(folder)
    shutil.rmtree(scratch, ignore_errors=True)
    return {key: {"digest": digest} for key, digest in digests.items()}


def _copy(checkpoint: Checkpoint, writer: Writer, key: str, algorithm: str) -> str:
    """Write one leaf; returns its digest."""
    spec: Any = checkpoint.leaves[key].spec
    gather = Gather(Job("target", key, spec, checkpoint, [Piece(key, key, (spec.size,), 0, (1,), 0, (1,))]))
    unit = writer.granularity(key)
    step = math.ceil(SLAB / (unit * spec.itemsize)) * unit
    digests = BlockDigests(algorithm)
    for start in range(0, spec.size, step):
        data = gather(start, min(spec.size, start + step))
        digests.update(data)
        writer.write(key, start, data)
    writer.finish(key)
    return combine(algorithm, digests.blocks())
