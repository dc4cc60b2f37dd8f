"""``convkit table``: a campaign's table of what lies on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_workflow_words import read_rules

from convkit.cli import main
from convkit.report.table import read_rows


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder in which a model lies three times, beside what isn't one."""
    monkeypatch.chdir(tmp_path)
    source, made = "models/llama", "models/other/run 1/llama.mdl"
    assert main(["fetch", "generated://llama?layers=1&heads=2&kv_heads=1", source]) == 0
    assert main(["convert", source, made, "--to", "cerebras/llama"]) == 0
    Path("models/other/run 1/second.mdl").write_bytes(Path(made).read_bytes())
    shutil.copytree(source, "models/again/llama")
    shutil.copytree(source, "models/adapter")
    Path("models/adapter/adapter_config.json").write_text('{"peft_type": "LORA"}')
    Path("models/odd").mkdir()
    Path("models/odd/weights.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    Path("models/notes").mkdir()
    Path("models/notes/readme.txt").write_text("nothing")
    capsys.readouterr()
    return tmp_path


def test_the_table_is_one_that_a_campaign_takes(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert main(["table", "models", "--to", "cerebras"]) == 0
    printed = capsys.readouterr().out
    Path("found.tsv").write_text(printed)
    rows = read_rows("found.tsv")
    assert [(row["id"], row["source"]) for row in rows] == [
        ("llama", "models/again/llama"),
        ("models-llama", "models/llama"),
    ]
    assert {(row["from"], row["to"]) for row in rows} == {("hf/llama", "cerebras/llama")}
    headline, *comments = (line for line in printed.splitlines() if line.startswith("# "))
    assert headline == "# 2 of 6 checkpoints can be converted"
    assert [comment.split(": ")[0] for comment in comments] == [
        "# models/adapter",
        "# models/odd",
        "# models/other/run 1/llama.mdl",
        "# models/other/run 1/second.mdl",
    ]
    assert "merge" in comments[0]
    assert "git lfs pull" in comments[1]
    assert comments[2].endswith(": is cerebras/llama already")
    assert list(
        read_rules(models, [{"id": "x", "source": "models/llama"}], monkeypatch, checkpoints="found.tsv").ROWS
    ) == [
        "llama",
        "models-llama",
    ]


def test_files_bring_their_configs(models: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["table", "models/other", "--to", "hf", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (row,) = document["rows"]
    assert row == {
        "id": "llama",
        "source": "models/other/run 1/llama.mdl",
        "from": "cerebras/llama",
        "to": "hf/llama",
        "options": "--config 'models/other/run 1/llama.yaml'",
    }
    assert [one["path"] for one in document["refused"]] == ["models/other/run 1/second.mdl"]


def test_nothing_is_found(models: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["table", "models/notes", "--to", "hf"]) == 3
    assert "models/notes: holds no checkpoint (name a folder that holds some)" in capsys.readouterr().err
    assert main(["table", "models/none", "--to", "hf"]) == 2
    assert main(["table", "models", "--to", "hff"]) == 2
    assert "no layout is called 'hff'" in capsys.readouterr().err
