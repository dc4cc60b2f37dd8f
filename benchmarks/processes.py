"""Whole processes, from start to exit: seconds, CPU seconds, anonymous memory of all of them together (Linux)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Run:
    """One command: seconds of the clock, CPU seconds and peak bytes of it and of all that it started."""

    wall: float
    cpu: float
    anonymous: int


def timed(command: Sequence[str], output: Path | None = None, environment: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end, polling its memory every 10 ms.

    Args:
        command: its words.
        output: a file for what it prints; it is dropped by default.
        environment: variables beside those of this process.

    Raises:
        SystemExit: it ended with an error.
    """
    with (output or Path(os.devnull)).open("wb") as printed, tempfile.TemporaryFile() as said:
        started = time.monotonic()
        environment = as_installed() | dict(environment or {})
        process = subprocess.Popen(command, stdout=printed, stderr=said, env=environment, start_new_session=True)
        try:
            run = _followed(process, started)
        except BaseException:  # nothing that it started stays behind
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
        if process.returncode:
            said.seek(0)
            tail = said.read()[-2000:].decode(errors="replace")
            raise SystemExit(f"{tail}\n{' '.join(command)} ended with {process.returncode}")
    return run


def as_installed() -> dict[str, str]:
    """The environment of this process, in which modules are compiled once, not in each process."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _followed(process: subprocess.Popen[bytes], started: float) -> Run:
    peak = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        peak = max(peak, anonymous_tree(process.pid))
        time.sleep(0.01)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Run(time.monotonic() - started, usage.ru_utime + usage.ru_stime, peak)


def anonymous_tree(pid: int) -> int:
    """RssAnon of a process and of all that it started and that started from them.

    A child that hasn't begun its own command shares its parent's pages: of those only what it has beyond them counts.
    """
    own, command = anonymous_bytes(pid), command_of(pid)
    total = own
    for child in children(pid):
        total += anonymous_tree(child) - (min(own, anonymous_bytes(child)) if command_of(child) == command else 0)
    return total


def children(pid: int) -> Iterator[int]:
    """The processes that a process started."""
    with suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                yield from map(int, (thread / "children").read_text().split())


def command_of(pid: int) -> str:
    """The command of a process; "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def anonymous_bytes(pid: int) -> int:
    """RssAnon of one process."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("RssAnon:")), 0)


def clear(target: Path) -> None:
    """Remove a conversion and the files beside it."""
    for path in target.parent.glob(f"{target.stem}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
