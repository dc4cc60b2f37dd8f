"""How a command ends where it can't go on: one line, the right exit code, no trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convkit import cli
from convkit.cli import ending, main

COMMAND = [sys.executable, "-m", "convkit"]


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return done.stderr.strip().splitlines()


@pytest.mark.parametrize(
    "words", [["list", "formats"], ["list", "formats", "--json"], ["inspect", "nothing", "--json"]]
)
def test_a_full_standard_output(words: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *words], check=False, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
    assert done.returncode == 3
    (line,) = lines(done)
    assert line.startswith("convkit: ")
    assert ("standard output: No space left on device" in line) == (words[0] == "list")


def test_a_closed_pipe() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, "list", "mappings"], check=False, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


#: a command that ends while a thread still works, and leaves more to do for the interpreter's end
UNFINISHED = """
import atexit, sys, threading, time
import convkit.cli
from convkit.__main__ import main

def command():
    atexit.register(print, "called at the end")
    threading.Thread(target=lambda: (time.sleep(0.2), print("a thread's"))).start()
    print("printed", end=" ")
    return 3

convkit.cli.main = command
sys.exit(main())
"""


def test_what_is_to_be_done_at_the_end_is_done() -> None:
    done = subprocess.run([sys.executable, "-c", UNFINISHED], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "printed a thread's\ncalled at the end\n", "")


def test_output_that_cannot_be_written_at_the_end() -> None:
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-c", UNFINISHED]
        buffered = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
        done = subprocess.run(words, check=False, stdout=full, env=buffered)
    assert done.returncode == 120


@pytest.mark.parametrize("said", [None, "2"])
def test_numpys_blas_has_no_threads_unless_asked(said: str | None) -> None:
    """Each would keep a core busy while the command starts."""
    count = "import convkit.cli; convkit.cli.main = lambda: __import__('numpy') and len(os.listdir('/proc/self/task'))"
    code = f"import os, sys; {count}; from convkit.__main__ import main; sys.exit(main())"
    environment = {name: text for name, text in os.environ.items() if not name.endswith("_NUM_THREADS")}
    if said:
        environment["OPENBLAS_NUM_THREADS"] = said
    done = subprocess.run([sys.executable, "-c", code], check=False, env=environment)
    assert done.returncode == min(int(said or 1), os.cpu_count() or 1)


def test_an_interrupt_while_modules_are_imported(tmp_path: Path) -> None:
    """numpy is imported when the first tensor is read; here it waits for the interrupt that it meets."""
    (tmp_path / "numpy.py").write_text(f"import os, signal\nos.kill(os.getpid(), {int(signal.SIGINT)})\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    header = b'{"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}'
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"1")
    done = subprocess.run(
        [*COMMAND, "inspect", str(tmp_path), "--digest"],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell's jobs ignore it
    )
    assert (done.returncode, lines(done)) == (130, ["convkit: interrupted; the same command resumes"])


def test_an_import_that_turns_an_interrupt_into_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("multiarray failed to import") from error

    monkeypatch.setattr(cli, "_call", interrupted)
    assert main([]) == 130
    assert capsys.readouterr().err == "convkit: interrupted; the same command resumes\n"


def test_a_fault_of_convkit_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def faulty(_: object) -> int:
        raise TypeError("no\nway")

    monkeypatch.setattr(cli, "_call", faulty)
    assert main(["--json"]) == ending.FAULT
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("convkit: a fault of convkit itself: TypeError: no way, at test_ending.py:")
    assert line.endswith("(report it; -v shows the trace)")
    assert json.loads(said.out)["exit_code"] == ending.FAULT
    with pytest.raises(TypeError):
        cli.run([])
    monkeypatch.setenv(ending.TRACE, "1")
    with pytest.raises(TypeError):
        main([])


def test_names_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    """A path whose bytes aren't Unicode, and a key that isn't ASCII, on a terminal of ASCII."""
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(folder)  # noqa: PTH102
    header = json.dumps({"größe": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    with open(folder + b"/model.safetensors", "wb") as file:  # noqa: PTH123
        file.write(len(header).to_bytes(8, "little") + header + b"\1")
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    for more in ([], ["--json"]):
        done = subprocess.run([*COMMAND, "inspect", folder, *more], check=False, capture_output=True, env=environment)
        assert (done.returncode, done.stderr) == (0, b"")
        said = done.stdout.decode("ascii")
    assert json.loads(said)["leaves"][0]["key"] == "größe"
