"""Has the worker carry out a call of the command: ``python -IS call.py FOLDER COST ENVIRONMENT COMMAND...``.

What the worker doesn't take is carried out plainly. Otherwise the file COST says what the call took, because whoever
measures this process doesn't see that one: its CPU seconds, and its peak of memory in bytes. ENVIRONMENT is that of
the workflow which would serve the call: it tells what will be imported. This file imports next to
nothing, so that it starts at once: not even ``signal``, which makes enumerations of its numbers. It is started by its
path, so it must be readable by itself.
"""

from __future__ import annotations

import _signal as signal
import _socket
import marshal
import os
import sys

#: a message holds the arguments and the environment; a longer one isn't sent
LONGEST = 1 << 17
#: how an answer begins, once the call is a process
BEGUN = b"+"
#: what a terminal, a scheduler or a user sends to a process to tell it something
_PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)
#: lines of /proc/self/status that a process inherits
_INHERITED = ("Umask", "Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp:", "Cpus_allowed:", "Mems_allowed:")


def inherited() -> list[str]:
    """What a process has from the one that started it, apart from environment, folder and files: who runs it, limits,
    processors, priority, control groups, and the namespaces that make a container.
    """
    own = "/proc/self"
    with open(f"{own}/status") as status, open(f"{own}/limits") as limits, open(f"{own}/cgroup") as groups:
        lines = [line for line in status if line.startswith(_INHERITED)]
        spaces = [os.readlink(f"{own}/ns/{name}") for name in sorted(os.listdir(f"{own}/ns"))]
        return [*lines, limits.read(), groups.read(), *spaces, str(os.getpriority(os.PRIO_PROCESS, 0))]


class _Call:
    """A call of these words, which the worker in a folder may take."""

    def __init__(self, folder: str, serving: str, words: list[str]) -> None:
        self._folder, self._serving, self._words = folder, serving, words
        self._worker = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self._got: list[int] = []
        self._passed_on = [number for number in _PASSED_ON if signal.getsignal(number) != signal.SIG_IGN]

    def taken(self) -> bool:
        """Whether the worker takes it: then it is a process, which gets the signals that this one gets."""
        try:
            words = [*map(os.fsencode, self._words)]
            message = marshal.dumps((words, os.getcwdb(), dict(os.environb), inherited(), self._serving))
            if len(message) > LONGEST:
                return False
            self._worker.connect(f"{self._folder}/socket")
            files = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
            self._worker.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
            for number in self._passed_on:
                signal.signal(number, self._pass_on)
            return self._worker.recv(len(BEGUN)) == BEGUN
        except OSError:
            return False

    def _pass_on(self, number: int, _: object) -> None:
        self._got.append(number)
        try:
            self._worker.send(bytes([number]))
        except OSError:  # it has ended
            pass

    def end(self, cost: str) -> None:
        """End as the call ends, which leaves its cost in a file."""
        try:
            status, seconds, memory = marshal.loads(self._worker.recv(LONGEST))
        except (OSError, EOFError):  # the worker was killed, and the call with it
            _die(signal.SIGKILL)
        with open(cost, "w") as file:
            file.write(f"{seconds:.2f} {memory}\n")
        if status >= 0:
            os._exit(status)
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # what crashed was the call
        _die(-status)

    def carry_out(self) -> None:
        """Carry it out plainly."""
        for number in self._passed_on:
            signal.signal(number, signal.SIG_DFL)
        for got in self._got:
            _die(got)
        os.execvp(self._words[0], self._words)


def _die(number: int) -> None:
    """End by a signal, whose number the shell then says."""
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def main() -> None:
    """Carry out the call."""
    folder, cost, serving, *words = sys.argv[1:]
    call = _Call(folder, serving, words)
    if call.taken():
        call.end(cost)
    call.carry_out()


if __name__ == "__main__":
    main()
