"""``.mdl`` files whose tensors are packed in chunks, as cerebras.pytorch writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin


def pack(path: Path, chunks: Mapping[str, tuple[int, ...]] | None = None, **options: Any) -> Path:
    """Store each tensor of a file anew, in chunks of these shapes or of HDF5's choice, by LZ4 or as named."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for name in names:
            dataset = file[name]
            if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
                continue
            data, kept = dataset[...], dict(dataset.attrs)
            del file[name]
            how = options or dict(hdf5plugin.LZ4())
            file.create_dataset(name, data=data, chunks=(chunks or {}).get(name, True), **how).attrs.update(kept)
    return path
