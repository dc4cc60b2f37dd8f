"""Calls that are forks of a worker: what they leave is what plain processes leave, and nothing outlives its starter."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from campaigns import Campaign, claim, scripts

worker = scripts("worker")

#: a command that does as it is told, by itself or by a worker
COMMAND = """\
#!{python}
import importlib, json, os, resource, signal, subprocess, sys, time, warnings

def main():
    what, *more = sys.argv[1:]
    if what == "tell":
        found = dict(words=sys.argv[1:], folder=os.getcwd(), limit=resource.getrlimit(resource.RLIMIT_NOFILE))
        found |= dict(environ=dict(os.environ), umask=os.umask(0), ignored=str(signal.getsignal(signal.SIGHUP)))
        found |= dict(hash=hash("a"), interrupt=str(signal.getsignal(signal.SIGINT)), flags=str(sys.flags))
        print(json.dumps(found), sys.stdin.read())
        print("said", file=sys.stderr)
    elif what == "end":
        sys.exit(more[0] if more[0] == "why" else int(more[0]))
    elif what == "raise":
        raise RuntimeError("no")
    elif what == "die":
        os.kill(os.getpid(), int(more[0]))
    elif what in ("import", "load"):
        print("there" if more[0] in sys.modules else "new")
        importlib.import_module(more[0])
    else:
        child = subprocess.Popen(["sleep", "600"])
        open(more[0], "w").write(f"{{os.getpid()}} {{child.pid}}")
        os.rename(more[0], more[0] + ".begun")
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            child.kill()
            print("interrupted")
            return 130
    return 0

if sys.argv[1:2] == ["--stand-by"]:
    from convkit.cli.warm.worker import stand_by
    raise SystemExit(stand_by(sys.argv[2:], main))
