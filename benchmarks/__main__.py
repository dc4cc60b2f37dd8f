"""Conversion speed and memory as ratios within one run: ``python -m benchmarks [--pairs 5]``.

Each case alternates with two references over the same bytes, so that changes in load affect both:

- ``overwrite``: read and write into existing files (their pages are allocated), then fsync;
- ``copy``: read and write into new files, then fsync.

For compressed arrays there is one reference, ``rewrite``: tensorstore alone reads and writes the same
arrays with the same compressor (:mod:`benchmarks.rewrite`).

A conversion writes new files, digests every leaf of both sides and syncs before it publishes, so ``copy`` is the fair
reference and ``overwrite`` the harder one. Medians over the pairs; wall
time, CPU time (user and system, children included) and peak anonymous memory, polled every 10 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks import checkpoint, t5x_checkpoint
from benchmarks.cases import CASES, COMPRESSORS
from benchmarks.processes import Run, clear, timed

HERE = Path(__file__).parent
COPY = """
import os, sys
for name in sorted(os.listdir(sys.argv[1])):
    read = os.open(os.path.join(sys.argv[1], name), os.O_RDONLY)
    write = os.open(os.path.join(sys.argv[2], name), os.O_WRONLY | os.O_CREAT)
    while chunk := os.read(read, 2 << 20):
        os.write(write, chunk)
    os.fsync(write)
"""


def measure(case: str, source: Path, work: Path, pairs: int) -> dict[str, list[Run]]:
    """Runs of the two references, the conversion, and the conversion with its round trip."""
    runs: dict[str, list[Run]] = {name: [] for name in ("overwrite", "copy", "convert", "roundtrip")}
    over, new, out = work / "over", work / "new", work / ("out.mdl" if case == "mdl" else "out")
    over.mkdir(exist_ok=True)
    copy = [sys.executable, "-c", COPY, str(source)]
    timed([*copy, str(over)])
    for _ in range(pairs):
        runs["overwrite"].append(timed([*copy, str(over)]))
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        runs["copy"].append(timed([*copy, str(new)]))
        shutil.rmtree(new)
        clear(out)
        runs["convert"].append(timed([sys.executable, "-m", "benchmarks.cases", case, str(source), str(out)]))
        check = [sys.executable, "-m", "convkit", "roundtrip", str(source), str(out)]
        runs["roundtrip"].append(timed(check))
        clear(out)
    shutil.rmtree(over)
    return runs


def measure_arrays(case: str, source: Path, work: Path, pairs: int) -> dict[str, list[Run]]:
    """Runs of tensorstore alone, the conversion, and its round trip."""
    runs: dict[str, list[Run]] = {name: [] for name in ("rewrite", "convert", "roundtrip")}
    new, out = work / "new", work / "out"
    for _ in range(pairs):
        shutil.rmtree(new, ignore_errors=True)
        runs["rewrite"].append(timed([sys.executable, "-m", "benchmarks.rewrite", str(source), str(new)]))
        shutil.rmtree(new)
        clear(out)
        runs["convert"].append(timed([sys.executable, "-m", "benchmarks.cases", case, str(source), str(out)]))
        runs["roundtrip"].append(timed([sys.executable, "-m", "convkit", "roundtrip", str(source), str(out)]))
        clear(out)
    return runs


def summary(case: str, runs: dict[str, list[Run]], nbytes: int) -> dict[str, object]:
    """Medians of the ratios within each pair."""

    def ratio(to: str, what: str, *of: str) -> float:
        took = [sum(getattr(run, what) for run in some) for some in zip(*(runs[name] for name in of), strict=True)]
        pairs = zip(took, runs[to], strict=True)
        return round(statistics.median(mine / getattr(reference, what) for mine, reference in pairs), 2)

    references = [name for name in runs if name not in ("convert", "roundtrip")]
    return {
        "case": case,
        "GB": round(nbytes / 1e9, 2),
        "seconds": round(statistics.median(run.wall for run in runs["convert"]), 2),
        **{f"wall/{name}": ratio(name, "wall", "convert") for name in references},
        f"cpu/{references[-1]}": ratio(references[-1], "cpu", "convert"),
        f"with round trip/{references[0]}": ratio(references[0], "wall", "convert", "roundtrip"),
        "MiB anonymous": max(run.anonymous for run in runs["convert"]) >> 20,
        "MiB anonymous, round trip": max(run.anonymous for run in runs["roundtrip"]) >> 20,
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--layers", type=int, default=4, help="4 layers are 2.27 GB")
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--work", type=Path, help="a folder on the disk to measure (default: a temporary one)")
    args = parser.parse_args()
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="convkit-bench-", dir=args.work) as folder:
        work = Path(folder)
        rows, raw = [], {}
        for case in args.case or CASES:
            if case in COMPRESSORS:
                nbytes = t5x_checkpoint.make(work / case, COMPRESSORS[case])
                runs = measure_arrays(case, work / case, work, args.pairs)
            else:
                nbytes = checkpoint.make(work / "source", args.layers)
                runs = measure(case, work / "source", work, args.pairs)
            raw[case] = {name: [asdict(run) for run in some] for name, some in runs.items()}
            rows.append(summary(case, runs, nbytes))
            print(json.dumps(rows[-1]), flush=True)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    (HERE / "results.json").write_text(json.dumps({"machine": machine, "summary": rows, "runs": raw}, indent=1) + "\n")


if __name__ == "__main__":
    main()
