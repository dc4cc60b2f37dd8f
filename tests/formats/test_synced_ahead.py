"""The disk takes what was written while more is written; if it can't, the commit fails."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions, Writer
from convkit.errors import ConvkitError
from convkit.files import sync
from convkit.formats import get_format

SPEC = TensorSpec((2, 1 << 18), "float32")


@pytest.fixture(params=["safetensors", "cerebras-h5", "t5x"])
def writer(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    """An output of two leaves of 2 MiB, of which the disk begins to take any one at once."""
    monkeypatch.setattr(sync, "_AHEAD", SPEC.nbytes)
    format_ = get_format(request.param)
    path = tmp_path / f"out{format_.suffixes[0]}" if format_.suffixes else tmp_path / "out"
    opened = format_.create(path, [Leaf("a", SPEC), Leaf("b", SPEC)], WriteOptions(compressor="none"))
    yield opened
    opened.close()


def write(writer: Writer, key: str) -> None:
    """Fill a leaf."""
    writer.write(key, 0, np.arange(SPEC.size, dtype=np.uint32))
    writer.finish(key)


@pytest.mark.parametrize("system", ["Linux", "another", "one that refuses"])
def test_a_leaf_is_begun_before_the_next_one_is_written(
    writer: Writer, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, plain = threading.Event(), sync._sync_file_range()
    assert plain is not None

    def saw(file: int) -> None:
        if os.fstat(file).st_size >= SPEC.nbytes:
            begun.set()

    def begin(file: int, offset: int, nbytes: int, flags: int) -> int:
        if system == "one that refuses":
            return -1
        assert plain(file, offset, nbytes, flags) == 0
        saw(file)
        return 0

    monkeypatch.setattr(sync, "_sync_file_range", lambda: None if system == "another" else begin)
    if system != "Linux":
        monkeypatch.setattr(os, "fsync", saw)
    write(writer, "a")
    assert begun.wait(60)
    write(writer, "b")
    writer.commit()


@pytest.mark.parametrize("system", ["Linux", "another"])
def test_what_a_disk_could_not_take_fails_the_commit(
    writer: Writer, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = os.fsync

    def begin(*_: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    def fsync(file: int) -> None:
        if threading.current_thread().name.startswith("sync"):  # whoever syncs next isn't told of it
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        plain(file)

    monkeypatch.setattr(sync, "_sync_file_range", lambda: begin if system == "Linux" else None)
    monkeypatch.setattr(os, "fsync", fsync)
    write(writer, "a")
    write(writer, "b")
    with pytest.raises(ConvkitError, match="Input/output error"):
        writer.commit()


@pytest.mark.parametrize(("available", "drops"), [(SPEC.nbytes * 5, True), (SPEC.nbytes * 7, False), (None, False)])
def test_what_would_crowd_the_page_cache_leaves_it(
    tmp_path: Path, available: int | None, drops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two leaves are more than a third of what is available, or less."""
    said = tmp_path / "meminfo"
    said.write_text(f"MemTotal: 1 kB\nMemAvailable: {available // 1024} kB\n" if available else "MemTotal: 1 kB\n")
    dropped = []
    plain = os.posix_fadvise

    def fadvise(file: int, offset: int, nbytes: int, advice: int) -> None:
        plain(file, offset, nbytes, advice)
        dropped.append((offset, nbytes, advice))

    monkeypatch.setattr(sync, "_MEMORY", said)
    monkeypatch.setattr(sync, "_LARGE", SPEC.nbytes)
    monkeypatch.setattr(sync, "_AHEAD", SPEC.nbytes)
    monkeypatch.setattr(os, "posix_fadvise", fadvise)
    path = tmp_path / "out.safetensors"
    writer = get_format("safetensors").create(path, [Leaf("a", SPEC), Leaf("b", SPEC)], WriteOptions())
    write(writer, "a")
    write(writer, "b")
    writer.commit()
    writer.close()
    assert set(dropped) == ({(0, 0, os.POSIX_FADV_DONTNEED)} if drops else set())
    with get_format("safetensors").open(path) as found:
        assert found.read("b", 0, SPEC.size).tobytes() == np.arange(SPEC.size, dtype=np.uint32).tobytes()
