"""What the workflow costs by itself: ``python -m benchmarks.campaign [--rows 1000]``.

A table of many rows is planned (``snakemake -n``), carried out and looked at again. The stages are stubs, named so:
a shell script that prints the documents which the real convkit left of one small row, so that what is measured is
Snakemake, the rules and the page. Prints JSON: seconds of the clock and CPU seconds, also of a job; bytes of the page.
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
STAGES = ("fetch", "inspect", "plan", "convert", "roundtrip", "equivalence")
#: the played command: the documents of the sample, and for everything else the real command
STUB = """\
#!/bin/sh
case $1 in
    {stages}) exec cat "{sample}/$1.json" ;;
    *) exec "{convkit}" "$@" ;;
esac
"""


def snakemake(folder: Path, path: str, *words: str) -> tuple[float, float]:
    """Seconds of the clock and CPU seconds that a run of the workflow takes, with all of its jobs."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "all", *words]
    environment = os.environ | {"PATH": path}
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(time.monotonic() - started, 1), round(cpu, 1)


def write(folder: Path, rows: int) -> None:
    """A table of as many rows, each with another source, and its config."""
    folder.mkdir()
    (folder / "config").mkdir()
    lines = [f"row{number}\tgenerated://llama?seed={number}\tcerebras/llama" for number in range(rows)]
    (folder / "config/checkpoints.tsv").write_text("\n".join(["id\tsource\tto", *lines, ""]))
    (folder / "config/config.yaml").write_text("results: results\n")


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--work", type=Path, help="a folder for the campaigns, which are removed")
    args = parser.parse_args()
    bare = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        real, stubs, many = (Path(work, name) for name in ("real", "stubs", "many"))
        write(real, 1)
        snakemake(real, bare, "reported")
        stubs.mkdir()
        convkit = Path(sys.executable).with_name("convkit")
        text = STUB.format(stages=" | ".join(STAGES), sample=real / "results/row0", convkit=convkit)
        (stubs / "convkit").write_text(text)
        (stubs / "convkit").chmod(0o755)
        write(many, args.rows)
        played = f"{stubs}{os.pathsep}{bare}"
        planned = snakemake(many, played, "reported", "--dry-run")
        ran = snakemake(many, played, "reported")
        again = snakemake(many, played, "reported")
        figures = {
            "rows": args.rows,
            "jobs": args.rows * len(STAGES) + 1,
            "stages": "stubs that print the documents of one row",
            "planned, seconds and CPU seconds": planned,
            "run, seconds and CPU seconds": ran,
            "run, seconds a job": [round(seconds / (args.rows * len(STAGES) + 1), 4) for seconds in ran],
            "nothing to do, seconds and CPU seconds": again,
            "page, bytes": (many / "results/report.html").stat().st_size,
            "cores": os.cpu_count(),
            "load": os.getloadavg()[1],
            "machine": platform.platform(),
        }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
