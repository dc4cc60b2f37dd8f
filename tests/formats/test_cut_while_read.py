"""A file that is cut short, removed or replaced after it was opened: one clear line, and never a signal."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgpack
import numpy as np
import pytest
import torch
from packed_mdl import pack

from convkit.checkpoint import Checkpoint, Leaf, TensorSpec, WriteOptions
from convkit.errors import ConvkitError
from convkit.formats import get_format, open_checkpoint
from convkit.testing import Sample, bits, write

#: a tensor that no small buffer holds
SPEC = TensorSpec((256, 1024), "float32")
KEY = "target.w.kernel"


def written(format: str, **options: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        sample = Sample((Leaf(KEY, SPEC),), {KEY: bits(SPEC, 0)})
        suffix = {"safetensors": ".safetensors", "torch": ".pt", "cerebras-h5": ".mdl"}.get(format, "")
        return write(get_format(format), folder / f"left{suffix}", sample, Random(0), options=WriteOptions(**options))

    return make


def torch_file(zipped: bool, turned: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        array = torch.arange(SPEC.size, dtype=torch.float32).reshape(SPEC.shape)
        state = {KEY: array.T if turned else array}
        torch.save(state, folder / "left.pt", _use_new_zipfile_serialization=zipped)
        return folder / "left.pt"

    return make


def packed(folder: Path) -> Path:
    return pack(written("cerebras-h5")(folder))


def flax(folder: Path) -> Path:
    def encoded(array: np.ndarray) -> msgpack.ExtType:
        return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))

    array = np.arange(SPEC.size, dtype=np.float32).reshape(SPEC.shape)
    path = folder / "checkpoint_1"
    path.write_bytes(msgpack.packb({"target": {"w": {"kernel": array}}}, default=encoded, strict_types=True))
    return path


MADE = {
    "safetensors": written("safetensors"),
    "torch": written("torch"),
    "torch, turned": torch_file(True, True),
    "torch before 1.6": torch_file(False, False),
    "mdl, packed": packed,
    "mdl, in one piece": written("cerebras-h5"),
    "t5x, gzip": written("t5x"),
    "t5x, raw": written("t5x", compressor="none"),
    "orbax-v0": written("orbax-v0"),
    "orbax-v1": written("orbax-v1"),
    "pax": written("pax"),
    "flax": flax,
}


def opened(path: Path) -> Checkpoint:
    checkpoint = open_checkpoint(path)
    assert list(checkpoint.leaves) == [KEY]
    return checkpoint


def data_file(checkpoint: Checkpoint) -> Path:
    path = checkpoint.path
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return max(files, key=lambda file: file.stat().st_size)


@pytest.mark.parametrize("made", MADE)
def test_a_file_that_is_cut_short(made: str, tmp_path: Path) -> None:
    with opened(MADE[made](tmp_path)) as checkpoint:
        file = data_file(checkpoint)
        os.truncate(file, file.stat().st_size // 2)
        with pytest.raises(ConvkitError) as refusal:
            checkpoint.read(KEY)
    assert refusal.value.exit_code == 3 and refusal.value.remedy
    assert str(tmp_path) in str(refusal.value) and "\n" not in str(refusal.value)
    assert KEY in str(refusal.value)


@pytest.mark.parametrize("made", ["safetensors", "torch", "torch, turned", "mdl, in one piece", "t5x, raw", "flax"])
def test_the_line_says_what_happened(made: str, tmp_path: Path) -> None:
    with opened(MADE[made](tmp_path)) as checkpoint:
        file = data_file(checkpoint)
        os.truncate(file, file.stat().st_size // 2)
        line = f"{re.escape(str(file))}: {KEY}: was truncated while it was read: .* let nothing write to it"
        with pytest.raises(ConvkitError, match=line):
            checkpoint.read(KEY)


@pytest.mark.parametrize("made", ["safetensors", "t5x, raw", "flax"])
def test_a_file_that_vanishes_before_it_is_read(made: str, tmp_path: Path) -> None:
    with opened(MADE[made](tmp_path)) as checkpoint:
        data_file(checkpoint).unlink()
        with pytest.raises(ConvkitError, match=rf"{KEY}: vanished while it was read \(fetch it again"):
            checkpoint.read(KEY)


def test_what_was_read_once_is_the_same_file_to_the_end(tmp_path: Path) -> None:
    """Another file under its name isn't read, as long as the first is open."""
    path = MADE["safetensors"](tmp_path)
    with opened(path) as checkpoint:
        first = checkpoint.read(KEY, 0, 4).tolist()
        path.rename(tmp_path / "old")
        path.write_bytes(bytes(path.with_name("old").stat().st_size))
        assert checkpoint.read(KEY, 0, 4).tolist() == first
        checkpoint.close()
        with pytest.raises(ConvkitError, match="was replaced by another file while it was read"):
            checkpoint.read(KEY)
