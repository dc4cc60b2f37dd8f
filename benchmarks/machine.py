"""Where benchmarks run: the machine, versions, and how busy others keep it (Linux)."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: more cores than this, kept busy by others, make a machine that isn't quiet
QUIET = 0.2


def described() -> dict[str, object]:
    """What figures of one machine have in common."""
    cpu = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu.partition(":")[2].strip() or cpu,
        "cores": len(os.sched_getaffinity(0)),
        "GiB": round(memory / 2**30),
        "system": platform.system(),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of the distributions that are installed, and of Python."""
    found = {"python": platform.python_version(), "kernel": platform.release().partition("-")[0]}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class Others:
    """How many cores other work keeps busy, between its making and :meth:`cores`."""

    def __init__(self) -> None:
        self._started, self._busy, self._own = time.monotonic(), _busy(), _own()

    def cores(self) -> float:
        """CPU seconds a second of processes that aren't ours."""
        seconds = time.monotonic() - self._started
        return max(0.0, (_busy() - self._busy) - (_own() - self._own)) / seconds if seconds else 0.0


def _busy() -> float:
    """CPU seconds of all cores since the start of the machine, without those that it was idle or waited."""
    user, nice, system, _idle, _wait, hard, soft, steal = map(int, next(_lines("/proc/stat")).split()[1:9])
    return (user + nice + system + hard + soft + steal) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, whose))


def _lines(path: str) -> Iterable[str]:
    with Path(path).open() as file:
        yield from file
