"""tensorstore's codecs for zarr chunks, used on bytes in memory."""

from __future__ import annotations

from typing import Any

#: a checksum of four bytes after the data, little-endian
CRC32C: dict[str, Any] = {"name": "crc32c"}


def zstd(level: int) -> dict[str, Any]:
    """One zstd frame without a checksum; level 0 is zstd's default."""
    return {"name": "zstd", "configuration": {"level": level, "checksum": False}}


def through(codec: dict[str, Any], data: bytes) -> bytes:
    """What a codec of zarr 3 makes of some bytes, at least one: the one chunk of an array that holds them."""
    import numpy as np
    import tensorstore

    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [len(data)],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [len(data)]}},
        "chunk_key_encoding": {"name": "default"},
        "codecs": [{"name": "bytes"}, codec],
        "fill_value": 0,
    }
    spec = {"driver": "zarr3", "kvstore": {"driver": "memory"}, "metadata": metadata}
    kept = {"store_data_equal_to_fill_value": True}
    # a context of its own has a memory of its own
    opened = tensorstore.open(spec | kept, open=True, create=True, context=tensorstore.Context()).result()
    opened.write(np.frombuffer(data, np.uint8)).result()
    assert opened.kvstore is not None
    return bytes(opened.kvstore.read("c/0").result().value)
