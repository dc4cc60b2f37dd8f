"""What lies beside the weights is carried, or named once: a conversion loses no file without a word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from recorded import HERE

from convkit.cli import main
from convkit.mappings.cerebras.hf import COMPANIONS

#: of no known name: code, an unknown tokenizer, the parts of a sentence transformer, chat templates
UNKNOWN = ["modeling_mine.py", "qwen.tiktoken", "modules.json", "1_Pooling/config.json", "chat_templates/a.jinja"]
NAMED = "not carried: 1_Pooling/, chat_templates/, modeling_mine.py, modules.json, qwen.tiktoken"
#: what is about the checkpoint, or hidden
SILENT = ["README.md", ".gitattributes"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = shutil.copytree(HERE / "llama_gqa" / "hf", tmp_path / "hf")
    for name in (*COMPANIONS, *UNKNOWN, *SILENT):
        file = source / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)
    return source


@pytest.mark.parametrize("named", ["", "model.safetensors"])
def test_carried_or_named_once(source: Path, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "cs.mdl"
    assert main(["convert", str(source / named), str(target), "--to", "cerebras/llama"]) == 0
    assert capsys.readouterr().err == f"convkit: warning: {NAMED}\n"
    carried = {path.name for path in (tmp_path / "cs.mdl.companions").iterdir()}
    assert carried == set(COMPANIONS)
    receipt = json.loads((tmp_path / "cs.mdl.convkit.json").read_text())
    assert NAMED in receipt["warnings"]
    # what comes back holds nothing of others
    assert main(["convert", str(target), str(tmp_path / "back"), "--to", "hf/llama"]) == 0
    assert main(["inspect", str(tmp_path / "back"), "--json"]) == 0
    captured = capsys.readouterr()
    assert not captured.err
    assert json.loads(captured.out[captured.out.index("{") :])["not_carried"] == []


def test_the_plan_names_them_too(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(source), "--to", "cerebras/llama"]) == 0
    assert f"warning: {NAMED}" in capsys.readouterr().out
