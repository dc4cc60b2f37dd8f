"""The command line: imports little at first, and everything needed once a command is called."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from convkit.cli import COMMANDS, Group, main

HEAVY = ("numpy", "h5py", "yaml", "torch", "jax", "tensorstore")


def words() -> Iterator[list[str]]:
    for name, command in COMMANDS.items():
        yield [name]
        if isinstance(command, Group):
            yield from ([name, inner] for inner in command.commands)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from convkit.cli import parser\n"
        "try: parser().parse_args(['--help'])\n"
        f"except SystemExit: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", list(words()), ids=" ".join)
def test_each_command_says_what_it_takes(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main([*command, "--help"])
    assert exit.value.code == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["orbax", "--json", "guide"], ["orbax", "guide", "--json"]], ids=" ".join)
def test_json_is_asked_for_before_or_after_the_command_of_a_group(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("orbax.checkpoint")
    main(argv)
    assert capsys.readouterr().out.startswith("{")
