"""The page of conversions that were made by hand: the documents of their stages lie beside the receipt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sample_campaign as sample
from once import once
from recorded import HERE

from convkit.cli import main
from convkit.files.receipt import read_receipt, receipt_path

ERROR = {"schema": "convkit.error/1", "error": "llama: hidden_size: is no number", "exit_code": 3}


def make(folder: Path) -> None:
    for name in ("one.mdl", "other.mdl"):
        assert main(["convert", str(HERE / "llama_gqa" / "hf"), str(folder / name), "--to", "cerebras/llama"]) == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two conversions, of which the first has verdicts that say yes."""
    made = shutil.copytree(once("by hand", make), tmp_path / "made")
    judge(made / "one.mdl")
    return made


def judge(target: Path, called: str | None = None) -> None:
    seal = (read_receipt(target) or {})["digest"]
    for verdict in (sample.roundtrip(), sample.equivalence()):
        path = target.with_name(f"{called or target.name}.{verdict['check']}.json")
        path.write_text(json.dumps(verdict | {"receipt": seal}))


def rows(path: Path) -> dict[str, Any]:
    return {row["id"]: row for row in json.loads(path.read_text())["rows"]}


def test_one_target_has_its_page_beside_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folder / "one.mdl", receipt_path(folder / "one.mdl")):
        assert main(["report", str(path)]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(folder / "one.mdl.report.html")
    assert "in <code>one.mdl.summary.json</code>" in (folder / "one.mdl.report.html").read_text()
    row = rows(folder / "one.mdl.summary.json")["one.mdl"]
    assert (row["verdict"], row["source"]) == ("yes", str(HERE / "llama_gqa" / "hf"))
    assert main(["report", str(folder / "other.mdl")]) == 1
    assert rows(folder / "other.mdl.summary.json")["other.mdl"]["problem"] == "roundtrip: not begun"


def test_a_folder_of_several_has_a_row_for_each(folder: Path) -> None:
    judge(folder / "other.mdl", called="another name")
    assert main(["report", str(folder)]) == 0
    assert list(rows(folder / "summary.json")) == ["one.mdl", "other.mdl"]


def test_a_stage_that_failed_hides_what_an_earlier_run_has_left(folder: Path) -> None:
    (folder / "one.mdl.convert.json").write_text(json.dumps(ERROR))
    assert main(["report", str(folder / "one.mdl")]) == 1
    row = rows(folder / "one.mdl.summary.json")["one.mdl"]
    assert (row["verdict"], row["stopped_at"], row["roundtrip"]) == ("stopped", "convert", None)
    assert row["problem"] == f"convert: {ERROR['error']}"


def test_verdicts_about_other_bytes_are_stale(folder: Path) -> None:
    seal = (read_receipt(folder / "one.mdl") or {})["digest"]
    verdict = sample.roundtrip() | {"receipt": seal.replace(seal[-1], "0" if seal[-1] != "0" else "1")}
    (folder / "one.mdl.roundtrip.json").write_text(json.dumps(verdict))
    assert main(["report", str(folder / "one.mdl")]) == 1
    assert rows(folder / "one.mdl.summary.json")["one.mdl"]["verdict"] == "stale"


def test_what_was_said_of_a_target_goes_with_it_and_verify_allows_it(folder: Path) -> None:
    target, foreign = folder / "one.mdl", folder / "one.mdl.equivalence.json"
    assert main(["report", str(target)]) == 0
    assert main(["verify", str(target)]) == 0
    foreign.write_text('{"made by": "somebody else"}')
    convert = ["convert", str(HERE / "llama_gqa" / "hf"), str(target), "--to", "cerebras/llama"]
    assert main([*convert, "--overwrite"]) == 0
    left = {path.name for path in folder.iterdir() if path.name.startswith("one.mdl.")}
    assert left == {receipt_path(target).name, foreign.name}


def test_what_was_said_of_a_target_that_is_gone_is_no_obstacle(folder: Path) -> None:
    target, failed = folder / "new.mdl", [folder / f"new.mdl.{stage}.json" for stage in ("plan", "convert")]
    for path in failed:
        path.write_text(json.dumps(ERROR))
    assert main(["convert", str(HERE / "llama_gqa" / "hf"), str(target), "--to", "cerebras/llama"]) == 0
    assert not any(path.exists() for path in failed)


def test_a_source_with_the_name_of_a_row_is_not_that_row(tmp_path: Path) -> None:
    sample.write_row(tmp_path / "llama", stages={"plan": sample.plan()})
    sample.write_row(tmp_path / "second", stages=sample.all_stages())
    claims = "id\tsource\tto\tchecks\nllama\ta\tcerebras/llama\t\nsecond\tllama\tcerebras/llama\t\n"
    (tmp_path / "checkpoints.tsv").write_text(claims)
    main(["report", str(tmp_path)])
    assert rows(tmp_path / "summary.json")["second"]["verdict"] == "yes"
