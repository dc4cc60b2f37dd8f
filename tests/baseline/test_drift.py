"""A rule that changes on purpose is found, explained to the leaf, accepted with a reason, and then silent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from baseline.made import GAIN, KERNEL, SCALED, TURNED, compare, convert, installed, source
from convkit.cli import main

ROW = "model"


class Team:
    """A source, baselines, and results that are made anew by one set of rules or another."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._patch, self.capsys = folder, patch, capsys
        self.source, self.baselines = source(folder), folder / "baselines"

    def run(self, name: str, *rules: Any) -> Path:
        with installed(self.folder / "site", self._patch, *rules):
            convert(self.capsys, self.source, self.folder / name)
        return self.folder / name

    def call(self, verb: str, results: Path, *more: str) -> int:
        self.capsys.readouterr()
        return main(["baseline", verb, str(results), "--baselines", str(self.baselines), *more])

    def drifts(self, results: Path, *more: str) -> list[dict[str, Any]]:
        code, found = compare(self.capsys, results, "--baselines", str(self.baselines), *more)
        drifts = found["rows"][0]["drifts"]
        assert code == (1 if drifts else 0)
        return drifts


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Team:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1795944718")
    return Team(tmp_path, monkeypatch, capsys)


def test_found_explained_accepted_silent(team: Team) -> None:
    before = team.run("before", KERNEL, GAIN)
    assert team.call("record", before, "--responsible", "A. Reviewer") == 0
    again = team.run("again", KERNEL, GAIN)
    assert not team.drifts(again)

    after = team.run("after", KERNEL, SCALED)
    found = team.drifts(after, "--before", str(before))
    leaves = {one["what"]: one for one in found if one["kind"] == "leaf changed"}
    assert set(leaves) == {"row.0.gain", "row.1.gain"}
    for one in leaves.values():
        assert "its rule was layer.{i}.gain <-> row.{i}.gain, and is" in one["why"]
        assert (one["differing"], one["elements"], one["max_ulp"]) == (5, 5, 2)
    assert {one["kind"] for one in found} >= {"plan changed", "bound moved"}
    assert "config changed" not in {one["kind"] for one in found}
    by_digest = [one for one in team.drifts(after) if one["kind"] == "leaf changed"]
    assert all("only the digest of the old leaf is there" in one["why"] for one in by_digest)
    assert team.call("compare", after) == 1
    assert "leaf changed: 2: row.0.gain, row.1.gain (its rule was" in team.capsys.readouterr().out

    assert team.call("accept", after) == 2  # without a reason
    assert team.call("accept", after, "--reason", " ") == 2
    assert team.drifts(after)
    assert team.call("accept", after, "--reason", "gains were too small", "--responsible", "B. Reviewer") == 0
    assert not team.drifts(after)
    history = json.loads((team.baselines / f"{ROW}.json").read_text())["accepted"]
    assert [one["reason"] for one in history] == ["recorded for the first time", "gains were too small"]
    assert [one["responsible"] for one in history] == ["A. Reviewer", "B. Reviewer"]
    assert history[1]["time"] == "2026-11-29T09:31:58+00:00"
    assert history[1]["changes"]["leaf changed"] == 2


def test_a_plan_that_changes_and_gives_the_same_bytes(team: Team) -> None:
    team.call("record", team.run("before", KERNEL, GAIN))
    after = team.run("after", type(KERNEL)(KERNEL.left, KERNEL.right, "rows columns -> columns rows"), GAIN)
    (drift,) = team.drifts(after)
    assert drift["kind"] == "plan changed, same bytes"
    assert "new: layer.{i}.kernel <-> row.{i}.kernel [rows columns -> columns rows]" in drift["why"]


def test_a_leaf_of_another_shape(team: Team) -> None:
    before = team.run("before", type(KERNEL)(KERNEL.left, KERNEL.right, "a b -> a b"), GAIN)
    team.call("record", before)
    found = team.drifts(team.run("after", TURNED, GAIN), "--before", str(before))
    changed = [one for one in found if one["kind"] == "leaf changed"]
    assert [one["what"] for one in changed] == ["row.0.kernel", "row.1.kernel"]
    assert all("was float32 [3, 4], and is float32 [4, 3]" in one["why"] for one in changed)


def test_what_is_recorded_is_small_and_says_nothing_of_the_machine(team: Team) -> None:
    results = team.run("before", KERNEL, GAIN)
    team.call("record", results, "--responsible", "A. Reviewer")
    first = (team.baselines / f"{ROW}.json").read_bytes()
    assert str(team.folder).encode() not in first
    assert len(first) < 8000
    (team.baselines / f"{ROW}.json").unlink()
    team.call("record", team.run("again", KERNEL, GAIN), "--responsible", "A. Reviewer")
    assert (team.baselines / f"{ROW}.json").read_bytes() == first


def test_rows_that_are_new_or_gone(team: Team) -> None:
    results = team.run("before", KERNEL, GAIN)
    code, found = compare(team.capsys, results, "--baselines", str(team.baselines))
    assert (code, found["rows"][0]["standing"]) == (1, "new")
    team.call("record", results)
    table = results / "checkpoints.tsv"
    table.write_text(table.read_text().replace("model\t", "other\t", 1))
    (results / "model").rename(results / "other")
    code, found = compare(team.capsys, results, "--baselines", str(team.baselines))
    assert code == 1
    assert {row["id"]: row["standing"] for row in found["rows"]} == {"other": "new", ROW: "gone"}
