"""Orbax migration beside Orbax itself.

The state is normal float32 in leaves of 32 MiB, saved by the v0 API. The reference is what a user would do without
convkit: load it and save it again by the v1 API, timed without imports. convkit's commands are timed as whole
processes, digests and receipt included; the real Orbax's own check of the result is not (it costs one load). For
reading, tensorstore alone reads every leaf, with the same number in flight.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks.case import CONVKIT, Case, Figure, Side, command
from benchmarks.processes import Run, clear

SAVE = """
import sys, numpy as np, orbax.checkpoint as ocp
rng = np.random.default_rng(0)
leaves = int(float(sys.argv[2]) * 32)
normal = lambda *shape: rng.standard_normal(shape, np.float32)
tree = {f"layer_{i}": {"kernel": normal(2048, 4096), "bias": normal(4096)} for i in range(leaves)}
with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
    checkpointer.save(sys.argv[1], ocp.args.Composite(state=ocp.args.StandardSave(tree)))
"""
AGAIN = """
import sys, time, jax, orbax.checkpoint.experimental.v1 as ocp
started, cpu = time.monotonic(), time.process_time()
ocp.save(sys.argv[2], ocp.load(sys.argv[1]))
print(time.monotonic() - started, time.process_time() - cpu)
"""
OURS = """
import sys, time, tensorstore
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from convkit.formats import get_format
orbax = get_format("orbax-v0")
started, cpu = time.monotonic(), time.process_time()
with orbax.open(Path(sys.argv[1])) as opened, ThreadPoolExecutor(2) as pool:
    list(pool.map(lambda key: opened.read(key).size, [key for key, leaf in opened.leaves.items() if leaf.spec]))
print(time.monotonic() - started, time.process_time() - cpu)
"""
PLAIN = """
import sys, time, tensorstore as ts
from concurrent.futures import ThreadPoolExecutor
started, cpu = time.monotonic(), time.process_time()
base = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{sys.argv[1]}/state/"}}
keys = ts.KvStore.open(base).result().list().result()
names = [key.decode().rpartition("/")[0] for key in keys if key.endswith(b"/.zarray")]
context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
def read(name):
    spec = {"driver": "zarr", "kvstore": {**base, "path": f"{name}/"}}
    return ts.open(spec, open=True, read=True, context=context).result().read().result().size
with ThreadPoolExecutor(2) as pool:
    list(pool.map(read, names))
print(time.monotonic() - started, time.process_time() - cpu)
"""


def inside(script: str, *arguments: Path, clears: Path | None = None) -> Side:
    """A side that prints its own seconds and CPU seconds, without imports; its memory isn't measured."""

    def run() -> Run:
        if clears:
            clear(clears)
        words = [sys.executable, "-c", script, *map(str, arguments)]
        ended = subprocess.run(words, check=True, capture_output=True, text=True)
        wall, cpu = map(float, ended.stdout.split())
        return Run(wall, cpu, 0)

    return run


def sides(work: Path, gib: float) -> Iterator[Mapping[str, Side]]:
    """Orbax and convkit's two modes; tensorstore and our reading."""
    source, target = work / "source", work / "target"
    command(sys.executable, "-c", SAVE, source, str(gib))()
    migrate = (*CONVKIT, "orbax", "migrate", source, target, "--to", "v1", "--no-restore", "--mode")
    yield {
        "orbax": inside(AGAIN, source, target, clears=target),
        "metadata": command(*migrate, "metadata", clears=target),
        "rewrite": command(*migrate, "rewrite", clears=target),
        "tensorstore": inside(PLAIN, source),
        "read": inside(OURS, source),
    }


CASES = (
    Case(
        "orbax",
        "2 GiB of float32 in Orbax v0, migrated to v1; and every leaf read",
        partial(sides, gib=2),
        (
            Figure("metadata"),
            Figure("rewrite"),
            Figure("metadata", "orbax", limit=0.03),
            Figure("rewrite", "orbax", limit=0.45),
            Figure("rewrite", "orbax", what="cpu"),
            Figure("read", "tensorstore", limit=1.1),
            Figure("metadata", what="anonymous"),
            Figure("rewrite", what="anonymous", limit=256),
        ),
        disk=7,
        packages=("orbax-checkpoint", "jax", "tensorstore"),
        peers={"orbax": "rewrite", "tensorstore": "read"},
    ),
)
