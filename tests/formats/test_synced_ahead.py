"""What was written is synced while more is written; a disk that can't take it fails the commit."""

from __future__ import annotations

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
    """An output of two leaves of 2 MiB, of which any one is synced ahead."""
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


def of_thread_ahead() -> bool:
    """Whether this is the thread that syncs ahead."""
    return threading.current_thread().name.startswith("sync")


def test_a_leaf_is_on_the_disk_before_the_next_one_is_written(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, plain = threading.Event(), os.fsync

    def fsync(file: int) -> None:
        plain(file)
        if of_thread_ahead() and os.fstat(file).st_size >= SPEC.nbytes:
            synced.set()

    monkeypatch.setattr(os, "fsync", fsync)
    write(writer, "a")
    assert synced.wait(60)
    write(writer, "b")
    writer.commit()


def test_what_a_disk_could_not_take_fails_the_commit(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.fsync

    def fsync(file: int) -> None:
        if of_thread_ahead():  # the kernel tells of it once: whoever syncs next isn't told
            raise OSError(errno.EIO, "Input/output error")
        plain(file)

    monkeypatch.setattr(os, "fsync", fsync)
    write(writer, "a")
    write(writer, "b")
    with pytest.raises(ConvkitError, match="Input/output error"):
        writer.commit()
