"""What a row of a table of small checkpoints costs: ``python -m benchmarks.corpora [--rows 200]``.

Generated checkpoints of several families are taken through all stages and both checks, by the real commands, with the
workflow's worker and without it. Prints JSON: seconds of the clock and CPU seconds of Snakemake and all jobs, by row.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: family and target, in turn
ROWS = (
    ("llama?kv_heads=2&tied=false", "cerebras/llama"),
    ("gpt2?", "cerebras/gpt2"),
    ("gptj?", "cerebras/gptj"),
    ("mixtral?", "cerebras/mixtral"),
    ("t5?", "cerebras/t5"),
    ("vit?", "cerebras/vit"),
)


def snakemake(folder: Path) -> tuple[float, float]:
    """Seconds of the clock and CPU seconds that the workflow takes, with all of its jobs."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "all"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(time.monotonic() - started, 1), round(cpu, 1)


def write(folder: Path, rows: int, *, worker: bool) -> None:
    """A table of as many rows, each with a seed of its own, and its config."""
    (folder / "config").mkdir(parents=True)
    lines = ["id\tsource\tto"]
    for number in range(rows):
        family, layout = ROWS[number % len(ROWS)]
        lines.append(f"row{number}\tgenerated://{family}&seed={number}\t{layout}")
    (folder / "config/checkpoints.tsv").write_text("\n".join([*lines, ""]))
    (folder / "config/config.yaml").write_text(f"results: results\nworker: {str(worker).lower()}\n")


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--plain-rows", type=int, default=20, help="rows of the table that is carried out without it")
    parser.add_argument("--work", type=Path, help="a folder for the campaigns, which are removed")
    args = parser.parse_args()
    figures: dict[str, object] = {"families": len(ROWS), "cores": os.cpu_count(), "machine": platform.platform()}
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        for name, rows, worker in (("with", args.rows, True), ("without", args.plain_rows, False)):
            folder = Path(work, name)
            write(folder, rows, worker=worker)
            seconds, cpu = snakemake(folder)
            figures[f"{name} a worker"] = {
                "rows": rows,
                "seconds": seconds,
                "CPU seconds": cpu,
                "CPU seconds a row": round(cpu / rows, 2),
                "load": os.getloadavg()[1],
            }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
