"""Where a row's output goes, and whether its source stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from campaigns import BACK, GOOD, WRONG, Campaign
from test_workflow_table import refused
from test_workflow_words import read_rules


def placed(row: dict[str, str], target: str = "", keep: str = "") -> dict[str, str]:
    return row | {"target": target, "keep": keep}


def test_an_output_goes_where_the_table_says(played: Campaign):
    played.write([placed(GOOD, "out here/good.mdl"), placed(BACK)])
    assert played.run().returncode == 0
    assert (played.directory / "out here/good.mdl").is_dir()
    assert not (played.directory / "results/good/target.mdl").exists()
    assert played.document("back/inspect.json")["words"][0] == "out here/good.mdl"
    assert not played.jobs()
    (played.directory / "out here/good.mdl").rmdir()
    assert {"good: convert", "good: round trip"} <= played.jobs()
    played.write([placed(GOOD, "elsewhere.mdl"), placed(BACK)])
    assert "good: convert" in played.jobs()
    assert (played.directory / "elsewhere.mdl").is_dir()


def test_a_source_that_is_not_kept_is_removed_once_all_is_proved(played: Campaign):
    played.write([placed(GOOD, keep="no"), placed(WRONG, keep="no"), placed(BACK, keep="yes")])
    assert played.run().returncode == 1
    results = played.directory / "results"
    assert not (results / "good/source").exists()
    assert (results / "good/forgotten.txt").read_text() == "removed: results/good/source\n"
    assert (results / "wrong/source").exists()
    assert (results / "wrong/forgotten.txt").read_text() == "kept: results/wrong/roundtrip.json isn't a proof\n"
    played.write([placed(GOOD, keep="no"), placed(BACK, keep="yes")])
    assert played.run().returncode == 0
    assert not played.jobs()
    played.write([placed(GOOD | {"options": "--release 2.8"}, keep="no"), placed(BACK, keep="yes")])
    assert {"good: fetch", "good: convert", "good: forget the source"} <= played.jobs()
    assert not (results / "good/source").exists()
    calls = [json.loads(line) for line in (played.directory / "words.jsonl").read_text().splitlines()]
    assert [call[4] for call in calls if call[0] == "fetch"].count("good") == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (placed(GOOD, "out/good"), "column target: 'out/good': the output is a file, whose name ends with .mdl"),
        (placed(BACK, "s3://bucket/m"), "column target: 's3://***' is not the path of the output"),
        (placed(BACK, "out.mdl"), "column target: 'out.mdl': the output is a folder, whose name doesn't end with .mdl"),
        (placed(BACK, "out/a.mdl/x"), "column target: 'out/a.mdl/x' is, holds or lies in row first's target"),
        (placed(GOOD, "results/x.mdl"), "column target: 'results/x.mdl' is, holds or lies in the results"),
        (placed(GOOD | {"source": "m.mdl"}, "m.mdl"), "column target: 'm.mdl' is, holds or lies in row "),
        (placed(GOOD, "~/x.mdl"), "column target: '~/x.mdl' is not the path of the output"),
        (placed(GOOD, "s3://bucket/x.mdl"), "column target: 's3://***' is not the path of the output"),
        (placed(GOOD, keep="maybe"), "column keep: 'maybe' is not yes, no, or empty for yes"),
        (placed(BACK, keep="no"), "column keep: 'row:first' isn't fetched: another row's output stays"),
    ],
)
def test_places_that_are_refused(tmp_path: Path, row: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch):
    first = placed(GOOD | {"id": "first"}, "out/a.mdl")
    row = row | {"source": row["source"].replace("good", "first")}
    read_rules(tmp_path, [first], monkeypatch)
    (line,) = refused(tmp_path, [first, row], monkeypatch)
    assert message in line
