"""How long commands take on a checkpoint of 1 MB, as whole processes, beside an interpreter that only imports numpy.

    python -m benchmarks.start --pairs 9

Each command alternates with the reference; the tables have medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.checkpoint import Size, make

#: a llama of 1.08 MB in bfloat16
SMALL = Size(layers=2, hidden=128, intermediate=256, vocab=1024, heads=8, kv_heads=2)
REFERENCE = [sys.executable, "-c", "import numpy"]


def commands(work: Path) -> dict[str, list[str]]:
    """The commands, by name, in an order in which each finds what it needs."""
    source, folder, mdl = str(work / "hf"), str(work / "made"), str(work / "made.mdl")
    to = ["--to", "cerebras/llama", "--overwrite"]
    words = {
        "help": ["--help"],
        "inspect": ["inspect", source],
        "plan": ["plan", source, "--to", "cerebras/llama"],
        "convert, safetensors": ["convert", source, folder, "--format", "safetensors", *to],
        "convert, .mdl": ["convert", source, mdl, *to],
        "verify": ["verify", folder],
        "roundtrip": ["roundtrip", source, folder],
    }
    return {name: [sys.executable, "-m", "convkit", *arguments] for name, arguments in words.items()}


def figures(work: Path, pairs: int) -> dict[str, dict[str, Any]]:
    """By command: seconds of the clock and of the processor, and both beside the reference; medians of pairs."""
    make(work / "hf", SMALL)
    found = {}
    for name, command in commands(work).items():
        timed(command)  # modules are compiled
        measured = [(timed(command), timed(REFERENCE)) for _ in range(pairs)]
        found[name] = {
            "seconds": statistics.median(own[0] for own, _ in measured),
            "cpu_seconds": statistics.median(own[1] for own, _ in measured),
            "wall_ratio": statistics.median(own[0] / other[0] for own, other in measured),
            "cpu_ratio": statistics.median(own[1] / other[1] for own, other in measured),
        }
    return found


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds of the clock and of the processor of one process, with all that it started.

    Raises:
        SystemExit: it ended with an error.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)  # polling would add its own pauses
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = figures(Path(work), args.pairs)
    print(f"load {os.getloadavg()[0]:.1f}\n")
    print("| command | seconds | CPU seconds | wall / numpy | CPU / numpy |\n|---|---|---|---|---|")
    for name, one in found.items():
        values = (one["seconds"], one["cpu_seconds"], one["wall_ratio"], one["cpu_ratio"])
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |")


if __name__ == "__main__":
    main()
