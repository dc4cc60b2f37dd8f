"""Help, completion, and what is said of wrong words: every parser of the command line is read."""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from convkit.checkpoint.tensors import dtype_called
from convkit.cli import COMMANDS, Command, Group, main, parser
from convkit.cli.completion import SHELLS
from convkit.cli.parsing import every
from convkit.errors import ConvkitError, UsageError
from convkit.formats import get_format
from convkit.generate.options import parse
from convkit.mappings import get_layout
from convkit.plan import Options

EVERY = list(every(parser()))


def commands() -> list[Command]:
    found = []
    for one in COMMANDS.values():
        found += list(one.commands.values()) if isinstance(one, Group) else [one]
    return found


def test_every_argument_has_a_sentence() -> None:
    silent = [
        (words, action.option_strings or action.dest)
        for words, one in EVERY
        for action in one._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert not silent
    assert len(EVERY) > len(COMMANDS)


def test_every_command_has_an_example_that_it_takes() -> None:
    for command in commands():
        words = shlex.split(command.example.partition(" > ")[0])
        parser().parse_args(words)
    for words, one in EVERY:
        if one._command:
            assert f"convkit {' '.join(words)}" in one.format_help().rpartition("example:")[2]


def test_help_has_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" not in parser().format_help()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" in parser().format_help()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("convrt a b", "did you mean convert? see convkit --help"),
        ("orbax chek a", "did you mean check? see convkit orbax --help"),
        ("convert a b --dropp c", "did you mean --drop? see convkit convert --help"),
        ("plan a --relaese=2.9", "unrecognized arguments: --relaese=2.9 (did you mean --release?"),
        ("list format", "did you mean formats?"),
        ("roundtrip a b --no-fial", "did you mean --no-fail?"),
        ("inspect a --qqq", "unrecognized arguments: --qqq (see convkit inspect --help)"),
    ],
)
def test_a_wrong_word_is_one_line_with_what_was_meant(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_names_of_layouts_formats_and_families_too() -> None:
    for call, wrong, right in (
        (get_layout, "cerebras/lama", "cerebras/llama"),
        (get_layout, "HF/Llama", "hf/llama"),
        (get_format, "safetensor", "safetensors"),
        (parse, "generated://lama", "llama"),
        (parse, "generated://llama?kv_head=2", "kv_heads"),
    ):
        with pytest.raises(ConvkitError) as refused:
            call(wrong)
        assert isinstance(refused.value, UsageError)
        assert (refused.value.remedy or "").startswith(f"did you mean {right}? ")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_completes_the_words(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    for word in (
        "equivalence",
        "fix-checkpoint-spec",
        "convert-config",
        "shard-size",
        "cerebras/llama",
        "mmsimple-llava",
    ):
        assert word in text, word
    if shutil.which(shell):
        file = tmp_path / "script"
        file.write_text(text)
        subprocess.run([shell, "-n", file], check=True, stdin=subprocess.DEVNULL)


def test_dtypes_as_people_spell_them() -> None:
    spelled = {
        "bfloat16": ("bf16", "BF16", "torch.bfloat16", "jnp.bfloat16", "bfloat16"),
        "float16": ("fp16", "half", "f16", "torch.half", "np.float16"),
        "float32": ("fp32", "float", "single", "f32", "Float32"),
        "float64": ("double", "fp64", "f64"),
        "float8_e4m3fn": ("fp8_e4m3", "fp8-e4m3fn", "e4m3", "torch.float8_e4m3fn"),
        "float8_e5m2": ("fp8_e5m2", "e5m2"),
    }
    for dtype, names in spelled.items():
        assert {dtype_called(name) for name in names} == {dtype}
        assert {Options(dtype=name).dtype for name in names} == {dtype}
    assert dtype_called("floaty") == "floaty"
