"""Runs a case: rounds of its sides in turn, and what is told of them."""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.case import Case, Figure
from benchmarks.machine import QUIET, Others, versions
from benchmarks.processes import Run
from convkit import __version__
from convkit.version import commit

#: GB of the disk that are left free
SPARE = 4
#: what is recorded with every case
ALWAYS = ("numpy",)


def hindrance(case: Case, work: Path) -> str:
    """Why a case can't run here; "" if it can."""
    if lacking := [name for name in case.packages if name not in versions(case.packages)]:
        return f"needs {', '.join(lacking)}"
    free = shutil.disk_usage(work).free / 1e9
    if case.disk + SPARE > free:
        return f"needs {case.disk:g} GB of disk and {SPARE} to spare, {free:.0f} are free"
    return case.missing()


def measure(case: Case, work: Path, pairs: int | None = None) -> dict[str, Any]:
    """Run a case; returns its entry in the results."""
    before = os.getloadavg()[0]
    with contextmanager(case.sides)(work) as sides:
        if case.warm:
            for side in sides.values():
                side()
        runs: dict[str, list[Run]] = {name: [] for name in sides}
        others = Others()
        for _ in range(pairs or case.pairs):
            for name, side in sides.items():
                runs[name].append(side())
        busy = others.cores()
    return {
        "about": case.about,
        **({} if case.at is None else {"at": case.at, "unit": case.unit}),
        **({"peers": dict(case.peers)} if case.peers else {}),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "commit": commit(),
        "versions": {"convkit": __version__, **versions((*ALWAYS, *case.packages)), **case.versions()},
        "rounds": pairs or case.pairs,
        "load": [round(before, 2), round(os.getloadavg()[0], 2)],
        "cores_of_others": round(busy, 2),
        "quiet": busy <= QUIET,
        "sides": {name: _listed(some) for name, some in runs.items()},
        "figures": {figure.name: told(figure, runs) for figure in case.figures},
    }


def told(figure: Figure, runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """The median of a figure, and its spread: the distance of the quartiles."""
    values = figure.values(runs)
    spread = 0.0
    if len(values) > 1:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        spread = high - low
    return {
        "median": _rounded(statistics.median(values)),
        "spread": _rounded(spread),
        "compared": figure.compared,
        **({} if figure.limit is None else {"limit": figure.limit}),
    }


def _listed(runs: Sequence[Run]) -> dict[str, list[float]]:
    return {
        "wall": [_rounded(run.wall) for run in runs],
        "cpu": [_rounded(run.cpu) for run in runs],
        "MiB": [_rounded(run.anonymous / (1 << 20)) for run in runs],
    }


def _rounded(value: float) -> float:
    """Four digits: more are noise."""
    return float(f"{value:.4g}")
