"""Equivalence beside plain forward passes, and the other stages of a campaign.

A bfloat16 llama is generated and taken through the stages, each a process of its own: fetched in place, inspected,
planned, converted to ``.mdl``, converted back and compared, and proved. The proof alternates with what it is measured
against, the same input through transformers alone (:mod:`benchmarks.forward`):

- ``streamed``: one forward pass of the source, a layer in memory at a time;
- ``whole``: the source, and the target converted back, both loaded whole in float32 and compared.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.case import CONVKIT, Case, Figure, Side, command


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
FORWARD = (sys.executable, "-m", "benchmarks.forward")
TO = ("--to", "cerebras/llama")


def stages(work: Path, size: Size) -> Iterator[Mapping[str, Side]]:
    """Every stage before the proof, in the order of a campaign."""
    made, source, target = (work / name for name in ("made", "source", "target.mdl"))
    uri = f"generated://llama?dtype=bfloat16&{size.options}"
    yield {
        "generate": command(*CONVKIT, "fetch", uri, made, clears=(made, source, target)),
        "fetch": command(*CONVKIT, "fetch", f"file://{made}", source, "--link"),
        "inspect": command(*CONVKIT, "inspect", source),
        "plan": command(*CONVKIT, "plan", source, *TO),
        "convert": command(*CONVKIT, "convert", source, target, *TO),
        "roundtrip": command(*CONVKIT, "roundtrip", source, target),
    }


def proof(work: Path, size: Size) -> Iterator[Mapping[str, Side]]:
    """Equivalence, which must say yes, and what it is measured against."""
    source, target, back = (work / name for name in ("source", "target.mdl", "back"))
    uri = f"generated://llama?dtype=bfloat16&{size.options}"
    command(*CONVKIT, "fetch", uri, source, clears=source)()
    command(*CONVKIT, "convert", source, target, *TO, clears=target)()
    sides = {
        "streamed": command(*FORWARD, "streamed", source),
        "equivalence": command(*CONVKIT, "equivalence", source, target),
    }
    if size.whole:
        command(*CONVKIT, "convert", target, back, "--to", "hf/llama", clears=back)()
        sides["whole"] = command(*FORWARD, "whole", source, back)
    yield sides


STAGES = ("generate", "fetch", "inspect", "plan", "convert", "roundtrip")


def cases(name: str, memory: int, disk: float, long: bool = False) -> tuple[Case, Case]:
    """The stages and the proof of one size: ``memory`` is the goal in MiB, of each."""
    size, packages = SIZES[name], ("torch", "transformers")
    figures = [Figure(side, what=what) for side in STAGES for what in ("wall", "cpu")]
    figures += [Figure(side, what="anonymous", limit=memory) for side in STAGES]
    run = {"disk": disk, "packages": packages, "long": long, "pairs": 1 if long else 5, "warm": not long}
    sides = ("streamed", "equivalence", *(("whole",) if size.whole else ()))
    proved = [Figure(side, what=what) for side in sides for what in ("wall", "cpu")]
    limits = {"equivalence": memory}
    proved += [Figure(side, what="anonymous", limit=limits.get(side)) for side in sides]
    proved += [Figure("equivalence", "streamed", limit=8), Figure("equivalence", "streamed", what="cpu")]
    proved += [Figure("equivalence", "whole", what=what) for what in ("wall", "cpu") if size.whole]
    return (
        Case(f"stages-{name}", f"{name} parameters of llama, to .mdl", partial(stages, size=size), (*figures,), **run),
        Case(
            f"equivalence-{name}",
            f"{name} parameters of llama and their .mdl, proved equivalent with every fault planted",
            partial(proof, size=size),
            (*proved,),
            **run,
            peers={side: "equivalence" for side in sides if side == "whole"},
        ),
    )


CASES = (*cases("0.43b", memory=900, disk=5), *cases("7b", memory=3584, disk=45, long=True))
