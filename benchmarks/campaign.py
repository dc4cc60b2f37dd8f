"""Campaigns of many rows whose stages are stubs, so that what is measured is Snakemake, the rules and the page.

A stub is a shell script that prints the documents which the real convkit left of one small row, and links its output
to where it belongs. The workflow is run with each of Snakemake's schedulers: ``greedy``, ``ilp`` (its default, a
solver), and ``ilp`` that looks at some of the jobs that are ready, ``subsample``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks.case import Case, Figure, Side, command

ROOT = Path(__file__).parent.parent
#: the search path of the real commands
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
STAGES = ("fetch", "inspect", "plan", "convert", "roundtrip", "equivalence")
#: the played command: the output and documents of the sample, and for everything else the real command
STUB = """\
#!/bin/sh
if [ "$1" = convert ]; then
    cp -rlf "{sample}"/target* "${{3%/*}}"
fi
case $1 in
    {stages}) exec cat "{sample}/$1.json" ;;
    *) exec "{convkit}" "$@" ;;
esac
"""
SCHEDULERS = {
    "greedy": ("--scheduler", "greedy"),
    "ilp": ("--scheduler", "ilp"),
    "subsample": ("--scheduler", "ilp", "--scheduler-subsample", "50"),
}


def jobs(rows: int) -> int:
    """The jobs of a campaign: its stages, and the page."""
    return rows * len(STAGES) + 1


def snakemake(folder: Path, path: str, *words: str, clears: Path | tuple[()] = ()) -> Side:
    """A run of the workflow in a folder, with the commands on a path."""
    options = ("--snakefile", ROOT / "Snakefile", "--directory", folder, "--cores", "all")
    run = (sys.executable, "-m", "snakemake", *options, *words)
    return command(*run, clears=clears, environment={"PATH": path})


def write(folder: Path, rows: int) -> None:
    """A table of as many rows, each with another source, and its config."""
    (folder / "config").mkdir(parents=True)
    lines = [f"row{number}\tgenerated://llama?seed={number}\tcerebras/llama" for number in range(rows)]
    (folder / "config/checkpoints.tsv").write_text("\n".join(["id\tsource\tto", *lines, ""]))
    # a worker would carry the stages out
    (folder / "config/config.yaml").write_text("results: results\nworker: false\n")


def stubs(work: Path) -> str:
    """Run one row by the real convkit, and make the command that plays it; returns the path to it."""
    real, folder = work / "real", work / "stubs"
    if not folder.exists():
        write(real, 1)
        snakemake(real, PATH, "reported")()
        folder.mkdir()
        convkit = Path(sys.executable).with_name("convkit")
        text = STUB.format(stages=" | ".join(STAGES), sample=real / "results/row0", convkit=convkit)
        (folder / "convkit").write_text(text)
        (folder / "convkit").chmod(0o755)
    return f"{folder}{os.pathsep}{PATH}"


def sides(work: Path, rows: int, schedulers: tuple[str, ...]) -> Iterator[Mapping[str, Side]]:
    """A plan of the jobs, a run by each scheduler, and a run with nothing to do."""
    folder, path = work / f"rows-{rows}", stubs(work)
    write(folder, rows)
    results = folder / "results"
    run = {name: snakemake(folder, path, *SCHEDULERS[name], "reported", clears=results) for name in schedulers}
    yield {
        "plan": snakemake(folder, path, *SCHEDULERS[schedulers[0]], "reported", "--dry-run", clears=results),
        **run,
        "again": snakemake(folder, path, *SCHEDULERS[schedulers[-1]], "reported"),
    }
    if len({path.read_bytes() for path in results.glob("*/convert.json")}) != 1:
        raise RuntimeError("the stages were carried out, not played")


def _case(rows: int, schedulers: tuple[str, ...], long: bool) -> Case:
    figures = [Figure(side, what=what) for side in ("plan", "again") for what in ("wall", "cpu")]
    figures += [Figure(side, what=what, per=jobs(rows)) for side in schedulers for what in ("wall", "cpu")]
    figures += [Figure(side, "ilp", what="cpu") for side in schedulers if side != "ilp" and "ilp" in schedulers]
    figures += [Figure(schedulers[0], what="anonymous")]
    return Case(
        f"campaign-{rows}",
        f"{rows:,} rows with stub stages, {jobs(rows):,} jobs",
        partial(sides, rows=rows, schedulers=schedulers),
        (*figures,),
        pairs=1 if long else 3,
        warm=False,
        packages=("snakemake",),
        long=long,
    )


CASES = (
    _case(50, ("greedy", "ilp", "subsample"), long=False),
    _case(200, ("greedy", "ilp", "subsample"), long=True),
    _case(1000, ("greedy",), long=True),
)
