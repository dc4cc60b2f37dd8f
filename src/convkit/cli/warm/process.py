"""A process of the worker: imports what calls in one environment need, and forks for each of them."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import marshal
import os
import select
import signal
import socket
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import takewhile
from pathlib import Path

from convkit.cli.leaving import left
from convkit.cli.warm.call import BEGUN, LONGEST

_PR_SET_PDEATHSIG = 1
#: what takes longest to import where an environment of the workflow serves: it is there before the first call
_LONGEST = {"torch": ["transformers.modeling_utils"], "jax": ["torch", "jax.numpy"], "orbax": ["orbax.checkpoint"]}


@dataclass
class _Call:
    """A call that runs: its process, who waits for it, and the file in which it leaves the names of its modules."""

    pid: int
    caller: socket.socket
    modules: int


class Process:
    """This process.

    Args:
        main: what a call does; returns its exit code.
    """

    def __init__(self, main: Callable[[], int]) -> None:
        self._main = main
        self._calls: dict[int, _Call] = {}  # by the file that shows that the process has ended
        self._callers: dict[int, _Call] = {}
        self._imported_by_calls: dict[str, None] = {}
        self._longest = dict(_LONGEST)
        self._channel = socket.socket(fileno=os.dup(0))
        self._said = os.memfd_create("said")
        for file in (1, 2):
            os.dup2(self._said, file)

    def serve(self) -> None:
        """Fork for each call that the worker hands on, until it ends; what still runs then is killed."""
        while True:
            ready, _, _ = select.select([self._channel.fileno(), *self._calls, *self._callers], [], [])
            for file in ready:
                if file in self._calls:
                    self._end(file)
                elif file in self._callers:
                    self._hear(file)
                elif file == self._channel.fileno():
                    message, files, *_ = socket.recv_fds(self._channel, LONGEST, 4)
                    if not message:
                        self._kill_all()
                        return
                    self._begin(message, files)

    def _begin(self, message: bytes, files: list[int]) -> None:
        """Fork, unless what calls import can't be imported without being seen: then the call is a plain process."""
        caller, *files = files
        with contextlib.ExitStack() as closing:
            for file in files:
                closing.callback(os.close, file)
            connection = socket.socket(fileno=caller)
            *_, serving = marshal.loads(message)
            self._imported_by_calls |= dict.fromkeys(self._longest.pop(serving, []))
            if not self._imports():
                connection.close()
                return
            modules, parent = os.memfd_create("modules"), os.getpid()
            if (pid := os.fork()) == 0:
                with contextlib.suppress(BaseException):
                    os._exit(self._carry_out(message, files, connection, modules, parent))
                os._exit(1)
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)
        call = _Call(pid, connection, modules)
        self._calls[os.pidfd_open(pid)] = self._callers[connection.fileno()] = call

    def _imports(self) -> bool:
        """Import what calls have imported; whether that printed nothing, which a call would have printed."""
        new = [name for name in self._imported_by_calls if name not in sys.modules]
        self._imported_by_calls.clear()
        for name in new:
            with contextlib.suppress(Exception):  # no module of a file: it was made while another was imported
                import_module(name)
        if new:
            for finalizer in weakref.finalize._registry:  # type: ignore[attr-defined]
                finalizer.atexit = False  # what it would free ends with the process, too
            gc.collect()
            gc.freeze()  # it stays, and stays shared with the forks
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        return os.fstat(self._said).st_size == 0

    def _end(self, file: int) -> None:
        """Tell a caller how its call has ended."""
        call = self._calls.pop(file)
        os.close(file)
        _, status, used = os.wait4(call.pid, 0)
        self._callers.pop(call.caller.fileno(), None)
        answer = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss << 10
        with contextlib.suppress(OSError), call.caller:
            call.caller.send(marshal.dumps(answer))
        names = os.pread(call.modules, os.fstat(call.modules).st_size, 0)
        os.close(call.modules)
        self._imported_by_calls |= dict.fromkeys(names.decode().split())

    def _hear(self, file: int) -> None:
        """Pass on a signal that a caller got; its end is that of its call."""
        call = self._callers[file]
        try:
            told = call.caller.recv(1)
        except OSError:
            told = b""
        if not told:
            del self._callers[file]
        _kill(call.pid, told[0] if told else signal.SIGKILL)

    def _kill_all(self) -> None:
        for call in self._calls.values():
            _kill(call.pid, signal.SIGKILL)
        for call in self._calls.values():
            os.waitpid(call.pid, 0)

    def _carry_out(self, message: bytes, files: list[int], caller: socket.socket, modules: int, parent: int) -> int:
        """Be the process of a call; returns what it ends with."""
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent or _threads(parent) > 1:
            return 1  # threads don't survive a fork: the caller, who isn't told that it has begun, goes on without
        for number, file in enumerate(files):
            os.dup2(file, number)
        for file in (*files, *self._calls, *self._callers, self._channel.fileno(), self._said):
            os.close(file)
        last = next(reversed(sys.modules))
        words, folder, *_ = marshal.loads(message)
        sys.argv[1:] = map(os.fsdecode, words[1:])
        os.chdir(folder)
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed()
        caller.send(BEGUN)
        caller.close()
        status = _status_of(self._main)
        new = [*takewhile(lambda name: name != last, reversed(sys.modules))]
        os.write(modules, "\n".join(reversed(new)).encode())
        return status


def _threads(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def _kill(pid: int, number: int) -> None:
    """Send a signal to a call that hasn't been waited for, and to what it started."""
    with contextlib.suppress(OSError):
        os.killpg(pid, number)


def _status_of(main: Callable[[], int]) -> int:
    """What the interpreter would end with."""
    try:
        status = main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    return left(status)
