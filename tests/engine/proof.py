"""A mapping proven on disk: converted, undone by the verifier, and converted back."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from convkit.config.tree import merge
from convkit.files.receipt import read_receipt
from convkit.mapping import Mapping, inverse
from convkit.plan import open_source
from convkit.verify.roundtrip import roundtrip
from convkit.verify.verdict import Verdict
from engine.disk import converted, read, write
from engine.memory import Arrays, assert_same


def judged(source: Path, target: Path) -> Verdict:
    """The round trip of a conversion, with every planted fault caught."""
    receipt = read_receipt(target)
    assert receipt is not None
    verdict = roundtrip(source, target, receipt["plan"], receipt=receipt)
    assert verdict.passed, verdict.problems
    assert all(fault.caught for fault in verdict.faults)
    assert verdict.measured["leaves_failing"] == 0
    return verdict


def proven(folder: Path, mapping: Mapping, left: Arrays, config: dict[str, Any] | None = None) -> Arrays:
    """What a mapping makes of a checkpoint on disk; both ways are undone, and the source comes back bit by bit."""
    folder.mkdir(exist_ok=True)
    source = write(folder / "left", left, config or {})
    converted(source, folder / "right", mapping)
    assert judged(source, folder / "right").faults
    converted(folder / "right", folder / "back", inverse(mapping))
    judged(folder / "right", folder / "back")
    assert_same(read(folder / "back"), left)
    with open_source(folder / "back") as back:
        filled = deepcopy(config or {})
        merge(filled, back.config or {})
        assert filled == (back.config or {}), "a field of the config is lost, or another"
    return read(folder / "right")
