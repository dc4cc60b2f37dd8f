"""Keep the installed Orbax running in a separate process, the worker, and send it requests.

Starting Orbax and jax takes seconds, so one worker answers request after request. It is restarted if another
number of devices is needed, if the environment has changed, and after a crash. It ends with this process,
however that ends, because its standard input closes then (:mod:`convkit.orbax.check.worker`).
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from typing import Any

from convkit.errors import ConvkitError
from convkit.extras import install
from convkit.orbax.check.calls import Call
from convkit.orbax.check.outcome import Outcome

#: the result of a call that ends the process
CRASHED = "crashed"
#: seconds until a silent worker counts as hung; one answer loads an item, or a batch of its leaves
PATIENCE = 1800.0

_TABLE = "convkit.orbax.check.real"
#: prefixes of environment variables whose changes a running worker doesn't see
_VARIABLES = ("JAX_", "XLA_", "LD_", "ORBAX_", "PYTHON")
#: seconds in which a worker may end by itself
_GRACE = 5


class NoAnswerError(Exception):
    """The worker didn't answer: it ended, hung, or failed; the text is the reason.

    ``imported`` is False if it didn't even start, mostly because Orbax is missing.
    """

    def __init__(self, reason: str, *, imported: bool = True) -> None:
        super().__init__(reason)
        self.imported = imported


def run(
    calls: Sequence[Call], path: Path, devices: int = 1, progress: Callable[[int, int], None] | None = None
) -> list[Outcome]:
    """Make each call on this machine's CPU, which jax sees as ``devices`` devices, and return the answers.

    ``progress`` is called with the number of calls that are answered, and of all.

    Raises:
        ConvkitError: Orbax isn't installed, can't be imported, or doesn't answer.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(calls):
        if progress is not None:
            progress(len(outcomes), len(calls))
        rest = [call.to_json() for call in calls[len(outcomes) :]]
        try:
            for answer in ask(_TABLE, {"path": str(path.absolute()), "calls": rest}, devices):
                causes = tuple((kind, reason) for kind, reason in answer["causes"])
                outcomes.append(Outcome(answer["result"], answer["value"], causes))
                if progress is not None:
                    progress(len(outcomes), len(calls))
        except HungError as error:
            raise ConvkitError(str(error), path=path, remedy="try again; leave --run out if it happens again") from None
        except NoAnswerError as error:
            if not error.imported:
                raise ConvkitError(f"Orbax can't be imported: {error}", remedy=install("orbax")) from None
            outcomes.append(Outcome(CRASHED, causes=((CRASHED, str(error)),)))
    return outcomes


def ask(task: str, request: Mapping[str, Any], devices: int = 1, *, x64: bool = False) -> Iterator[Any]:
    """Yield the worker's answers to a request.

    Args:
        task: the module whose ``answers`` the worker runs.
        request: its argument, as JSON; paths are absolute.
        devices: of the CPU, as jax sees it.
        x64: whether jax keeps 64 bits.

    Raises:
        ConvkitError: the task can't read what it is to work on.
        NoAnswerError: the worker can't be started, or ended or hung before its last answer. It is ended then.
    """
    line = json.dumps({"task": task, "request": request, "x64": x64})
    with _LOCK:
        worker = _taken(line, devices)
        try:
            yield from worker.answers()
        except BaseException:  # also if the caller stops before the last answer
            stop()
            raise


def stop() -> None:
    """End the worker, if one is running; a fork of this process leaves it alone."""
    while _running:
        worker = _running.pop()
        if worker.owner == os.getpid():
            worker.end()


class HungError(NoAnswerError):
    """The worker was silent for :data:`PATIENCE` seconds."""


class _Worker:
    """A process that runs :mod:`convkit.orbax.check.worker`."""

    def __init__(self, key: tuple[Any, ...], environment: Mapping[str, str]) -> None:
        self.key = key
        self.owner = os.getpid()
        # the output of Orbax; a pipe that isn't emptied would block it
        self._said = TemporaryFile()  # noqa: SIM115 - until the worker ends
        self._scratch = mkdtemp(prefix="convkit-orbax-")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "convkit.orbax.check.worker", self._scratch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=dict(environment),
        )
        self._pending = b""

    def send(self, line: str) -> bool:
        """Send a request; False if the worker has ended meanwhile."""
        assert self.process.stdin
        self._said.seek(0)
        self._said.truncate()
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        return self.line() == {"taken": True}

    def answers(self) -> Iterator[Any]:
        """The answers to the request, as they come.

        Raises:
            ConvkitError: the task can't read what it is to work on.
            NoAnswerError: the worker ended before its last answer.
        """
        while True:
            line = self.line()
            if line is None:
                raise NoAnswerError(self.last_words())
            if "refused" in line:
                raise ConvkitError(**line["refused"])
            if "failed" in line:
                raise NoAnswerError(line["failed"])
            if "answer" not in line:
                return
            yield line["answer"]

    def line(self) -> Any:
        """The next line that the worker writes; None if it has ended.

        Raises:
            HungError: the worker is silent.
        """
        assert self.process.stdout
        until = time.monotonic() + PATIENCE
        while b"\n" not in self._pending:
            if not select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))[0]:
                raise HungError(f"Orbax hasn't answered for {PATIENCE:g} seconds")
            if not (read := os.read(self.process.stdout.fileno(), 1 << 16)):
                return None
            self._pending += read
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line)

    def last_words(self) -> str:
        """The last line that the worker printed, or a description of how it ended."""
        status = self.process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        if status < 0:
            return f"its process was ended by signal {-status}"
        return lines[-1] if lines else f"its process ended with status {status}"

    def end(self) -> None:
        """End the process, by force if need be."""
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._said.close()
        shutil.rmtree(self._scratch, ignore_errors=True)


_LOCK = threading.RLock()
#: the worker, if one is running
_running: list[_Worker] = []
atexit.register(stop)


def _taken(line: str, devices: int) -> _Worker:
    """Return a worker that has accepted the request; one that ended unnoticed is replaced.

    Raises:
        NoAnswerError: a worker can't be started.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    key = tuple(sorted((name, value) for name, value in environment.items() if name.startswith(_VARIABLES)))
    try:
        known = _running[0] if _running else None
        if known and known.owner == os.getpid() and known.key == key and known.send(line):
            return known
        stop()
        _running.append(worker := _Worker(key, environment))
        if worker.line() is None:
            raise NoAnswerError(worker.last_words(), imported=False)
        if not worker.send(line):
            raise NoAnswerError(worker.last_words())
        return worker
    except BaseException:
        stop()
        raise
