"""Commands whose calls are forks of a process that has imported what they need.

Importing snakemake or transformers takes longer than what most tests have them do. A call gets the directory,
environment, arguments and files of its caller, and what it changes ends with it, as in a process of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import marshal
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from traceback import print_exc

#: what is called: it imports only what is built into Python, so that it starts at once
COMMAND = """\
#!{python} -IS
import _socket, marshal, posix, sys
server = _socket.socket(_socket.AF_UNIX)
server.connect({address!r})
call = marshal.dumps((sys.argv, posix.getcwd(), posix.environ))
files = b"".join(file.to_bytes(4, sys.byteorder) for file in (0, 1, 2))
server.sendmsg([len(call).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
server.sendall(call)
sys.exit(int(server.recv(16)))
"""


@contextlib.contextmanager
def warm(command: Path, main: str, *modules: str) -> Iterator[Path]:
    """Put a command there whose calls are forks of one process.

    Args:
        command: its path.
        main: its function: ``convkit.cli:main``.
        modules: what else is imported before.
    """
    address = f"{command}.socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        words = [sys.executable, __file__, str(listening.fileno()), main, *modules]
        process = subprocess.Popen(words, pass_fds=[listening.fileno()], stdin=subprocess.PIPE)
    command.write_text(COMMAND.format(python=sys.executable, address=address))
    command.chmod(0o755)
    try:
        yield command
    finally:
        process.communicate()


def calls(listening: socket.socket) -> Iterator[socket.socket]:
    """Yield a call in a fork of this process, which returns once its standard input has closed and no call runs."""
    running: dict[int, tuple[int, socket.socket]] = {}
    waiting = [listening.fileno(), sys.stdin.fileno()]
    while waiting or running:
        for ready in select.select([*waiting, *running], [], [])[0]:
            if ready in running:
                pid, caller = running.pop(ready)
                os.close(ready)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError), caller:
                    caller.sendall(b"%d\n" % (status if status >= 0 else 128 - status))
            elif ready == listening.fileno():
                caller, _ = listening.accept()
                if (pid := os.fork()) == 0:
                    yield caller
                    return
                running[os.pidfd_open(pid)] = pid, caller
            else:
                waiting = []


def become(caller: socket.socket) -> None:
    """Make this process that of a call."""
    size, files, *_ = socket.recv_fds(caller, 4, 3)
    said = caller.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
    caller.close()
    words, folder, environment = marshal.loads(said)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environb.update(environment)
    sys.argv = words
    signal.signal(signal.SIGINT, signal.default_int_handler)


def status_of(main: Callable[[], int | None]) -> int:
    """What the process that does nothing else would end with."""
    try:
        return main() or 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        print_exc()
        return 1
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it ends it
    module, _, name = sys.argv[2].partition(":")
    main = getattr(import_module(module), name)
    for other in sys.argv[3:]:
        import_module(other)
    gc.freeze()  # what was imported stays, and stays shared with the forks
    for caller in calls(socket.socket(fileno=int(sys.argv[1]))):
        become(caller)
        os._exit(status_of(main))  # freeing what was imported would take longer than the call
