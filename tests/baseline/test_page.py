"""The page and its figures show what was accepted of each row, and what has moved since; a thousand rows, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_campaign import all_stages, write_campaign, write_row, write_row_of_many

from convkit.baseline.store import Store
from convkit.checkpoint import Checkpoint
from convkit.cli import main
from convkit.report import build_report

ROWS = 1000


def test_history_and_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = write_campaign(tmp_path / "results")
    assert main(["baseline", "record", "results", "good", "wrong", "--responsible", "A. <b>Reviewer</b>"]) == 0
    stages = all_stages()
    stages["convert"]["plan"]["target"]["config"]["model"]["rotary_dim"] = 5
    stages["convert"]["versions"]["numpy"] = "9.9"
    write_row(results / "good", stages=stages)
    assert main(["baseline", "accept", "results", "good", "--reason", "as the paper has it"]) == 0
    stages["convert"]["plan"]["target"]["config"]["model"]["rotary_dim"] = 6
    write_row(results / "good", stages=stages)
    page = build_report(results, baselines=Path("baselines")).read_text()
    rows = {row["id"]: row["past"] for row in json.loads((results / "summary.json").read_text())["rows"]}
    assert [one["reason"] for one in rows["good"]["accepted"]] == ["recorded for the first time", "as the paper has it"]
    assert rows["good"]["accepted"][1]["changes"] == {"config changed": 1}
    assert [one["what"] for one in rows["good"]["drift"]["drifts"]] == ["model.rotary_dim"]
    assert rows["wrong"]["drift"]["standing"] == "same"
    assert rows["blunt"]["drift"]["standing"] == "new"
    assert "as the paper has it" in page
    assert "config changed: model.rotary_dim: 5 -&gt; 6" in page
    assert "A. &lt;b&gt;Reviewer" in page
    assert "Nothing has moved since it was accepted." in page


def test_a_baseline_that_is_refused_is_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_row(tmp_path / "results" / "good", stages=all_stages())
    assert main(["baseline", "record", "results"]) == 0
    path = Path("baselines/good.json")
    path.write_text(path.read_text().replace('"verdict": "yes"', '"verdict": "no"', 1))
    assert "its seal is broken" in build_report(Path("results"), baselines=Path("baselines")).read_text()


def test_without_baselines_nothing_is_said(tmp_path: Path) -> None:
    write_row(tmp_path / "good", stages=all_stages())
    assert "Accepted before" not in build_report(tmp_path).read_text()
    assert json.loads((tmp_path / "summary.json").read_text())["rows"][0]["past"] is None


@pytest.mark.slow
def test_a_thousand_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each baseline is read once, and no checkpoint is opened."""
    monkeypatch.chdir(tmp_path)
    for number in range(ROWS):
        write_row_of_many(tmp_path / "results", number)
    recorded = main(["baseline", "record", "results", "-q"])
    stopped = sum(number % 83 == 7 for number in range(ROWS))
    assert recorded == 1  # rows without an output
    assert len([*Path("baselines").iterdir()]) > ROWS - 2 * stopped
    reads: list[str] = []
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda self, id: reads.append(id) or read(self, id))
    monkeypatch.setattr(Checkpoint, "__enter__", lambda self: pytest.fail("a checkpoint was opened"))
    capsys.readouterr()
    main(["baseline", "compare", "results", "--json", "-q"])
    found = json.loads(capsys.readouterr().out)
    assert len(found["rows"]) == ROWS
    assert {row["standing"] for row in found["rows"]} == {"same", "new"}
    assert len(reads) == len({*reads}) == len([*Path("baselines").iterdir()])
    page = build_report(Path("results"), baselines=Path("baselines"))
    assert page.stat().st_size < 40_000_000
