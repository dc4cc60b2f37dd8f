"""What a row of a table of small checkpoints costs: generated models of six families, through all stages and checks.

The workflow is run by the real commands, with its worker and without it. What is counted is Snakemake and all jobs. The
demo is the table of the repository itself, which has real checkpoints among its rows.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks.campaign import PATH, ROOT, snakemake
from benchmarks.case import Case, Figure, Side

#: family and target, in turn
ROWS = (
    ("llama?kv_heads=2&tied=false", "cerebras/llama"),
    ("gpt2?", "cerebras/gpt2"),
    ("gptj?", "cerebras/gptj"),
    ("mixtral?", "cerebras/mixtral"),
    ("t5?", "cerebras/t5"),
    ("vit?", "cerebras/vit"),
)
#: name of a side, and the config's ``worker``
WORKER = {"worker": "true", "plain": "false"}
PACKAGES = ("snakemake", "torch", "transformers")


def write(folder: Path, rows: int, worker: str) -> None:
    """A table of as many rows, each with a seed of its own, and its config."""
    (folder / "config").mkdir(parents=True)
    lines = ["id\tsource\tto"]
    for number in range(rows):
        family, layout = ROWS[number % len(ROWS)]
        lines.append(f"row{number}\tgenerated://{family}&seed={number}\t{layout}")
    (folder / "config/checkpoints.tsv").write_text("\n".join([*lines, ""]))
    (folder / "config/config.yaml").write_text(f"results: results\nworker: {worker}\n")


def sides(work: Path, rows: int, names: tuple[str, ...]) -> Iterator[Mapping[str, Side]]:
    """A run of the workflow with its worker, and one without."""
    folders = {name: work / f"corpus-{rows}-{name}" for name in names}
    for name, folder in folders.items():
        write(folder, rows, WORKER[name])
    yield {name: snakemake(folder, PATH, clears=folder / "results") for name, folder in folders.items()}


def demo(work: Path) -> Iterator[Mapping[str, Side]]:
    """A run of the repository's own table, as ``make demo`` does it."""
    folder = work / "demo"
    shutil.copytree(ROOT / "config", folder / "config")
    yield {"demo": snakemake(folder, PATH, clears=folder / "results")}


def _case(rows: int, names: tuple[str, ...], *, pairs: int, limit: float | None = None) -> Case:
    figures = [Figure(side, per=rows) for side in names]
    figures += [Figure(side, what="cpu", per=rows, limit=limit) for side in names]
    if len(names) > 1:
        figures.append(Figure(*names, what="cpu"))
    return Case(
        f"corpus-{rows}",
        f"{rows} small generated checkpoints through all stages and checks",
        partial(sides, rows=rows, names=names),
        (*figures,),
        pairs=pairs,
        warm=False,
        packages=PACKAGES,
        long=rows > 100,
    )


CASES = (
    _case(12, ("worker", "plain"), pairs=3),
    _case(200, ("worker",), pairs=1, limit=1.5),
    Case(
        "demo",
        "the repository's own table, as make demo runs it",
        demo,
        (Figure("demo", limit=30), Figure("demo", what="cpu")),
        pairs=3,
        warm=False,
        packages=(*PACKAGES, "jax", "orbax-checkpoint"),
    ),
)
