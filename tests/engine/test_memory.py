"""Memory: a conversion holds a few slabs, whatever the size of the checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from convkit.checkpoint import Leaf, TensorSpec
from convkit.mapping import Rule
from engine.disk import planned, write
from engine.memory import Memory, mapping_of, plan_of

BOUND = 128 << 20
WIDE, HIGH = 6144, 2560

MAPPING = mapping_of(
    Rule("l.{i}.q", "l.{i}.proj_q", "(h two r) d -> (h r two) d", h=32, two=2),
    Rule("l.{i}.up", "l.{i}.down", "x y -> y x"),
    Rule("l.{i}.x.{e}", "l.{i}.experts", "e x y -> y e x"),
    Rule("moved", "kept"),
    Rule(("embed", "head"), ("E", "H"), "v d -> d v"),
)

ONE = mapping_of(Rule("embed", "E", "v d -> d v"), Rule("moved", "kept"))

SCRIPT = """
import sys
from pathlib import Path
from engine.disk import converted
from engine import test_memory
mapping = getattr(test_memory, sys.argv[4])
converted(Path(sys.argv[1]), Path(sys.argv[2]), mapping, {"format": sys.argv[3]}, threads=2)
"""


def large() -> dict[str, np.ndarray]:
    """300 MB: every leaf is a view of one array of 31 MB."""
    one = np.random.default_rng(0).integers(0, 2**16, (WIDE, HIGH), np.uint16).view("float16")
    leaves = {f"l.{i}.{name}": one for i in range(2) for name in ("q", "up")}
    leaves |= {f"l.{i}.x.{e}": one[: WIDE // 4] for i in range(2) for e in range(4)}
    return leaves | {"moved": one, "embed": one, "head": one}


def peak_of(command: list[str]) -> int:
    """The largest anonymous memory of a process, looked at a thousand times a second."""
    peak = 0
    folders = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(folders)}) as process:
        while process.poll() is None:
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    peak = max(peak, int(line.split()[1]) << 10)
            time.sleep(0.001)
    assert process.returncode == 0
    return peak


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured through /proc")
@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("safetensors", "safetensors"),
        ("torch", "torch"),
        ("safetensors", "cerebras-h5"),
        ("cerebras-h5", "safetensors"),
    ],
)
def test_permuted_and_transposed_kernels_need_little_memory(tmp_path: Path, here: str, there: str) -> None:
    source = write(tmp_path / "left", large(), {}, format=here)
    peak = peak_of([sys.executable, "-c", SCRIPT, str(source), str(tmp_path / "right"), there, "MAPPING"])
    held = 2 * 2 * WIDE * HIGH if here == "cerebras-h5" else 0  # crosswise decoded leaves, one a thread
    assert peak <= BOUND + held, f"{peak / 2**20:.0f} MiB"
    assert peak <= planned(source, MAPPING).peak_bytes()
    print(f"{here} -> {there}: {peak / 2**20:.0f} MiB of anonymous memory")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured through /proc")
@pytest.mark.parametrize("there", ["safetensors", "torch", "cerebras-h5"])
def test_a_large_transposed_leaf_needs_the_memory_that_its_plan_says(tmp_path: Path, there: str) -> None:
    """Half a gigabyte, of which windows are held."""
    large = np.random.default_rng(0).integers(0, 2**15, (1 << 16, 4096), np.uint16).view("float16")
    source, size = write(tmp_path / "left", {"embed": large, "moved": large[:16]}, {}), large.nbytes
    del large  # a process that starts has the memory of this one at first
    peak = peak_of([sys.executable, "-c", SCRIPT, str(source), str(tmp_path / "right"), there, "ONE"])
    assert peak <= planned(source, ONE).peak_bytes() < size, f"{peak / 2**20:.0f} MiB"


def test_what_a_plan_says_of_memory() -> None:
    """Nothing for leaves that lie as they lay; for transposed ones what is held of them, up to a window a thread."""

    def predicted(rule: Rule, *shape: int, copies: tuple[str, ...] = ("a",)) -> int:
        checkpoint = Memory({})
        checkpoint.format = "safetensors"
        checkpoint.leaves = {name: Leaf(name, TensorSpec(shape, "uint8")) for name in copies}
        return plan_of(mapping_of(rule), checkpoint).peak_bytes()

    mib = 1 << 20
    moved, turned, stacked = Rule("a", "b"), Rule("a", "b", "x y -> y x"), Rule("a.{n}", "b", "n x y -> y x n")
    assert predicted(moved, 1 << 20, 1 << 12) == 96 * mib
    assert predicted(turned, 1 << 13, 1 << 13) == 96 * mib + 2 * 1.25 * 64 * mib
    assert predicted(stacked, 1 << 12, 1 << 13, copies=("a.0", "a.1")) == predicted(turned, 1 << 13, 1 << 13)
    assert predicted(turned, 1 << 20, 1 << 12) == predicted(turned, 1 << 14, 1 << 13) == 96 * mib + 2 * 1.25 * 128 * mib
