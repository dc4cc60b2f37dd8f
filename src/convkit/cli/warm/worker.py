"""The worker: gives each call to the process of its environment, which it starts at the first."""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from convkit.cli.warm import call
from convkit.cli.warm.call import LONGEST, inherited

#: how the command is called that becomes a worker in this folder, or without one a process of the worker
STAND_BY = "--stand-by"
#: printed once calls are taken
READY = "ready"
#: seconds in which a caller must say what it wants
_PATIENCE = 5
#: the command, the environment of the workflow that serves the call, and the variables
_Kind = tuple[bytes, str, bytes]


@dataclass
class _Started:
    """A process of the worker, and what it is told calls by."""

    process: subprocess.Popen[bytes]
    channel: socket.socket


def stand_by(words: list[str], main: Callable[[], int]) -> int:
    """Be a worker in the folder that the words name; without one, a process of the worker, whose calls do ``main``."""
    if not _is_for_it(words):
        print(f"convkit: {STAND_BY} is for the workflow, which starts it for its jobs", file=sys.stderr)
        return 2
    if words:
        _work(Path(words[0]))
    else:
        from convkit.cli.warm.process import Process

        Process(main).serve()
        os._exit(0)  # freeing what was imported would take long
    return 0


def _is_for_it(words: list[str]) -> bool:
    """Whether the words name the folder of a worker; without words, whether a worker leads to this process."""
    return len(words) == 1 and Path(words[0]).is_dir() if words else stat.S_ISSOCK(os.fstat(0).st_mode)


def _work(folder: Path) -> None:
    """Take calls at ``folder/socket`` until standard input closes; the folder, which is the user's alone, is removed.

    Beside it are what a caller runs: ``python`` and ``call.py``.
    """
    started: dict[_Kind, _Started] = {}
    own = inherited()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            (folder / "python").symlink_to(sys.executable)
            (folder / "call.py").symlink_to(call.__file__)
            listening.bind(str(folder / "socket"))
            listening.listen(100)
            print(READY, flush=True)
            while True:
                ready, _, _ = select.select([listening, sys.stdin], [], [])
                if sys.stdin in ready:
                    return
                with contextlib.suppress(OSError, EOFError, ValueError):  # the caller has gone
                    _take(listening.accept()[0], started, own)
    finally:
        for one in started.values():
            one.channel.close()
        for one in started.values():
            one.process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _take(caller: socket.socket, started: dict[_Kind, _Started], own: list[str]) -> None:
    """Hand a call on; whose isn't, its caller finds closed."""
    with caller:
        caller.settimeout(_PATIENCE)
        message, files, *_ = socket.recv_fds(caller, LONGEST, 3)
        caller.settimeout(None)
        try:
            words, folder, environment, theirs, serving = marshal.loads(message)
            if theirs != own or len(files) != 3:
                return
            kind = words[0], serving, marshal.dumps(sorted(environment.items()))
            if kind not in started or started[kind].process.poll() is not None:
                started[kind] = _start(words[0], folder, environment)
            socket.send_fds(started[kind].channel, [message], [caller.fileno(), *files])
        finally:
            for file in files:
                os.close(file)


def _start(command: bytes, folder: bytes, environment: dict[bytes, bytes]) -> _Started:
    """Start a process of a command, as the caller would."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [command, STAND_BY.encode()],
            cwd=folder,
            env=environment,
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return _Started(process, ours)
