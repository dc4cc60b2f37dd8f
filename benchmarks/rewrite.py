"""Read zarr folders and write them again with tensorstore alone: ``python -m benchmarks.rewrite SRC DST``.

Each array is copied whole, with its own chunks and compressor, as many at the same time as :data:`IN_FLIGHT` bytes
allow. tensorstore syncs each file that it writes.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
from pathlib import Path

import numpy as np
import tensorstore

IN_FLIGHT = 256 << 20


async def rewrite(source: Path, target: Path) -> None:
    """Copy every array of one folder into another one."""
    flying, room = 0, asyncio.Condition()

    async def carry(folder: Path) -> None:
        nonlocal flying
        metadata = json.loads((folder / ".zarray").read_text())
        nbytes = math.prod(metadata["shape"]) * np.dtype(metadata["dtype"]).itemsize
        async with room:
            await room.wait_for(lambda: not flying or flying + nbytes <= IN_FLIGHT)
            flying += nbytes
        read = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(folder)}}
        write = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(target / folder.name)}}
        opened = await tensorstore.open(read, open=True)
        made = await tensorstore.open({**write, "metadata": metadata}, create=True)
        await made.write(await opened.read())
        async with room:
            flying -= nbytes
            room.notify_all()

    await asyncio.gather(*(carry(path.parent) for path in sorted(source.glob("*/.zarray"))))


if __name__ == "__main__":
    asyncio.run(rewrite(*map(Path, sys.argv[1:])))
