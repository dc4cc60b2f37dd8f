"""The report looks at the outputs too: what is proved of one that is gone, or another now, is stale."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sample_campaign as sample
from once import once
from recorded import HERE

from convkit.checkpoint.digests import digest_value
from convkit.cli import main
from convkit.files.receipt import read_receipt, receipt_path
from convkit.report import build_report
from convkit.report.standing import stale


def make(folder: Path) -> None:
    """Two conversions, to a folder in shards and to a file, with companions."""
    source = folder / "source"
    shutil.copytree(HERE / "llama_gqa" / "hf", source)
    (source / "tokenizer.json").write_text('{"version": "1.0"}')
    for name, *words in (("t", "--format", "safetensors", "--shard-size", "20KB"), ("t.mdl",)):
        row = folder / f"row-{name}"
        row.mkdir()
        assert main(["convert", str(source), str(row / name), "--to", "cerebras/llama", *words]) == 0


@pytest.fixture(params=["t", "t.mdl"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A conversion with verdicts that say yes, in a folder of its own; times of change are kept."""
    row = shutil.copytree(once("standing", make) / f"row-{request.param}", tmp_path / "row")
    judge(row / request.param)
    return row / request.param


def judge(target: Path) -> None:
    seal = (read_receipt(target) or {})["digest"]
    for verdict in (sample.roundtrip(), sample.equivalence()):
        (target.parent / f"{verdict['check']}.json").write_text(json.dumps(verdict | {"receipt": seal}))


def report(target: Path, *words: str) -> tuple[int, dict[str, Any]]:
    code = main(["report", str(target.parent), *words])
    return code, json.loads((target.parent / "summary.json").read_text())["rows"][0]


def data_of(target: Path) -> Path:
    return sorted(target.glob("model-*"))[0] if target.is_dir() else target


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        at %= path.stat().st_size
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def companion_of(target: Path) -> Path:
    folder = target if target.is_dir() else target.with_name(f"{target.name}.companions")
    return folder / "tokenizer.json"


