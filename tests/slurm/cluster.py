"""A real Slurm of two nodes on this machine, in namespaces of its own: see cluster.sh."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: what each kind of cluster runs
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged", "unshare", "nsenter", "ip")
NEEDED_FOR_ACCOUNTS = ("slurmdbd", "mariadbd")
SECONDS_TO_START = 120


def missing(accounting: bool) -> list[str]:
    """What keeps a cluster from being started here."""
    commands = (*NEEDED, *(NEEDED_FOR_ACCOUNTS if accounting else ()))
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    return [*(["root"] if os.getuid() else []), *(name for name in commands if not shutil.which(name, path=path))]


@dataclass(frozen=True)
class Job:
    """What the controller says of a job: its state, comment, megabytes, cores, time limit and nodes."""

    id: str
    state: str
    comment: str
    memory: str
    cores: str
    limit: str
    node: str


class Cluster:
    """The cluster, from its start to its end.

    Args:
        folder: for its files.
        accounting: whether it has a database of accounts; jobs without an account are then refused.
    """

    def __init__(self, folder: Path, accounting: bool) -> None:
        self.accounting = accounting
        ready = folder / "ready"
        words = [Path(__file__).with_name("cluster.sh"), *(["--accounting"] if accounting else []), folder]
        self._log = (folder / "cluster.log").open("wb")
        self._process = subprocess.Popen(
            [*words, "sh", "-c", 'touch "$0"; exec sleep infinity', ready], stdout=self._log, stderr=self._log
        )
        until = time.monotonic() + SECONDS_TO_START
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > until:
                self.end()
                raise AssertionError((folder / "cluster.log").read_text())
            time.sleep(0.1)
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        self._first = children.split()[0]

    def inside(self, folder: Path) -> list[str]:
        """The words before a command that runs within the cluster, in a folder."""
        return ["nsenter", "--target", self._first, "--mount", "--pid", "--net", f"--wd={folder}"]

    def ask(self, *words: str) -> str:
        """What a command says within the cluster."""
        return subprocess.run([*self.inside(Path("/")), *words], check=True, capture_output=True, text=True).stdout

    def jobs(self, after: int = 0) -> list[Job]:
        """All jobs with a higher number, in their order."""
        lines = self.ask("squeue", "--states=all", "--noheader", "--sort=i", "--format=%i|%T|%k|%m|%C|%l|%N")
        return [job for line in lines.splitlines() if int((job := Job(*line.split("|"))).id) > after]

    def last(self) -> int:
        """The number of the last job."""
        return max((int(job.id) for job in self.jobs()), default=0)

    def kill_node(self, node: str) -> None:
        """End everything that runs on a node at once, as a loss of power does."""
        for number in (signal.SIGSTOP, signal.SIGKILL):  # none may report the end of another
            for pid in self._processes(node):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def mend(self) -> None:
        """Start the nodes that were killed, and wait until all jobs have left both."""
        for node in ("n1", "n2"):
            if not [*self._processes(node)]:
                self.ask("env", f"CLUSTER_NODE={node}", "slurmd", "-N", node)
        until = time.monotonic() + SECONDS_TO_START
        while self.ask("sinfo", "--noheader", "--states=idle", "--format=%D").strip() != "2":
            assert time.monotonic() < until, self.ask("sinfo", "--long", "--Node")
            time.sleep(0.2)

    def _processes(self, node: str) -> Iterator[int]:
        """The daemon of a node, what its jobs run, and the guardians of their steps, which have no such variable."""
        here = Path(f"/proc/{self._first}/ns/pid").readlink()
        marks = {f"CLUSTER_NODE={node}".encode(), f"SLURMD_NODENAME={node}".encode()}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if (path / "ns/pid").readlink() == here and marks & {*(path / "environ").read_bytes().split(b"\0")}:
                    yield int(path.name)
                    parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                    if Path(f"/proc/{parent}/comm").read_text().startswith("slurmstepd"):
                        yield parent
            except OSError:  # it has ended
                continue

    def end(self) -> None:
        """End all processes of the cluster."""
        self._process.kill()
        self._process.wait()
        self._log.close()
