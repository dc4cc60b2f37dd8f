"""``snakemake regression``: the table is carried out, then compared with its baselines."""

from __future__ import annotations

import json

import pytest
from campaigns import GOOD, WRONG, Campaign

from convkit.cli import main


def test_recorded_compared_drifted(played: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unchanged rows aren't run again; what isn't proved is compared as what is."""
    monkeypatch.chdir(played.directory)
    played.write([GOOD, WRONG])
    first = played.run("regression")
    assert first.returncode == 1
    assert "2 rows: 2 new" in first.stdout + first.stderr
    assert main(["baseline", "record", "results", "-q"]) == 0

    calls = played.directory / "words.jsonl"
    calls.unlink()
    second = played.run("regression")
    assert second.returncode == 0, second.stderr
    assert "results against baselines: 2 rows: 2 same" in second.stdout
    assert {json.loads(line)[0] for line in calls.read_text().splitlines()} == {"report", "baseline"}
    assert [row["past"]["drift"]["standing"] for row in played.document("summary.json")["rows"]] == ["same", "same"]

    path = played.directory / "results" / "good" / "equivalence.json"
    verdict = json.loads(path.read_text())
    verdict["faults"][0]["caught"] = False
    path.write_text(json.dumps(verdict))
    third = played.run("regression")
    assert third.returncode == 1
    assert "fault not caught: equivalence, q and k swapped: caught -> missed" in third.stdout + third.stderr
