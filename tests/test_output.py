"""What commands print: a terminal shows names as they are, whatever they hold; `-q` and `-v` say how much."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import convkit.cli
from convkit.cli import COMMANDS, Group, main
from convkit.cli.check import show
from convkit.cli.volume import VOLUME
from convkit.errors import ConvkitError
from convkit.verify.verdict import Verdict

#: clears the screen, rings, ends the line, turns the direction of writing, is a control of eight bits, and hides
ODD = "a\x1b[2J\x07b\nc\u202ed\x9b1m\u2066\ufeff"
SHOWN = r"a\x1b[2J\x07b\nc\u202ed\x9b1m\u2066\ufeff"
#: who prints: the rest asks it to
PRINTERS = {"output.py", "ending.py", "__init__.py", "schemas.py", "known.py"}


def unseen(text: str) -> set[str]:
    return {letter for line in text.split("\n") for letter in line if not letter.isprintable()}


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    path = tmp_path / "odd.safetensors"
    save_file({ODD: np.zeros(2, np.float32)}, path)
    return path


def test_names_are_shown_escaped_by_results_errors_and_json(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(odd)]) == 0
    out = capsys.readouterr().out
    assert SHOWN in out and not unseen(out)

    assert main(["inspect", str(odd), "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["leaves"][0]["key"] == ODD and not unseen(out)

    assert main(["diff", str(odd), str(odd.with_name(f"none{ODD}"))]) == 3
    error = capsys.readouterr().err
    assert SHOWN in error and error.count("\n") == 1 and not unseen(error)


def test_an_error_is_one_line_with_its_names_escaped() -> None:
    error = ConvkitError(f"holds {ODD}", path=f"/tmp/{ODD}", key=ODD, remedy=f"drop\n it {ODD}")
    assert str(error).count(SHOWN) == 2 and not unseen(str(error)) and "\n" not in str(error)
    assert error.key == ODD


def test_only_these_files_print() -> None:
    for path in Path(convkit.cli.__file__).parent.glob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        prints = any(isinstance(called, ast.Name) and called.id == "print" for called in calls)
        assert not prints or path.name in PRINTERS, path.name


def test_quiet_leaves_json_and_errors(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(odd), "-q"]) == 0
    assert main(["diff", "--quiet", str(odd), str(odd)]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["list", "formats", "--quiet", "--json"]) == 0
    assert capsys.readouterr().out.startswith("[")
    assert main(["inspect", str(odd.with_name("none")), "-q"]) == 3
    assert "no such file" in capsys.readouterr().err


def test_verbose_shortens_no_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    problems = tuple(f"problem {n}" for n in range(40))
    verdict = Verdict(check="diff", state="no", source="a", target="b", problems=problems)
    show(verdict)
    few = capsys.readouterr().out
    assert "problem 39" not in few and "more (-v shows all)" in few
    monkeypatch.setattr(VOLUME, "verbose", True)
    show(verdict)
    every = capsys.readouterr().out
    assert all(f"  {problem}\n" in every for problem in problems) and "more" not in every


def test_each_command_takes_both(capsys: pytest.CaptureFixture[str]) -> None:
    for name, command in COMMANDS.items():
        for words in [[name, inner] for inner in command.commands] if isinstance(command, Group) else [[name]]:
            with pytest.raises(SystemExit):
                main([*words, "--help"])
            out = capsys.readouterr().out
            assert "--quiet" in out and "--verbose" in out, words
