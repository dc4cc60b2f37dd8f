"""Recorded runs of the original converter, and genuine T5X and Pax checkpoints, as arrays in memory.

A tree's leaves are read with tensorstore alone: nothing here goes through convkit's own formats.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from goldens import golden_archive

Arrays = dict[str, np.ndarray]


@cache
def _scratch() -> TemporaryDirectory:
    return TemporaryDirectory(prefix="convkit-te-")


def there(archive: str) -> bool:
    """Whether an archive is there: said when tests are collected, where none may skip."""
    try:
        return golden_archive(f"te/{archive}.tar.gz").is_file()
    except pytest.skip.Exception:
        return False


@cache
def unpacked(archive: str) -> Path:
    """The folder of an archive's content: ``golden``, ``sources`` or ``t5x_testdata``."""
    source = golden_archive(f"te/{archive}.tar.gz")
    folder = Path(_scratch().name) / archive
    with tarfile.open(source) as opened:
        opened.extractall(folder, filter="data")
    return folder


@dataclass(frozen=True)
class Run:
    """One run: ``fused__fw2te``, its flags, whether the original converted."""

    fw: str
    name: str
    commit: str
    flags: tuple[str, ...]
    converted: bool
    folder: Path

    @property
    def variant(self) -> str:
        return self.name.rpartition("__")[0]

    @property
    def to_te(self) -> bool:
        return self.name.endswith("fw2te")

    def source(self) -> Arrays:
        return arrays(self.folder / "src")

    def result(self) -> Arrays:
        return arrays(self.folder / "dst")

    def value(self, flag: str) -> str | None:
        return next((text.partition("=")[2] for text in self.flags if text.startswith(f"{flag}=")), None)

    def __str__(self) -> str:
        return f"{self.fw}/{self.name}"


@cache
def runs() -> tuple[Run, ...]:
    """Every recorded run; none where the archive isn't."""
    found = []
    for path in sorted(unpacked("golden").glob("*/*/argv.json")) if there("golden") else ():
        said = json.loads(path.read_text())
        flags = tuple(flag for flag in said["argv"] if not flag.startswith(("--input-path", "--output-path")))
        folder = path.parent
        found.append(
            Run(folder.parent.name, folder.name, said["converter_commit"], flags, said["returncode"] == 0, folder)
        )
    return tuple(found)


@cache
def arrays(folder: Path) -> Arrays:
    """Every zarr leaf of a folder, by its name; read-only."""
    import tensorstore as ts

    paths = sorted(path.parent for path in folder.glob("*/.zarray"))
    context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
    spec: dict[str, Any] = {"driver": "zarr"}
    opened = [
        ts.open({**spec, "kvstore": {"driver": "file", "path": f"{path}/"}}, open=True, context=context)
        for path in paths
    ]
    reads = [future.result().read() for future in opened]
    return {path.name: np.array(read.result()) for path, read in zip(paths, reads, strict=True)}


def genuine(name: str) -> Arrays:
    """The leaves of a checkpoint that T5X or Paxml wrote."""
    step = next(iter(sorted((unpacked("sources") / name).iterdir())))
    return arrays(step / "state" if (step / "state").is_dir() else step)


def forward(name: str) -> dict[str, np.ndarray]:
    """The framework's own inputs and logits."""
    with np.load(unpacked("sources") / f"{name}_forward.npz") as opened:
        return dict(opened)


def write_leaf(folder: Path, array: np.ndarray) -> None:
    """Other elements for a zarr leaf that is there."""
    import tensorstore as ts

    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    ts.open(spec, open=True).result().write(array).result()
