"""What a remedy advises can be typed: its options are those of its command, or it says of which one they are."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from recorded import HERE
from safetensors.numpy import load_file, save_file

import convkit
from convkit.cli import flags_by_command, main
from convkit.cli.remedies import answered
from convkit.errors import ConvkitError, PlanError
from convkit.generate import generate

SOURCE = HERE / "llama_gqa" / "hf"
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def advised() -> Iterator[tuple[str, str]]:
    """The options that remedies name, with the file in which each does."""
    root = Path(convkit.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "remedy":
                texts = (part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant))
                for text in texts:
                    yield from ((flag, path.name) for flag in FLAG.findall(str(text)))


def test_every_option_that_is_advised_is_one() -> None:
    known = {flag for flags in flags_by_command().values() for flag in flags()}
    found = {*advised()}
    assert len(found) > 20
    assert not {(flag, name) for flag, name in found if flag not in known}


@pytest.mark.parametrize(
    ("remedy", "flags", "said"),
    [
        ("leave it out: --drop", ["--drop"], "leave it out: --drop"),
        ("leave it out: --drop", [], "leave it out: --drop; --drop is an option of convkit convert"),
        ("--size or --drop", [], "--size or --drop; --size and --drop are options of convkit convert"),
        ("convkit orbax migrate --to v1", [], "convkit orbax migrate --to v1"),
        ("write --- or --no-such", [], "write --- or --no-such"),
        (None, [], None),
    ],
)
def test_whose_options_they_are(remedy: str | None, flags: list[str], said: str | None) -> None:
    error = answered(PlanError("is odd", key="k", remedy=remedy), flags, {"convert": lambda: ["--drop", "--size"]})
    assert isinstance(error, PlanError)
    assert (error.problem, error.key) == ("is odd", "k")
    assert str(error) == str(ConvkitError("is odd", key="k", remedy=said))


def test_a_check_of_another_programs_conversion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(SOURCE), str(tmp_path / "made.mdl"), "--to", "cerebras/llama"]) == 0
    (tmp_path / "made.mdl.convkit.json").unlink()
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "config.json").write_bytes((SOURCE / "config.json").read_bytes())
    weights = load_file(SOURCE / "model.safetensors") | {"more": np.ones(3, "float32")}
    save_file(weights, tmp_path / "source" / "model.safetensors", {"format": "pt"})
    capsys.readouterr()
    assert main(["roundtrip", str(tmp_path / "source"), str(tmp_path / "made.mdl")]) == 3
    assert "--drop is an option of convkit convert" in capsys.readouterr().err


def test_te_leaves_out_what_it_advises_to_leave_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate("generated://t5x?layers=1", tmp_path / "t5x")
    for tensor in [*(tmp_path / "t5x").glob("*decoder.layers_0.pre_mlp_layer_norm.scale")]:
        shutil.copytree(tensor, tensor.with_name(tensor.name.replace("pre_mlp_layer_norm.scale", "more.odd")))
    command = ["te", "--input-path", str(tmp_path / "t5x"), "--output-path", str(tmp_path / "te"), "--fw", "t5x"]
    command += ["--direction", "fw2te"]
    assert main(command) == 3
    assert "--drop" in capsys.readouterr().err
    assert main([*command, "--drop", "*.more.odd"]) == 0
