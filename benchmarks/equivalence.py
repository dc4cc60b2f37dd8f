"""Equivalence against plain forward passes: ``python -m benchmarks.equivalence [--size 0.43b|7b] [--pairs 3]``.

A bfloat16 llama is generated and taken through the stages of a campaign, each a process of its own: fetched in place,
inspected, planned, converted to ``.mdl``, converted back and compared, and proved. The proof alternates with what it
is measured against, the same input through transformers alone (:mod:`benchmarks.forward`):

- ``streamed``: one forward pass of the source, a layer in memory at a time;
- ``whole``: the source, and the target converted back, both loaded whole in float32 and compared.

Seconds and CPU seconds are medians, memory is the worst of all runs: the anonymous memory of a command and of all that
it started, together, polled every 10 ms. Ratios are medians of those within a pair.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.processes import Run, median_ratio, timed


@dataclass(frozen=True)
class Size:
    """A model's options, and whether two of it fit in memory in float32."""

    options: str
    whole: bool = False


SIZES = {
    "0.43b": Size("layers=24&hidden=1024&heads=16&kv_heads=4&intermediate=4096&vocab=32000", whole=True),
    "7b": Size("layers=32&hidden=4096&heads=32&kv_heads=32&intermediate=11008&vocab=32000&shard_size=5GB"),
    "tiny": Size("layers=2", whole=True),
}
#: what issue and README call the limits: of the proof's seconds, to those of ``streamed``, and of each stage's MiB
BARS = {"0.43b": {"wall / streamed": 8, "MiB": 900}, "7b": {"wall / streamed": 8, "MiB": 3584}}
CONVKIT = (sys.executable, "-m", "convkit")
FORWARD = (sys.executable, "-m", "benchmarks.forward")


def campaign(size: Size, work: Path) -> dict[str, list[Run]]:
    """The stages before the proof, each run once; they leave ``source``, ``target.mdl``, and ``back`` for ``whole``."""
    made, source, target = (str(work / name) for name in ("made", "source", "target.mdl"))
    stages = {
        "generate": ("fetch", f"generated://llama?dtype=bfloat16&{size.options}", made),
        "fetch": ("fetch", f"file://{made}", source, "--link"),
        "inspect": ("inspect", source),
        "plan": ("plan", source, "--to", "cerebras/llama"),
        "convert": ("convert", source, target, "--to", "cerebras/llama"),
        "roundtrip": ("roundtrip", source, target),
    }
    runs = {name: [timed([*CONVKIT, *words], work / f"{name}.txt")] for name, words in stages.items()}
    if size.whole:
        timed([*CONVKIT, "convert", target, str(work / "back"), "--to", "hf/llama"], work / "back.txt")
    return runs


def proof(size: Size, work: Path, pairs: int, options: list[str]) -> dict[str, list[Run]]:
    """Runs of equivalence, and of what it is measured against."""
    source, target, back = (str(work / name) for name in ("source", "target.mdl", "back"))
    commands = {
        "streamed": [*FORWARD, "streamed", source],
        "equivalence": [*CONVKIT, "equivalence", source, target, "--json", "--no-fail", *options],
        **({"whole": [*FORWARD, "whole", source, back]} if size.whole else {}),
    }
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(pairs):
        for name, command in commands.items():
            runs[name].append(timed(command, work / f"{name}.txt"))
    return runs


def row(runs: list[Run], references: list[Run] | None = None) -> dict[str, float]:
    """The figures of one stage, and its ratios to a reference."""
    ratios = (
        {f"{what} / streamed": median_ratio(what, runs, references) for what in ("wall", "cpu")} if references else {}
    )
    return {
        "seconds": round(statistics.median(run.wall for run in runs), 1),
        "CPU seconds": round(statistics.median(run.cpu for run in runs), 1),
        "MiB": max(run.anonymous for run in runs) >> 20,
        **ratios,
    }


def measure(name: str, work: Path, pairs: int, options: list[str]) -> dict[str, object]:
    """All figures of one size."""
    size = SIZES[name]
    before = campaign(size, work)
    proved = proof(size, work, pairs, options)
    verdict = json.loads((work / "equivalence.txt").read_text())
    return {
        "size": name,
        "bytes": sum(path.stat().st_size for path in (work / "source").glob("*.safetensors")),
        "stages": {name: row(runs) for name, runs in before.items()},
        "proof": {name: row(runs, proved["streamed"]) for name, runs in proved.items()},
        "verdict": {
            "state": verdict["state"],
            "measured": verdict["measured"],
            "bound": verdict["bound"],
            "caught": f"{sum(fault['caught'] for fault in verdict['faults'])} of {len(verdict['faults'])}",
        },
        "bars": BARS.get(name, {}),
        "pairs": pairs,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "runs": {stage: [asdict(run) for run in runs] for stage, runs in {**before, **proved}.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="0.43b")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--work", type=Path, help="a folder on the disk to measure (default: a temporary one)")
    parser.add_argument("options", nargs="*", help="of convkit equivalence, after --")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="convkit-bench-", dir=args.work) as folder:
        print(json.dumps(measure(args.size, Path(folder), args.pairs, args.options), indent=1))


if __name__ == "__main__":
    main()
