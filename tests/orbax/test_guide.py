"""The guide against the installed Orbax."""

from __future__ import annotations

import json

import pytest

from convkit.cli import main
from convkit.orbax.guide import TABLE, guide

v0 = pytest.importorskip("orbax.checkpoint")


def test_every_method_of_the_installed_class() -> None:
    methods = {name for name in dir(v0.CheckpointManager) if not name.startswith("_")}
    found = guide()
    assert {row["method"] for row in found["rows"]} | set(found["unknown"]) >= methods
    assert found["unknown"] == []
    assert all(row["installed"] for row in found["rows"])


def test_counterparts_are_there_or_said_not_to_be() -> None:
    from orbax.checkpoint.experimental import v1

    rows = {row["method"]: row for row in guide()["rows"]}
    assert rows["restore"]["counterparts"]["Checkpointer.load"] == "there"
    # in 0.12.8 these two only say that they are to come
    with pytest.raises(NotImplementedError):
        v1.training.Checkpointer.load_async(None)
    assert rows["restore"]["counterparts"]["Checkpointer.load_async"] == "raises NotImplementedError"
    assert rows["reached_preemption"]["counterparts"] == {}
    assert not hasattr(v1.training.Checkpointer, "reached_preemption")


def test_where_the_official_guide_is_out_of_date() -> None:
    outdated = {row["method"]: row["guide_outdated"] for row in guide()["rows"] if row["guide_outdated"]}
    assert outdated["delete"] == ["coming soon"]
    assert outdated["best_step"] == ["checkpoints.metrics.best_step"]
    assert "reload" not in outdated
    assert "reached_preemption" not in outdated


def test_an_absent_counterpart_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from orbax.checkpoint.experimental import v1

    monkeypatch.delattr(v1.training.Checkpointer, "reload")
    row = next(row for row in guide()["rows"] if row["method"] == "reload")
    assert row["counterparts"] == {"Checkpointer.reload": "absent"}
    assert row["guide_outdated"] == ["Checkpointer.reload"]


def test_a_new_method_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(v0.CheckpointManager, "rewind", lambda self: None, raising=False)
    assert guide()["unknown"] == ["rewind"]
    assert main(["orbax", "guide"]) == 1
    assert "rewind" in capsys.readouterr().out


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["orbax", "guide"]) == 0
    text = capsys.readouterr().out
    assert all(row.method in text for row in TABLE)
    assert max(map(len, text.splitlines())) <= 100
    assert main(["orbax", "guide", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "convkit.orbax-guide/1"
    assert [row["method"] for row in document["rows"]] == [row.method for row in TABLE]
