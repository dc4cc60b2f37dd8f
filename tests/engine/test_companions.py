"""What lies beside the weights is carried, or named once: a conversion loses no file without a word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from recorded import HERE

from convkit.cli import main
from convkit.generate import generate
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


def test_those_of_components_are_carried_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model whose parts lie in folders has a tokenizer in that of its language model."""
    source, target, back = tmp_path / "hf", tmp_path / "cs.mdl", tmp_path / "back"
    generate("generated://llava?layers=1&vision_layers=1&feature_layer=-1", source)
    names = ("text_model/tokenizer.json", "text_model/tokenizer.model", "image_model/LICENSE", "NOTICE")
    own = {name: name for name in names}
    for name, text in own.items():
        (source / name).write_text(text)
    (source / "text_model" / "modeling_mine.py").touch()
    assert main(["convert", str(source), str(target), "--to", "cerebras/llava"]) == 0
    assert capsys.readouterr().err == "convkit: warning: not carried: text_model/modeling_mine.py\n"
    beside = tmp_path / "cs.mdl.companions"
    own["text_model/generation_config.json"] = (source / "text_model" / "generation_config.json").read_text()
    assert {path.relative_to(beside).as_posix() for path in beside.rglob("*") if path.is_file()} == own.keys()
    assert main(["convert", str(target), str(back), "--to", "hf"]) == 0
    assert {name: (back / name).read_text() for name in own} == own
    assert not (tmp_path / "back.companions").exists()
    for path in (target, back):
        assert main(["verify", str(path)]) == 0
    # they are replaced, and nothing of others
    words = ["convert", str(source), str(target), "--to", "cerebras/llava", "--overwrite"]
    assert main(words) == 0
    (beside / "text_model" / "mine").touch()
    assert main(words) == 2
    assert "text_model/mine" in capsys.readouterr().err