def test_what_is_as_it_was_written_is_proved(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, row = report(target)
    assert (code, row["verdict"], row["stale"]) == (0, "yes", [])
    assert report(target, "--verify")[0] == 0
    assert "STALE" not in capsys.readouterr().out


def test_the_page_shows_the_digest_of_what_was_read(target: Path) -> None:
    files = [{"path": "model.safetensors", "size": 5, "sha256": "ab" * 32}, "no file"]
    (target.parent / "fetch.json").write_text(json.dumps({"schema": "convkit.fetch/1", "files": files}))
    page = build_report(target.parent).read_text()
    receipt = read_receipt(target) or {}
    assert digest_value("sha256", receipt["source"]["leaves"]) in page
    assert receipt["digest"] in page and "ab" * 32 in page


def gone(target: Path) -> str:
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    return "the target is gone"


def changed(target: Path) -> str:
    flip(data_of(target), -1 if data_of(target).suffix == ".safetensors" else 60_000)
    return f"{data_of(target).relative_to(target.parent)} was changed after it was written"


def longer(target: Path) -> str:
    with data_of(target).open("ab") as file:
        file.write(b"\0")
    return f"{data_of(target).relative_to(target.parent)} was changed after it was written"


def without_companion(target: Path) -> str:
    companion_of(target).unlink()
    return f"{companion_of(target).relative_to(target.parent)} is gone"


def with_more(target: Path) -> str:
    more = companion_of(target).with_name("more")
    more.write_text("")
    return f"{more.relative_to(target.parent)} was added after {target.name} was written"


def without_receipt(target: Path) -> str:
    shutil.copyfile(receipt_path(target), target.with_name("convert.json"))
    receipt_path(target).unlink()
    return f"{receipt_path(target).name}, its receipt, is gone"


def with_a_changed_receipt(target: Path) -> str:
    shutil.copyfile(receipt_path(target), target.with_name("convert.json"))
    flip(receipt_path(target), receipt_path(target).read_bytes().index(b'"started"') + 14)
    return f"{receipt_path(target).name}, its receipt, was changed"


def made_again(target: Path) -> str:
    source, words = once("standing", make) / "source", ["--to", "cerebras/llama", "--overwrite"]
    words += ["--format", "safetensors", "--shard-size", "20KB"] if target.is_dir() else []
    assert main(["convert", str(source), str(target), *words]) == 0
    return "roundtrip judged another output than this one"


@pytest.mark.parametrize(
    "change",
    [gone, changed, longer, without_companion, with_more, without_receipt, made_again],
    ids=lambda f: f.__name__,
)
def test_what_is_not_is_stale(target: Path, change: Callable[[Path], str], capsys: pytest.CaptureFixture[str]) -> None:
    reason = change(target)
    code, row = report(target)
    assert (code, row["verdict"]) == (1, "stale")
    assert row["stale"][0].startswith(reason)
    assert row["problem"].startswith(f"stale: {reason}")
    assert "STALE" in capsys.readouterr().out
    page = (target.parent / "report.html").read_text()
    assert "chip stale" in page and reason in page
    assert main(["report", str(target.parent), "--no-fail"]) == 0


def test_a_copy_whose_times_are_others_is_the_same_by_its_bytes(target: Path) -> None:
    for path in target.parent.rglob("*"):
        os.utime(path)
    assert report(target)[0] == 0
    build_report(target.parent)  # without anything that compares bytes
    assert json.loads((target.parent / "summary.json").read_text())["rows"][0]["verdict"] == "stale"


def test_a_change_that_kept_size_and_time_takes_reading(target: Path) -> None:
    data = data_of(target)
    before = data.stat()
    flip(data, 60_000 if data == target else -1)
    os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert report(target)[0] == 0
    code, row = report(target, "--verify")
    assert (code, row["verdict"]) == (1, "stale") and "digest differs from the receipt" in row["stale"][0]


def test_a_target_that_was_renamed_with_its_receipt_is_found(tmp_path: Path) -> None:
    row = shutil.copytree(once("standing", make) / "row-t.mdl", tmp_path / "row")
    for path in list(row.iterdir()):
        path.rename(path.with_name(path.name.replace("t.", "other.", 1)))
    judge(row / "other.mdl")
    assert report(row / "other.mdl")[0] == 0


def test_in_a_campaign_the_document_of_the_conversion_must_be_the_receipt_that_lies_there(tmp_path: Path) -> None:
    row = shutil.copytree(once("standing", make) / "row-t.mdl", tmp_path / "row")
    judge(row / "t.mdl")
    receipt = json.loads(receipt_path(row / "t.mdl").read_text())
    documents = {"convert": receipt, "roundtrip": json.loads((row / "roundtrip.json").read_text())}
    assert [*stale(row, documents)] == []
    made_again(row / "t.mdl")
    assert [line for line in stale(row, documents) if line.startswith("t.mdl was written again since")]


def test_documents_of_earlier_releases_are_checked_as_far_as_they_go(tmp_path: Path) -> None:
    sample.write_row(tmp_path / "row", stages=sample.all_stages())
    build_report(tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["passed"]
    os.truncate(tmp_path / "row" / "target.mdl", 5)
    build_report(tmp_path)
    assert not json.loads((tmp_path / "summary.json").read_text())["passed"]


def test_a_row_whose_origin_was_made_again_otherwise_is_stale(tmp_path: Path) -> None:
    def made(name: str, source: str, target: str) -> dict[str, dict[str, Any]]:
        stages = sample.all_stages()
        for side, digest in (("source", source), ("target", target)):
            stages["convert"][side]["leaves"] = {"w": {"digest": f"xxh3-128:{digest}"}}
        sample.write_row(tmp_path / name, stages=stages)
        return stages

    made("one", "aa", "bb")
    made("two", "bb", "cc")
    (tmp_path / "checkpoints.tsv").write_text("id\tsource\tto\none\tgenerated://llama\tx\ntwo\trow:one\ty\n")
    assert build_report(tmp_path) and json.loads((tmp_path / "summary.json").read_text())["passed"]
    made("one", "aa", "dd")
    build_report(tmp_path)
    rows = json.loads((tmp_path / "summary.json").read_text())["rows"]
    assert [row["verdict"] for row in rows] == ["yes", "stale"]
    assert rows[1]["problem"] == "stale: its source is another than the output of row one: convert it again"


def test_a_target_may_lie_elsewhere_behind_a_link(target: Path, tmp_path: Path) -> None:
    target.rename(tmp_path / "elsewhere")
    target.symlink_to(tmp_path / "elsewhere")
    assert report(target, "--verify")[0] == 0
