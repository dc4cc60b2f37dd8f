"""How long commands take on a checkpoint of 1 MB, as whole processes, beside an interpreter that only imports numpy."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.case import Case, Figure, Side
from benchmarks.checkpoint import Size, make
from benchmarks.processes import Run, as_installed

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


def sides(work: Path) -> Iterator[Mapping[str, Side]]:
    """The reference, and each command."""
    make(work / "hf", SMALL)
    yield {name: _side(command) for name, command in {"numpy": REFERENCE, **commands(work)}.items()}


def _side(command: list[str]) -> Side:
    return lambda: timed(command)


def timed(command: list[str]) -> Run:
    """One process, with all that it started; its memory isn't measured.

    Raises:
        SystemExit: it ended with an error.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=as_installed())
    _, status, usage = os.wait4(process.pid, 0)  # polling would add its own pauses
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, 0)


#: goals in seconds
LIMITS = dict.fromkeys(("inspect", "plan", "convert, safetensors", "verify"), 0.2) | {"convert, .mdl": 0.25}
NAMES = tuple(commands(Path()))

CASES = (
    Case(
        "start",
        "1 MB of llama: whole commands, beside an interpreter that only imports numpy",
        sides,
        (
            *(Figure(name, limit=LIMITS.get(name)) for name in NAMES),
            *(Figure(name, "numpy", what=what) for name in NAMES for what in ("wall", "cpu")),
        ),
        pairs=9,
    ),
)
