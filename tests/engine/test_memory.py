"""Memory: a conversion holds a few slabs, whatever the size of the checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from convkit.mapping import Rule
from engine.disk import write
from engine.memory import mapping_of

BOUND = 128 << 20
WIDE, HIGH = 6144, 2560

MAPPING = mapping_of(
    Rule("l.{i}.q", "l.{i}.proj_q", "(h two r) d -> (h r two) d", h=32, two=2),
    Rule("l.{i}.up", "l.{i}.down", "x y -> y x"),
    Rule("l.{i}.x.{e}", "l.{i}.experts", "e x y -> y e x"),
    Rule("moved", "kept"),
    Rule(("embed", "head"), ("E", "H"), "v d -> d v"),
)

SCRIPT = """
import sys
from pathlib import Path
from engine.disk import converted
from engine.test_memory import MAPPING
converted(Path(sys.argv[1]), Path(sys.argv[2]), MAPPING, {"format": sys.argv[3]}, threads=2)
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
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}) as process:
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
    peak = peak_of([sys.executable, "-c", SCRIPT, str(source), str(tmp_path / "right"), there])
    held = 2 * 2 * WIDE * HIGH if here == "cerebras-h5" else 0  # crosswise decoded leaves, one a thread
    assert peak <= BOUND + held, f"{peak / 2**20:.0f} MiB"
    print(f"{here} -> {there}: {peak / 2**20:.0f} MiB of anonymous memory")
