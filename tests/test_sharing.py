"""Files are copied byte by byte by whatever way the file system offers, and room is reserved where it can be."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.errors import ConvkitError
from convkit.files import sharing
from convkit.formats import get_format, open_checkpoint

SIZES = [0, 1, (1 << 20) - 1, (3 << 20) + 5]


def answering(code: int) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.fixture(params=["as it is", "no room can be reserved", "on a server", "on a server that can't copy"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the file system can; of those that aren't here only the answers."""
    if request.param == "no room can be reserved":
        monkeypatch.setattr(os, "posix_fallocate", answering(errno.EOPNOTSUPP))
    if "server" in request.param:
        monkeypatch.setattr(sharing, "on_server", lambda path: True)
    if "can't copy" in request.param:
        monkeypatch.setattr(os, "copy_file_range", answering(errno.EXDEV))
    return str(request.param)


@pytest.mark.usefixtures("disk")
@pytest.mark.parametrize("size", SIZES)
def test_a_copy_has_the_same_bytes(size: int, tmp_path: Path) -> None:
    source, target, seen = tmp_path / "a", tmp_path / "b", list[int]()
    data = np.random.default_rng(size).bytes(size)
    source.write_bytes(data)
    target.write_bytes(bytes(5 << 20))  # longer than the copy
    sharing.copy_file(source, target, seen.append)
    assert target.read_bytes() == data
    assert sum(seen) == size
    assert not target.samefile(source)


def test_this_disk_is_no_server(tmp_path: Path) -> None:
    assert not sharing.on_server(tmp_path)


def test_a_full_disk_is_told_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    monkeypatch.setattr(os, "posix_fallocate", answering(errno.ENOSPC))
    monkeypatch.setattr(os, "pwrite", lambda *_: pytest.fail("it is written"))
    monkeypatch.setattr(sharing, "_cloned", lambda old, new: False)
    with pytest.raises(OSError, match="No space left"):
        sharing.copy_file(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ConvkitError, match="No space left on device"):
        written(tmp_path / "model.safetensors")


def test_an_output_on_a_disk_that_reserves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", answering(errno.EOPNOTSUPP))
    written(tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path / "model.safetensors") as made:
        np.testing.assert_array_equal(made.read("w"), np.arange(1000, dtype="uint16"))


def written(path: Path) -> None:
    writer = get_format("safetensors").create(path, [Leaf("w", TensorSpec((10, 100), "float16"))], WriteOptions())
    writer.write("w", 0, np.arange(1000, dtype="uint16"))
    writer.finish("w")
    writer.commit()
    writer.close()
