"""Plays the convkit command for tests of the workflow alone: writes the documents of ``sample_campaign`` at once.

A source whose seed is 13 has no plan, one whose seed is 14 gets verdicts that are no, and the equivalence of one
whose seed is 15 misses a fault.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import sample_campaign as sample

from convkit.cli import main
from convkit.files.uri import without_secrets
from convkit.report.table import row_of


def answer(command: str, words: list[str]) -> dict[str, Any]:
    """What the command would print."""
    if command == "fetch":
        uri = row_of(words[0], words[words.index("--row") + 1])["source"]
        Path(words[1]).mkdir()
        (Path(words[1]) / "uri").write_text(uri)
        return {"uri": without_secrets(uri)}
    uri = (Path(words[0]) / "uri").read_text()
    if command == "plan" and "seed=13" in uri:
        sys.exit("convkit: no rule takes this leaf")
    if command == "convert":
        Path(words[1]).mkdir(exist_ok=True)
        (Path(words[1]) / "uri").write_text(uri)
    right = "seed=14" not in uri
    return {
        "inspect": {"words": words},
        "plan": sample.plan(),
        "convert": sample.receipt(sample.plan()) | {"words": words},
        "roundtrip": sample.roundtrip(right),
        "equivalence": sample.equivalence(right, missed="cast to bfloat16" if "seed=15" in uri else ""),
    }[command]


def play() -> int:
    """The command."""
    if sys.argv[1] == "report":
        return main(sys.argv[1:])
    print(json.dumps(answer(sys.argv[1], sys.argv[2:])))
    return 0
