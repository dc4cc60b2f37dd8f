"""The worker process: kept, replaced after a crash, and never left running.

Most of its lives here end before Orbax is asked anything, so they import an empty one, which takes no time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convkit.errors import ConvkitError
from convkit.migrate.orbax import restore
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import Request
from convkit.orbax.check import run
from convkit.orbax.check.calls import CALLS

pytest.importorskip("orbax.checkpoint")

#: what the worker is asked to do here: to say who it is, and then what the request says
TASK = """
import os, signal, time

def answers(request, make):
    yield {"pid": os.getpid(), "scratch": str(make.scratch)}
    match request.get("then"):
        case "kill": os.kill(os.getpid(), signal.SIGKILL)
        case "stop": os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep": time.sleep(600)
        case "raise": raise ValueError("as asked")
    for call in request.get("calls", ()):
        if call["text"] == request["path"].rpartition("/")[2]:
            os._exit(5)
        yield {"result": "OK", "value": call["text"], "causes": []}
"""

#: modules that hold what the worker uses of jax and Orbax before its first request
EMPTY = {
    "jax.py": "class config:\n    update = staticmethod(lambda name, value: None)",
    "orbax/checkpoint/__init__.py": "",
    "orbax/checkpoint/experimental/v1.py": "",
}


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module for the worker; no worker is there before or after."""
    yield from say_who(tmp_path, monkeypatch, EMPTY)


@pytest.fixture
def task_with_orbax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As ``task``, beside the real Orbax."""
    yield from say_who(tmp_path, monkeypatch, {})


def say_who(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modules: dict[str, str]) -> Iterator[str]:
    for name, text in {"say_who.py": TASK, **modules}.items():
        path = tmp_path / "modules" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'modules'}:{os.environ.get('PYTHONPATH', '')}")
    run.stop()
    yield "say_who"
    run.stop()


def worker(task: str, devices: int = 1) -> int:
    """The process that answers."""
    ((answer),) = run.ask(task, {}, devices)
    return answer["pid"]


def gone(pid: int) -> bool:
    """Whether a process has ended, which it is given a minute for."""
    for _ in range(600):
        try:
            status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if status == "Z":
            return True
        time.sleep(0.1)
    return False


def test_one_worker_answers_until_other_devices_are_needed(task_with_orbax: str) -> None:
    first = worker(task_with_orbax)
    assert worker(task_with_orbax) == first
    with_two = worker(task_with_orbax, devices=2)
    assert with_two != first
    assert gone(first)
    run.stop()
    assert gone(with_two)


def test_a_worker_that_was_killed_between_requests_is_replaced(task: str) -> None:
    first = worker(task)
    os.kill(first, signal.SIGKILL)
    assert worker(task) != first


@pytest.mark.parametrize(
    ("then", "says"),
    [
        ("kill", "its process was ended by signal 9"),
        ("stop", "Orbax hasn't answered for 2 seconds"),
        ("raise", "ValueError: as asked"),
    ],
)
def test_a_worker_that_gives_no_answer(task: str, monkeypatch: pytest.MonkeyPatch, then: str, says: str) -> None:
    asked = run.ask(task, {"then": then})
    answer = next(asked)
    if then == "stop":
        monkeypatch.setattr(run, "PATIENCE", 2.0)
        monkeypatch.setattr(run, "_GRACE", 0.1)
    with pytest.raises(run.NoAnswerError, match=says):
        next(asked)
    assert gone(answer["pid"])
    assert not Path(answer["scratch"]).exists()


def test_a_worker_that_is_killed_at_work(task: str) -> None:
    asked = run.ask(task, {"then": "sleep"})
    os.kill(next(asked)["pid"], signal.SIGKILL)
    with pytest.raises(run.NoAnswerError, match="ended by signal 9"):
        next(asked)


def test_a_request_that_nobody_waits_for_ends_the_worker(task: str) -> None:
    asked = run.ask(task, {"then": "sleep"})
    pid = next(asked)["pid"]
    asked.close()
    assert gone(pid)


@pytest.mark.parametrize("then", ["", "sleep"])
def test_it_ends_with_the_process_that_started_it(task_with_orbax: str, then: str) -> None:
    """Also while it is at work, and however that process ends."""
    code = (
        "from convkit.orbax.check import run\n"
        f"for answer in run.ask({task_with_orbax!r}, {{'then': {then!r}}}):\n"
        "    print(answer['pid'], answer['scratch'], flush=True)\n"
        "import time; time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid, scratch = parent.stdout.readline().split()
    parent.kill()
    parent.communicate()
    assert gone(int(pid))
    assert not Path(scratch).exists()


def test_a_fork_has_a_worker_of_its_own(task: str) -> None:
    code = (
        "import os, sys\n"
        "from convkit.orbax.check import run\n"
        f"ask = lambda: print(*(answer['pid'] for answer in run.ask({task!r}, {{}})), flush=True)\n"
        "ask()\n"
        "if not (fork := os.fork()): ask(); sys.exit()\n"
        "assert os.waitpid(fork, 0)[1] == 0\n"
        "ask()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, of_the_fork, after = done.stdout.split()
    assert before == after != of_the_fork
    assert gone(int(after))
    assert gone(int(of_the_fork))


def test_the_other_calls_are_made_where_one_ends_the_worker(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_TABLE", task)
    monkeypatch.setattr(run, "ask", without_the_first(run.ask))
    outcomes = run.run(CALLS[:3], Path("/nowhere") / CALLS[1].text)
    assert [outcome.result for outcome in outcomes] == ["OK", run.CRASHED, "OK"]
    assert outcomes[1].causes == ((run.CRASHED, "its process ended with status 5"),)
    assert outcomes[2].value == CALLS[2].text


def without_the_first(ask: Callable[..., Iterator[dict]]) -> Callable[..., Iterator[dict]]:
    """The same answers, except who the worker is."""

    def asked(*arguments: object) -> Iterator[dict]:
        answers = ask(*arguments)
        next(answers)
        yield from answers

    return asked


def test_a_migration_whose_orbax_is_killed(
    task_with_orbax: str, layout: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "_TASK", task_with_orbax)
    job = restore.job
    monkeypatch.setattr(restore, "job", lambda *arguments: {**job(*arguments), "then": "kill"})
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConvkitError, match=r"failed on it: its process was ended by signal 9 \(.*--no-restore "):
        migrate(layout("v1_save"), tmp_path / "target", Request("v0"))
    assert sorted(tmp_path.iterdir()) == before
