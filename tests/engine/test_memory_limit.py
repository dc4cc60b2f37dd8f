"""``--memory`` refuses, before anything is written, what would take more; and what it lets pass takes no more."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
from recorded import HERE

from convkit.cli import main
from convkit.errors import UsageError
from convkit.formats import open_checkpoint
from convkit.formats.arrays.store import file_store
from convkit.mapping import Layout, Rule
from convkit.mapping import Mapping as LayoutMapping
from convkit.plan.memory import check_memory
from engine.disk import planned, write
from engine.test_memory import peak_of

MIB = 1 << 20
BLOSC = {"id": "blosc", "cname": "lz4", "clevel": 1, "shuffle": 0}
SIZE = 96 * MIB
SIDES = [Layout(f"{name}/model", name, "t5x", "config.json", signature=({},)) for name in ("a", "b")]
MOVED = LayoutMapping(*SIDES, (Rule("target.big", "target.there"),))
TURNED = LayoutMapping(*SIDES, (Rule("target.big", "target.there", "x y -> y x"),))

SCRIPT = """
import sys
from pathlib import Path
from convkit.checkpoint import WriteOptions
from engine.disk import converted
from engine.test_memory_limit import MOVED
options = WriteOptions(compressor=sys.argv[3])
converted(Path(sys.argv[1]), Path(sys.argv[2]), MOVED, {"format": "t5x"}, threads=2, options=options)
"""


def huge(folder: Path, **fields: Any) -> Path:
    """A T5X checkpoint of one leaf, in one chunk of 96 MiB."""
    source = write(folder / "source", {"target.big": np.zeros((2, 2), np.uint8)}, {}, format="t5x")
    (source / "checkpoint").unlink()  # the folder alone says what the leaf is
    leaf = source / "target.big"
    metadata = json.loads((leaf / ".zarray").read_text()) | {"shape": [SIZE // 4096, 4096]} | fields
    metadata["chunks"] = metadata["shape"]
    for file in leaf.iterdir():
        file.unlink()
    spec = {"driver": "zarr", "kvstore": file_store(leaf), "metadata": metadata}
    part = np.random.default_rng(1).integers(0, 256, (SIZE // 4096 // 64, 4096), np.uint8)
    tensorstore.open(spec, create=True).result().write(np.tile(part, (64, 1))).result()
    return source


def refused(source: Path, mapping: LayoutMapping, limit: int, threads: int = 2) -> str:
    """What is said; empty if nothing is refused."""
    plan = planned(source, mapping, format="t5x")
    with open_checkpoint(source) as opened:
        try:
            check_memory(plan, opened, limit, threads)
        except UsageError as error:
            return str(error)
    return ""


def test_a_chunk_that_is_decoded_in_slices_passes(tmp_path: Path) -> None:
    assert not refused(huge(tmp_path), MOVED, 300 * MIB)


@pytest.mark.parametrize(
    "fields", [{"order": "F"}, {"compressor": {"id": "blosc", "cname": "lz4", "clevel": 1, "shuffle": 0}}]
)
def test_one_that_must_be_decoded_whole_is_refused(fields: dict[str, Any], tmp_path: Path) -> None:
    source = huge(tmp_path, **fields)
    said = refused(source, MOVED, 300 * MIB)
    assert "target.big" in said
    assert "--memory: converting takes about 672 MB with 2 threads, over 314 MB" in said
    assert "save the source in smaller chunks" in said
    assert "use fewer --threads" in refused(source, MOVED, 500 * MIB)
    assert not refused(source, MOVED, 700 * MIB)


def test_one_that_is_transposed_is_refused(tmp_path: Path) -> None:
    assert "target.big" in refused(huge(tmp_path), TURNED, 300 * MIB)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured through /proc")
def test_it_takes_no_more_than_it_was_allowed(tmp_path: Path) -> None:
    """The chunk is decoded and packed anew, within less memory than it has bytes beyond the overhead."""
    source = huge(tmp_path, compressor={"id": "zstd", "level": 1})
    peak = peak_of([sys.executable, "-c", SCRIPT, str(source), str(tmp_path / "out"), "gzip"])
    print(f"{peak / MIB:.0f} MiB")
    assert not refused(source, MOVED, 270 * MIB) and peak <= 270 * MIB
    with open_checkpoint(source) as one, open_checkpoint(tmp_path / "out") as other:
        assert np.array_equal(one.read("target.big"), other.read("target.there"))


@pytest.mark.parametrize("command", ["convert", "prove"])
def test_nothing_is_written_and_one_line_says_why(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(HERE / "llama_gqa" / "hf"), str(tmp_path / "out.mdl"), "--to", "cerebras/llama", "--threads", "2"]
    assert main([command, *words, "--memory", "50MB"]) == 2
    *before, error = capsys.readouterr().err.splitlines()
    assert "--memory: converting takes about 101 MB with 2 threads, over 50 MB" in error
    assert all("begins" in line for line in before)
    assert not list(tmp_path.iterdir())