raise SystemExit(main())
"""


def until(what: Callable[[], object]) -> None:
    """Wait; a test that waits for ever is seen by its name."""
    while not what():
        time.sleep(0.02)


def lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


class Calls:
    """Calls of a command, which a worker may carry out, in a folder of their own."""

    def __init__(self, folder: Path, search: str) -> None:
        self.folder, self.search = folder, search
        self.environment = os.environ | {"PATH": search, "PYTHONHASHSEED": "7"}
        self.cost = folder / "cost"

    def start(
        self, *words: str, plain: bool = False, before: str = "", serving: str = "", **environment: str
    ) -> subprocess.Popen[str]:
        self.cost.unlink(missing_ok=True)
        place = os.environ[worker.VARIABLE]
        through = [] if plain else [f"{place}/python", "-IS", f"{place}/call.py", place, str(self.cost), serving]
        return subprocess.Popen(
            ["sh", "-c", f'{before} exec "$@"', "sh", *through, "convkit", *words],
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **options: Any) -> tuple[int, str, str]:
        process = self.start(*words, **options)
        out, err = process.communicate("given")
        return process.returncode, out, err

    def begin(self, **options: Any) -> tuple[subprocess.Popen[str], list[int]]:
        """A call that stands still: its caller, and the ids of its process and of what that started."""
        process, begun = self.start("wait", "it", **options), self.folder / "it.begun"
        until(begun.exists)
        pids = [*map(int, begun.read_text().split())]
        begun.unlink()
        return process, pids


def of_convkit(path: Path) -> str:
    """A search path on which the command lies."""
    (path / "bin").mkdir()
    (path / "bin/convkit").write_text(f'#!/bin/sh\nexec {sys.executable} -m convkit "$@"\n')
    (path / "bin/convkit").chmod(0o755)
    return f"{path}/bin{os.pathsep}{os.environ['PATH']}"


@contextlib.contextmanager
def working(search: str) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", search)
        found = worker.Worker()
        try:
            yield found
        finally:
            found.end()


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    folder = tmp_path_factory.mktemp("calls")
    (folder / "bin").mkdir()
    (folder / "bin/convkit").write_text(COMMAND.format(python=sys.executable))
    (folder / "bin/convkit").chmod(0o755)
    (folder / "noisy.py").write_text("print('here I am')\n")
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=[600], daemon=True).start()\n"
    (folder / "threaded.py").write_text(thread)
    search = f"{folder}/bin{os.pathsep}{os.environ['PATH']}"
    # who is started in the background ignores interrupts, and so would all calls
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with working(search):
        yield Calls(folder, search)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "words",
    [
        ["tell", "a b", "ä\udcff"],
        ["end", "0"],
        ["end", "3"],
        ["end", "why"],
        ["die", "11"],
        ["die", "9"],
        ["die", "15"],
    ],
    ids=" ".join,
)
def test_a_call_is_as_one_by_itself(calls: Calls, words: list[str]) -> None:
    plain = calls.run(*words, plain=True)
    for _ in range(2):
        assert calls.run(*words) == plain
        assert re.fullmatch(r"\d+\.\d\d \d+\n", calls.cost.read_text())


def test_a_fault_ends_it_with_its_trace(calls: Calls) -> None:
    code, out, err = calls.run("raise")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback")
    assert err.endswith("RuntimeError: no\n")


def test_what_a_call_imports_the_next_but_one_finds(calls: Calls) -> None:
    found = [calls.run("import", "wave", environment_of="imports")[1] for _ in range(2)]
    assert found == ["new\n", "there\n"]
    assert calls.run("load", "wave", environment_of="imports")[1] == "there\n"
    assert calls.run("import", "wave", environment_of="imports", serving="other")[1] == "new\n"
    assert calls.run("import", "wave", environment_of="another")[1] == "new\n"


def test_what_takes_longest_to_import_is_there_before_the_first_call(calls: Calls) -> None:
    found = [calls.run("import", module, serving="jax", environment_of="jax")[1] for module in ("torch", "jax.numpy")]
    assert found == ["there\n", "there\n"]


def test_a_call_has_its_own_environment_as_it_starts(calls: Calls) -> None:
    seeded = [calls.run("tell", PYTHONHASHSEED=seed) for seed in ("7", "8", "7")]
    assert seeded[0] == seeded[2] != seeded[1]
    assert seeded[1] == calls.run("tell", plain=True, PYTHONHASHSEED="8")


@pytest.mark.parametrize("before", ["umask 027;", "ulimit -n 100;", "nice -n 5"])
def test_what_inherits_something_else_is_a_plain_process(calls: Calls, before: str) -> None:
    found = calls.run("tell", before=before if before.endswith(";") else f"exec {before}")
    assert not calls.cost.exists()
    assert found == calls.run("tell", before=before if before.endswith(";") else f"exec {before}", plain=True)


@pytest.mark.parametrize("module", ["noisy", "threaded"])
def test_what_prints_or_starts_threads_when_imported_is_imported_by_plain_processes(calls: Calls, module: str) -> None:
    found = {"PYTHONPATH": f"{calls.folder}:{os.environ.get('PYTHONPATH', '')}", "environment_of": module}
    plain = calls.run("import", module, plain=True, **found)
    for n in range(3):
        assert calls.run("import", module, **found) == plain
        assert calls.cost.exists() == (n == 0)


@pytest.mark.parametrize("words", [[], ["nowhere"], [".", "more"]])
def test_who_types_it_is_told_in_one_line(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "convkit", "--stand-by", *words]
    done = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "convkit: --stand-by is for the workflow, which starts it for its jobs\n"


def test_it_is_interrupted_with_its_caller(calls: Calls) -> None:
    caller, pids = calls.begin()
    caller.send_signal(signal.SIGINT)
    assert caller.communicate() == ("interrupted\n", "")
    assert caller.returncode == 130
    assert not any(map(lives, pids))


def test_a_signal_that_the_caller_ignores_doesnt_reach_it(calls: Calls) -> None:
    caller, pids = calls.begin(before="trap '' HUP;")
    caller.send_signal(signal.SIGHUP)
    caller.send_signal(signal.SIGINT)
    assert caller.communicate() == ("interrupted\n", "")
    assert not any(map(lives, pids))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_dies_with_its_caller_and_all_that_it_started(calls: Calls, number: int) -> None:
    caller, pids = calls.begin()
    caller.send_signal(number)
    caller.communicate()
    assert caller.returncode == -number
    until(lambda: not any(map(lives, pids)))


def test_a_process_of_the_worker_that_is_killed_takes_its_calls_along(calls: Calls) -> None:
    caller, (pid, child) = calls.begin()
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    assert caller.wait() == -signal.SIGKILL
    until(lambda: not lives(pid))
    os.kill(child, signal.SIGKILL)  # as what any killed process has started, it works on
    caller.communicate()
    assert calls.run("end", "4")[0] == 4


def test_all_of_it_dies_with_who_started_it(calls: Calls) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", "import runpy, time; m = runpy.run_path(SCRIPT); m['Worker'](); "
         "print(m['os'].environ[m['VARIABLE']], flush=True); time.sleep(600)".replace("SCRIPT", repr(worker.__file__))],
        env=os.environ | {"PATH": calls.search},
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert starter.stdout is not None
    place = starter.stdout.readline().strip()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(worker.VARIABLE, place)
        caller, pids = calls.begin()
    family = [child.pid for child in psutil.Process(starter.pid).children(recursive=True)]
    assert pids[0] in family
    assert len(family) == 4
    starter.kill()
    starter.communicate()
    caller.communicate()
    assert caller.returncode == -signal.SIGKILL
    until(lambda: not any(map(lives, [*family, *pids])) and not Path(place).exists())


def test_without_a_worker_its_callers_carry_out_their_calls(calls: Calls, tmp_path: Path) -> None:
    found = Calls(tmp_path, calls.search)
    with working(calls.search) as one:
        one._process.kill()
        one._process.wait()
        assert found.run("end", "5")[0] == 5
        assert not found.cost.exists()


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 2\n", "#!/bin/sh\necho '{}'\n", None])
def test_a_command_that_cant_be_a_worker_isnt(
    tmp_path: Path, text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(worker.VARIABLE, raising=False)
    if text:
        (tmp_path / "convkit").write_text(text)
        (tmp_path / "convkit").chmod(0o755)
    with working(f"{tmp_path}{os.pathsep}/usr/bin:/bin"):
        assert not Path(os.environ.get(worker.VARIABLE, "/none"), "socket").exists()


#: what no two runs have in common: times, and what was measured or lies elsewhere because of them
_OF_A_RUN = ("seconds", "started", "time", "mtime_ns", "ctime_ns", "inode", "peak_anonymous_bytes", "commit")


def lasting(document: Any) -> Any:
    """A document without what is of its run."""
    if isinstance(document, dict):
        named = "receipt" if document.get("check") else "digest" if "peak_anonymous_bytes" in document else None
        return {key: lasting(value) for key, value in document.items() if key not in (*_OF_A_RUN, named)}
    return [*map(lasting, document)] if isinstance(document, list) else document


def told(campaign: Campaign) -> dict[str, Any]:
    """The documents and logs of a campaign's stages."""
    documents = sorted(campaign.directory.glob("results/*/*.json"))
    found = {str(path.relative_to(campaign.directory)): lasting(json.loads(path.read_text())) for path in documents}
    logs = sorted(campaign.directory.glob("results/*/logs/*.log"))
    # on a busy machine, stages say how far they have come
    texts = {path: re.sub(r"(?m)^[^\n]*( left|/s|, \d+%)\n", "", path.read_text()) for path in logs}
    return found | {str(path.relative_to(campaign.directory)): text for path, text in texts.items()}


@pytest.mark.slow
def test_a_campaign_with_a_worker_leaves_what_one_without_leaves(tmp_path: Path, snakemake: Path) -> None:
    search, made = of_convkit(tmp_path), {}
    rows = [
        claim(id=f"row{n}", source=f"generated://t5x?seed={n}", to="te/t5-fused", checks="roundtrip") for n in range(2)
    ]
    rows.append(claim(id="bad", source="generated://t5x?seed=4", to="te/t5-fused", options="--drop none.such"))
    for name in (False, True):
        (tmp_path / "work").mkdir()
        campaign = Campaign(tmp_path / "work", search, snakemake, "--scheduler", "greedy", "--cores", "2")
        campaign.write([row | {"checks": "roundtrip"} for row in rows], worker=name)
        assert campaign.run().returncode
        costs = [*campaign.directory.glob("results/*/logs/*.cost")]
        assert len(costs) == (13 if name else 0), [path.name for path in costs]
        made[name] = told(campaign)
        (tmp_path / "work").rename(tmp_path / f"work-{name}")
    assert made[True] == made[False]
    assert made[True]["results/row1/roundtrip.json"]["state"] == "yes"
    assert "error" in made[True]["results/bad/plan.json"]
