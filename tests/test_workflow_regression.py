"""``snakemake regression``: the table is carried out, then compared with its baselines."""

from __future__ import annotations

import json
import os
import re
from importlib.metadata import version
from pathlib import Path

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


@pytest.mark.slow
def test_another_version_of_transformers(tmp_path: Path) -> None:
    """A column is the same table in an environment of its own; what moved is explained by the version that changed."""
    played = Campaign(tmp_path, os.environ["PATH"])
    (tmp_path / "older.txt").write_text("transformers==5.22.2\n")
    (tmp_path / "same.txt").write_text(f"transformers=={version('transformers')}\n")
    source = "generated://llama?layers=1"
    played.write([GOOD | {"source": source}], matrix={"older": "older.txt", "same": "same.txt"}, threads=1)
    done = played.run("matrix", "--cores", "1")
    assert done.returncode == 1, done.stderr
    report = done.stdout + done.stderr
    assert f"versions: transformers {version('transformers')} -> 5.22.2" in report
    assert "file changed: target.mdl.companions/generation_config.json" in report  # it names the version
    assert "leaf changed" not in report
    assert re.search(r"^good +plan changed, file changed +same$", report, re.MULTILINE)
    made = {path: path.stat().st_ino for path in tmp_path.glob("results/matrix/*/env")}
    again = played.run("matrix", "--cores", "1")
    assert "the environment" not in again.stdout + again.stderr
    assert {path: path.stat().st_ino for path in tmp_path.glob("results/matrix/*/env")} == made
