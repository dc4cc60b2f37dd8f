"""Recorded runs of the original converter, and genuine T5X and Pax checkpoints, as arrays in memory.

A tree's leaves are read with tensorstore alone: nothing here goes through convkit's own formats.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from goldens import golden_cases, golden_dir
from once import once

from convkit.cli import main

Arrays = dict[str, np.ndarray]


def unpacked(archive: str) -> Path:
    """The folder of an archive's content: ``golden``, ``sources`` or ``t5x_testdata``."""
    return golden_dir(f"te/{archive}.tar.gz")


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


def recorded(name: str) -> Run:
    """The run of that name: ``pax/norepeat__fw2te``."""
    return _run(unpacked("golden") / name / "argv.json")


def cases(wanted: Callable[[Run], bool]) -> list[Any]:
    """The recorded runs of a kind, as parameters of a test."""
    return golden_cases("te/golden.tar.gz", lambda: filter(wanted, _runs()))


@cache
def _runs() -> tuple[Run, ...]:
    return tuple(map(_run, sorted(unpacked("golden").glob("*/*/argv.json"))))


@cache
def _run(path: Path) -> Run:
    said = json.loads(path.read_text())
    flags = tuple(flag for flag in said["argv"] if not flag.startswith(("--input-path", "--output-path")))
    folder = path.parent
    return Run(folder.parent.name, folder.name, said["converter_commit"], flags, said["returncode"] == 0, folder)


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


def there_and_back(name: str, *flags: str) -> Path:
    """A folder that holds a genuine checkpoint converted for TE, ``te``, and that one converted back, ``fw``."""
    called = "".join((name, *flags)).replace(".", "_")  # what follows a point would be taken for a suffix
    return once(called, partial(_convert_both_ways, name, flags))


def _convert_both_ways(name: str, flags: tuple[str, ...], folder: Path) -> None:
    step = next(iter(sorted((unpacked("sources") / name).iterdir())))
    source = step / "state" if (step / "state").is_dir() else step
    back = [flag for flag in flags if flag.startswith(("--kernel", "--t5x-fuse"))]
    ways = (source, "te", "fw2te", flags), (folder / "te", "fw", "te2fw", back)
    for path, target, direction, said in ways:
        paths = f"--input-path={path}", f"--output-path={folder / target}"
        assert main(["te", *paths, f"--fw={name.partition('_')[0]}", f"--direction={direction}", *said]) == 0


def forward(name: str) -> dict[str, np.ndarray]:
    """The framework's own inputs and logits."""
    with np.load(unpacked("sources") / f"{name}_forward.npz") as opened:
        return dict(opened)


def write_leaf(folder: Path, array: np.ndarray) -> None:
    """Other elements for a zarr leaf that is there."""
    import tensorstore as ts

    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    ts.open(spec, open=True).result().write(array).result()
