"""S3 on the loopback interface: Ceph's own gateway where Debian's packages of it are installed, else moto's stand-in.

A whole cluster in memory takes a monitor, one storage daemon and the gateway, and twelve seconds.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

#: Debian: radosgw, ceph-mon, ceph-osd, ceph-common
PROGRAMS = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "monmaptool", "ceph")
KEY, SECRET = "AKIATESTKEY", "not-a-secret-hunter2"

_CONFIG = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{monitor}
public network = 127.0.0.0/8
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
mon allow pool size one = true
mon max pg per osd = 10000
mon data = {folder}/mon
osd data = {folder}/osd
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
pid file = {folder}/$name.pid
rgw frontends = beast endpoint=127.0.0.1:{gateway}
"""


@dataclass(frozen=True)
class Server:
    """A server of S3, and what it is."""

    url: str
    name: str


def is_real() -> bool:
    """Whether Ceph's gateway is installed."""
    return all(shutil.which(program) for program in PROGRAMS)


@contextmanager
def moto() -> Iterator[Server]:
    """moto's server: a stand-in, which checks no signature."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield Server(f"http://{host}:{port}", "moto's server, a stand-in")
    finally:
        server.stop()


@contextmanager
def ceph(folder: Path) -> Iterator[Server]:
    """Ceph's gateway, with a user whose keys are :data:`KEY` and :data:`SECRET`."""
    monitor, gateway = _free_port(), _free_port()
    fsid, config = str(uuid.uuid4()), folder / "ceph.conf"
    config.write_text(_CONFIG.format(fsid=fsid, monitor=monitor, gateway=gateway, folder=folder))
    daemons: list[subprocess.Popen[bytes]] = []

    def call(*words: str) -> str:
        done = subprocess.run(
            [words[0], "-c", config, *words[1:]], capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(*words: str) -> subprocess.Popen[bytes]:
        output = (folder / f"{words[0]}.out").open("wb")
        daemons.append(subprocess.Popen([words[0], "-c", config, *words[1:], "-f"], stdout=output, stderr=output))
        return daemons[-1]

    def start_disk() -> None:
        """Until it is up: it ends with "wrong fsid" if it asks the monitor before it has heard from it."""
        disk = start("ceph-osd", "-i", "0")
        for _ in range(60):
            if "1 up" in call("ceph", "osd", "stat"):
                return
            if disk.poll() is not None:
                disk = start("ceph-osd", "-i", "0")
        raise AssertionError("ceph-osd doesn't come up")

    try:
        monmap, disk = str(folder / "monmap"), str(uuid.uuid4())
        (folder / "mon").mkdir()
        (folder / "osd").mkdir()
        address = f"[v1:127.0.0.1:{monitor}]"
        call("monmaptool", "--create", "--clobber", "--addv", "a", address, "--fsid", fsid, monmap)
        call("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        start("ceph-mon", "-i", "a")
        call("ceph", "osd", "new", disk)
        call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        start_disk()
        user = ("--uid=me", "--display-name=me", f"--access-key={KEY}", f"--secret-key={SECRET}")
        call("radosgw-admin", "user", "create", *user)
        start("radosgw", "-n", "client.rgw")
        url = f"http://127.0.0.1:{gateway}"
        _wait_for(url)
        yield Server(url, "Ceph's gateway")
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()


def started(stack: ExitStack, folder: Callable[[], Path]) -> Server:
    """Ceph's gateway, in a folder that is made for it; begun a second time where the first isn't up in time."""
    try:
        return stack.enter_context(ceph(folder()))
    except (AssertionError, subprocess.TimeoutExpired):
        return stack.enter_context(ceph(folder()))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(url: str) -> None:
    for _ in range(150):
        with suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.2)
    raise AssertionError(f"{url} doesn't answer")
