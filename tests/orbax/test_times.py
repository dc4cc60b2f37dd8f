"""Times in Orbax checkpoints come from SOURCE_DATE_EPOCH, so that what needs no database has the same bytes twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.errors import UsageError
from convkit.files.clock import now_s
from convkit.formats import get_format


def written(folder: Path, format: str) -> dict[str, bytes]:
    leaf = Leaf("w", TensorSpec((3, 5), "float32"))
    writer = get_format(format).create(folder / "made", [leaf], WriteOptions(ocdbt=False))
    writer.write("w", 0, np.arange(15, dtype=np.uint32))
    writer.finish("w")
    writer.commit()
    writer.close()
    paths = [path for path in (folder / "made").rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("format", ["orbax-v0", "orbax-v1"])
def test_the_same_twice(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    one = written(tmp_path / "one", format)
    assert written(tmp_path / "two", format) == one
    (step,) = (json.loads(data) for name, data in one.items() if name.endswith("_CHECKPOINT_METADATA"))
    assert step["init_timestamp_nsecs"] == step["commit_timestamp_nsecs"] == 1_700_000_000 * 10**9
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert written(tmp_path / "three", format) != one


@pytest.mark.parametrize("said", ["", "soon", "-1", "1.5", "٣"])
def test_what_is_no_time(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", said)
    with pytest.raises(UsageError, match="not a number of seconds"):
        now_s()
