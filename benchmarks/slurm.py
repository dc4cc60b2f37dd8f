"""Slurm: what a job costs, and a conversion in parts on two nodes beside one on one node.

A real Slurm of two nodes is started on this machine (tests/slurm/cluster.sh): as root, where its daemons are
installed. Both nodes share the machine's cores and disk, so that two nodes can't be faster here than one: the ratio
shows what parts cost. Memory and CPU seconds of jobs belong to Slurm's daemons and aren't measured.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import ModuleType

from benchmarks import campaign, checkpoint
from benchmarks.case import CONVKIT, Case, Figure, Side, command

ROOT = Path(__file__).parent.parent
ROWS = 16
#: what a site without accounts adds to the workflow's profile
SITE = """\
slurm-init-seconds-before-status-checks: 2
latency-wait: 20
slurm-no-account: true
slurm-status-command: squeue
"""
IN_PARTS = """
set -e
srun --exact -N1 -n1 -w n1 {convert} --part 1/2 & first=$!
srun --exact -N1 -n1 -w n2 {convert} --part 2/2
wait $first
srun -N1 -n1 -w n1 {convert} --finish
"""


def _cluster() -> ModuleType:
    """The module of the tests that starts the cluster."""
    spec = importlib.util.spec_from_file_location("slurm_cluster", ROOT / "tests/slurm/cluster.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _started(work: Path) -> closing:
    folder = work / "cluster"
    folder.mkdir()
    cluster = _cluster().Cluster(folder, accounting=False)
    cluster.close = cluster.end
    return closing(cluster)


def of_jobs(work: Path) -> Iterator[Mapping[str, Side]]:
    """The same rows of stub stages, on this machine and by Slurm."""
    folder, path = work / "rows", campaign.stubs(work)
    campaign.write(folder, ROWS)
    results, site = folder / "results", folder / "site"
    site.mkdir()
    (site / "config.yaml").write_text(SITE)
    with _started(work) as cluster:
        options = ("--snakefile", ROOT / "Snakefile", "--directory", folder, "--scheduler", "greedy")
        profiles = (f"--profile={site}", f"--workflow-profile={ROOT}/profiles/slurm")
        run = (*cluster.inside(folder), sys.executable, "-m", "snakemake", *options, *profiles, "reported")
        yield {
            "local": campaign.snakemake(folder, path, "--scheduler", "greedy", "reported", clears=results),
            "slurm": command(*run, clears=results, environment={"PATH": path}),
        }


def of_parts(work: Path) -> Iterator[Mapping[str, Side]]:
    """A conversion as one job of one node, and in two parts on two nodes."""
    source, out = work / "source", work / "out"
    checkpoint.make(source)
    convert = " ".join(
        [*CONVKIT, "convert", f"'{source}'", f"'{out}'", "--to", "cerebras/llama", "--format", "safetensors"]
    )
    with _started(work) as cluster:
        inside = cluster.inside(work)
        yield {
            "one node": command(*inside, "sh", "-c", f"srun -N1 -n1 -w n1 {convert}", clears=out),
            "two nodes": command(*inside, "sh", "-c", IN_PARTS.format(convert=convert), clears=out),
        }


def _missing() -> str:
    lacking = ", ".join(_cluster().missing(accounting=False))
    return f"needs a machine with Slurm: {lacking} missing" if lacking else ""


CASES = (
    Case(
        "slurm-jobs",
        f"{ROWS} rows with stub stages, on this machine and on a Slurm of two nodes",
        of_jobs,
        (
            *(Figure(side, per=campaign.jobs(ROWS)) for side in ("local", "slurm")),
            Figure("slurm", per=ROWS),
            Figure("slurm", "local"),
        ),
        warm=False,
        packages=("snakemake", "snakemake-executor-plugin-slurm"),
        missing=_missing,
        long=True,
    ),
    Case(
        "slurm-parts",
        "2.27 GB of llama as one job of one node, and in two parts on two nodes that share a machine",
        of_parts,
        (Figure("one node"), Figure("two nodes"), Figure("two nodes", "one node")),
        disk=6,
        missing=_missing,
        long=True,
    ),
)
