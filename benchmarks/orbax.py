"""Orbax migration compared with Orbax itself: ``python -m benchmarks.orbax [--gib 2] [--runs 1] [--work DIR]``.

The state is normal float32 in leaves of 32 MiB, saved by the v0 API. The reference is what a user would do without
convkit: load it and save it again by the v1 API, timed without imports. convkit's commands are timed as whole
processes, digests and receipt included; the real Orbax's own check of the result is not (it costs one load). For
reading, tensorstore alone reads every leaf, with the same number in flight.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import clear, timed

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
started = time.monotonic()
with orbax.open(Path(sys.argv[1])) as opened, ThreadPoolExecutor(2) as pool:
    list(pool.map(lambda key: opened.read(key).size, [key for key, leaf in opened.leaves.items() if leaf.spec]))
print(time.monotonic() - started)
"""
PLAIN = """
import sys, time, tensorstore as ts
from concurrent.futures import ThreadPoolExecutor
started = time.monotonic()
base = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{sys.argv[1]}/state/"}}
keys = ts.KvStore.open(base).result().list().result()
names = [key.decode().rpartition("/")[0] for key in keys if key.endswith(b"/.zarray")]
context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
def read(name):
    spec = {"driver": "zarr", "kvstore": {**base, "path": f"{name}/"}}
    return ts.open(spec, open=True, read=True, context=context).result().read().result().size
with ThreadPoolExecutor(2) as pool:
    list(pool.map(read, names))
print(time.monotonic() - started)
"""


def printed(script: str, *arguments: str) -> list[float]:
    """The seconds that a script prints."""
    ended = subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True)
    return [float(word) for word in ended.stdout.split()]


def measure(work: Path, gib: float, runs: int) -> dict[str, object]:
    """Medians, and their ratios to the reference."""
    source, target = work / "source", work / "target"
    subprocess.run([sys.executable, "-c", SAVE, str(source), str(gib)], check=True, capture_output=True)
    seconds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    anonymous: dict[str, int] = {}
    for _ in range(runs):
        wall, busy = printed(AGAIN, str(source), str(target))
        seconds.setdefault("orbax_load_save", []).append(wall)
        cpu.setdefault("orbax_load_save", []).append(busy)
        clear(target)
        for mode in ("metadata", "rewrite"):
            command = ["-m", "convkit", "orbax", "migrate", str(source), str(target), "--to", "v1", "--no-restore"]
            run = timed([sys.executable, *command, "--mode", mode])
            clear(target)
            seconds.setdefault(mode, []).append(run.wall)
            cpu.setdefault(mode, []).append(run.cpu)
            anonymous[mode] = max(run.anonymous, anonymous.get(mode, 0))
        seconds.setdefault("tensorstore_read", []).append(printed(PLAIN, str(source))[0])
        seconds.setdefault("read", []).append(printed(OURS, str(source))[0])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    busy = {name: statistics.median(values) for name, values in cpu.items()}
    return {
        "gib": gib,
        "seconds": {name: [round(value, 2) for value in values] for name, values in seconds.items()},
        "cpu_seconds": {name: [round(value, 2) for value in values] for name, values in cpu.items()},
        "peak_anonymous_mib": {name: value >> 20 for name, value in anonymous.items()},
        "ratios": {
            "metadata": medians["metadata"] / medians["orbax_load_save"],
            "rewrite": medians["rewrite"] / medians["orbax_load_save"],
            "rewrite_cpu": busy["rewrite"] / busy["orbax_load_save"],
            "read": medians["read"] / medians["tensorstore_read"],
        },
        "load": round(os.getloadavg()[0], 1),
        "bars": {"metadata": 0.05, "rewrite": 0.6, "read": 1.1, "rewrite_mib": 512},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--work", type=Path, help="default: a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        print(json.dumps(measure(Path(work), args.gib, args.runs), indent=1))


if __name__ == "__main__":
    main()
