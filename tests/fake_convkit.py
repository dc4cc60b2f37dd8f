"""Plays the convkit command for tests of the workflow alone: writes the documents of ``sample_campaign`` at once.

The words of each call are added to ``words.jsonl``. A source on the web is fetched by the real command.
A source whose seed is 13 has no plan, one whose seed is 14 gets verdicts that are no, and the equivalence of one
whose seed is 15 misses a fault.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import sample_campaign as sample

from convkit.cli import main
from convkit.fetch import seen_now
from convkit.files.uri import without_secrets
from convkit.report.table import row_of
from convkit.verify.documents import Described, read_plan
from convkit.verify.equivalence.need import foreseen


def answer(command: str, words: list[str]) -> dict[str, Any]:
    """What the command would print."""
    seed = Path(words[0]).with_name("seed") if command != "fetch" else Path(words[1]).with_name("seed")
    if command == "fetch":
        uri = row_of(words[0], words[words.index("--row") + 1])["source"]
        Path(words[1]).mkdir(exist_ok=True)
        seed.write_text("".join(re.findall(r"seed=\d+", uri)))
        return {"uri": without_secrets(uri), "seen": seen_now(uri, Path("none"))}
    known = seed.read_text()
    if command == "plan" and known == "seed=13":
        print("convkit: no rule takes this leaf", file=sys.stderr)
        return {"schema": "convkit.error/1", "error": "no rule takes this leaf"}
    made = sample.receipt(sample.plan())
    if command == "convert":
        made["target"] |= {"path": Path(words[1]).name, "files": []}
        Path(words[1]).mkdir(parents=True, exist_ok=True)
        Path(words[1]).with_name("seed").write_text(known)
    right = known != "seed=14"
    return {
        "inspect": {"words": words},
        "plan": sample.plan() | {"equivalence": foreseen(read_plan(Described, sample.plan()))},
        "convert": made | {"words": words},
        "roundtrip": sample.roundtrip(right),
        "equivalence": sample.equivalence(right, missed="cast to bfloat16" if known == "seed=15" else ""),
    }[command]


def play() -> int:
    """The command, which isn't a worker."""
    if sys.argv[1] == "--stand-by":
        return 2
    with Path("words.jsonl").open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    _, command, *words = sys.argv
    if command == "fetch" and row_of(words[0], words[words.index("--row") + 1])["source"].startswith("http"):
        Path(words[1]).with_name("seed").write_text("")
        return main([command, *words, "--retries", "0"])
    if command in ("report", "baseline"):
        return main([command, *words])
    answered = answer(command, words)
    print(json.dumps(answered))
    return 3 if answered.get("schema") == "convkit.error/1" else 0
