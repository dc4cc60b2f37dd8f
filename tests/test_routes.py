"""Conversions through other layouts, and into a framework given only by name, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from convkit.cli import main
from convkit.errors import UsageError
from convkit.fetch import fetch
from convkit.formats import open_checkpoint
from convkit.mapping import Chain
from convkit.plan.route import find_route


def leaves(path: Path) -> dict[str, tuple[object, bytes]]:
    with open_checkpoint(path) as opened:
        return {
            key: (leaf.spec, opened.read(key).tobytes()) if leaf.spec else (leaf.value, b"")
            for key, leaf in opened.leaves.items()
        }


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return fetch("generated://llama?kv_heads=2&tied=false", tmp_path / "llama") and tmp_path / "llama"


def test_there_and_back_through_another_framework(tmp_path: Path, llama: Path) -> None:
    """In another format, by one command: what comes out is the model that went in."""
    made = tmp_path / "torch"
    words = ["--through", "cerebras", "--to", "hf", "--format", "torch"]
    assert main(["convert", str(llama), str(made), *words]) == 0
    receipt = json.loads((tmp_path / "torch.convkit.json").read_text())
    assert receipt["plan"]["mapping"] == "hf/llama <-> cerebras/llama <-> hf/llama"
    assert leaves(made) == leaves(llama)
    for check in (["roundtrip", str(llama), str(made)], ["verify", str(made)], ["equivalence", str(llama), str(made)]):
        assert main(check) == 0, check


@pytest.mark.parametrize(
    ("uri", "there", "back"),
    [
        (
            "generated://t5x?decoder_layers=1",
            ["--through", "te/t5", "--through", "t5x", "--to", "te/t5-fused"],
            ["--through", "t5x", "--through", "te/t5", "--to", "t5x"],
        ),
        (
            "generated://pax?kv_heads=2",
            ["--through", "pax/lm-repeat", "--to", "te/pax-repeat"],
            ["--through", "pax/lm-repeat", "--to", "pax/lm"],
        ),
    ],
)
def test_a_training_goes_a_long_way_and_comes_back(tmp_path: Path, uri: str, there: list[str], back: list[str]) -> None:
    source = tmp_path / "source"
    fetch(uri, source)
    assert main(["convert", str(source), str(tmp_path / "there"), *there]) == 0
    assert main(["roundtrip", str(source), str(tmp_path / "there")]) == 0
    assert main(["equivalence", str(source), str(tmp_path / "there")]) == 0
    assert main(["convert", str(tmp_path / "there"), str(tmp_path / "back"), *back]) == 0
    assert leaves(tmp_path / "back") == leaves(source)
    assert main(["roundtrip", str(tmp_path / "there"), str(tmp_path / "back")]) == 0
    assert main(["verify", str(tmp_path / "back")]) == 0


def test_the_plan_says_through_what(capsys: pytest.CaptureFixture[str], llama: Path) -> None:
    assert main(["plan", str(llama), "--through", "cerebras/llama", "--to", "hf/llama"]) == 0
    said = capsys.readouterr().out
    assert "hf/llama <-> cerebras/llama <-> hf/llama" in said
    assert "self_attn.q_proj" in said  # its rules, mapping by mapping


def test_a_framework_alone(tmp_path: Path, llama: Path) -> None:
    made = tmp_path / "made.mdl"
    assert main(["convert", str(llama), str(made), "--to", "cerebras"]) == 0
    assert json.loads((tmp_path / "made.mdl.convkit.json").read_text())["plan"]["target"]["layout"] == "cerebras/llama"
    (tmp_path / "made.mdl.convkit.json").unlink()
    assert main(["roundtrip", str(llama), str(made), "--to", "cerebras"]) == 0


@pytest.mark.parametrize(
    ("here", "to", "why", "remedy"),
    [
        ("t5x/t5", "te", "2 mappings lead from t5x/t5 into te", "say which: te/t5, te/t5-fused"),
        ("hf/llama", "te", "no mapping leads from hf/llama into te", "frameworks that it reaches: cerebras"),
        ("pax/lm", "cerebras", "no mapping leads from pax/lm into cerebras", "frameworks that it reaches: pax, te"),
        ("hf/llama", "onnx", "no layout is called 'onnx'", "layouts: "),
    ],
)
def test_a_framework_that_does_not_say_which(here: str, to: str, why: str, remedy: str) -> None:
    with pytest.raises(UsageError) as refusal:
        find_route(here, to)
    assert refusal.value.problem == why
    assert remedy in (refusal.value.remedy or "")
    assert refusal.value.exit_code == 2


def test_routes() -> None:
    route = find_route("t5x/t5", "te/t5-fused", ["te/t5", "t5x"])
    assert isinstance(route, Chain)
    assert [link.right.name for link in route.links] == ["te/t5", "t5x/t5", "te/t5-fused"]
    assert not isinstance(find_route("hf/gpt2", "cerebras"), Chain)


def test_on_the_way_back_a_checkpoint_gets_the_layout_that_it_had() -> None:
    for here in ("hf/codegen", "hf/gptj"):
        assert find_route(here, "hf", ["cerebras"]).right.name == here
        assert find_route("cerebras/gptj", "hf", before=lambda here=here: [here]).right.name == here
    with pytest.raises(UsageError, match="2 mappings lead"):
        find_route("cerebras/gptj", "hf", before=lambda: ["hf/codegen", "hf/gptj"])


def test_the_receipt_says_which_layout_it_had(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch("generated://codegen?layers=1", tmp_path / "codegen")
    made, back = tmp_path / "made.mdl", tmp_path / "back"
    assert main(["convert", str(tmp_path / "codegen"), str(made), "--to", "cerebras"]) == 0
    assert main(["convert", str(made), str(back), "--to", "hf"]) == 0
    assert leaves(back) == leaves(tmp_path / "codegen")
    assert main(["plan", str(made), "--to", "hf", "--no-restore"]) == 2
    assert "say which: hf/codegen, hf/gptj" in capsys.readouterr().err


def test_it_is_refused_by_the_command(capsys: pytest.CaptureFixture[str], llama: Path) -> None:
    assert main(["plan", str(llama), "--to", "te"]) == 2
    assert "no mapping leads from hf/llama into te" in capsys.readouterr().err
    assert main(["plan", str(llama), "--through", "te/t5", "--to", "cerebras"]) == 2
    assert main(["plan", str(llama), "--through", "cerebras", "--format", "orbax-v1"]) == 2
    assert "--through without --to" in capsys.readouterr().err
