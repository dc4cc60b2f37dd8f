"""A killed repair is resumed: finished work isn't repeated, and the result is the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from convkit.checkpoint import Checkpoint, threads
from convkit.cli import main
from convkit.files.receipt import read_receipt
from convkit.files.staging import Staging
from convkit.formats import open_checkpoint
from convkit.formats.cerebras_h5.writer import CerebrasWriter
from convkit.generate.old_mdl import write_old
from convkit.testing import in_a_process_that_dies

HEAD = "model.lm_head.weight"
FIX = ["cerebras", "fix-checkpoint-spec"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Tensors in chunks, others of another byte order, and a number in a tensor."""
    chance = np.random.default_rng(0)
    plain = {f"plain{n}": chance.random((64, 33), np.float32) for n in range(4)}
    swapped = {f"swapped{n}": chance.random(500).astype(">f8") for n in range(3)}
    weight = chance.random((7, 5), np.float32)
    model = {"embedding_layer.word_embeddings.weight": weight, "lm_head.weight": weight, **plain, **swapped}
    state: dict[str, Any] = {"model": model, "lr_scheduler": {"last_epoch": np.int64(3)}, "global_step": 15}
    write_old(tmp_path / "x.mdl", state, "1.7", [HEAD])
    return tmp_path / "x.mdl"


def contents(path: Path) -> dict[str, Any]:
    with open_checkpoint(path) as checkpoint:
        return {key: held(checkpoint, key) for key in checkpoint.leaves}


def held(checkpoint: Checkpoint, key: str) -> Any:
    leaf = checkpoint.leaves[key]
    return checkpoint.read(key).tobytes() if leaf.spec else leaf.value


def killed(source: Path, target: Path, records: int) -> None:
    """A repair that dies when that many leaves are finished."""

    def work() -> None:
        real = Staging.record

        def dying(self: Staging, entry: dict[str, Any]) -> None:
            real(self, entry)
            made.append(entry["key"])
            if len(made) == records:
                os._exit(0)

        made: list[str] = []
        with patch.object(Staging, "record", dying):
            main([*FIX, str(source), "--fixed_checkpoint_path", str(target)])

    in_a_process_that_dies(work)


@pytest.mark.parametrize("records", [1, 3, 6, 8])
def test_it_goes_on(source: Path, tmp_path: Path, records: int) -> None:
    plain, target = tmp_path / "plain.mdl", tmp_path / "target.mdl"
    assert main([*FIX, str(source), "--fixed_checkpoint_path", str(plain)]) == 0
    killed(source, target, records)
    assert not target.exists()
    with patch.object(CerebrasWriter, "finish", autospec=True, side_effect=CerebrasWriter.finish) as finish:
        assert main([*FIX, str(source), "--fixed_checkpoint_path", str(target)]) == 0
    receipt, other = read_receipt(target) or {}, read_receipt(plain) or {}
    assert receipt["resumed"]
    assert finish.call_count == 8 - records
    assert target.read_bytes() == plain.read_bytes()
    assert contents(target) == contents(source) | {"lr_scheduler.last_epoch": 15}
    assert receipt["target"]["leaves"] == other["target"]["leaves"]
    assert main(["verify", str(target)]) == 0
    assert main(["roundtrip", str(source), str(target)]) == 0


def test_threads_change_no_byte(source: Path, tmp_path: Path) -> None:
    made = []
    for count in (1, 2, 4):
        target = tmp_path / f"{count}.mdl"
        with patch.object(os, "cpu_count", lambda count=count: count), patch.object(threads, "LITTLE", 0):
            assert main([*FIX, str(source), "--fixed_checkpoint_path", str(target)]) == 0
        made.append(target.read_bytes())
    assert made == made[:1] * 3


def test_a_changed_source_starts_afresh(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.mdl"
    killed(source, target, 4)
    os.utime(source, ns=(1, 1))
    assert main([*FIX, str(source), "--fixed_checkpoint_path", str(target)]) == 0
    assert not (read_receipt(target) or {})["resumed"]
    assert main(["roundtrip", str(source), str(target)]) == 0


def test_two_checkpoints_that_look_the_same_are_never_mixed(source: Path, tmp_path: Path) -> None:
    """In the other one, each tensor has other values; path, inode, size and time are the same."""
    target, status = tmp_path / "target.mdl", source.stat()
    killed(source, target, 4)
    data = source.read_bytes()
    with open_checkpoint(source) as checkpoint:
        for key in [key for key, leaf in checkpoint.leaves.items() if leaf.spec]:
            held_as = checkpoint.read(key).tobytes()
            data = data.replace(held_as, held_as[::-1])
    assert data != source.read_bytes()
    source.write_bytes(data)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert main([*FIX, str(source), "--fixed_checkpoint_path", str(target)]) == 0
    receipt = read_receipt(target) or {}
    assert not receipt["resumed"]
    assert [line for line in receipt["warnings"] if "of another source: started afresh" in line]
    assert main(["verify", str(target)]) == 0
    assert main(["roundtrip", str(source), str(target)]) == 0


def test_what_reads_back_otherwise_is_refused(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bit that turns on its way to the disk."""
    target, real = tmp_path / "target.mdl", CerebrasWriter.write

    def turned(self: CerebrasWriter, key: str, start: int, data: np.ndarray) -> None:
        spoiled = data.copy()
        spoiled.view(np.uint8)[0] ^= 1
        real(self, key, start, spoiled)

    with patch.object(CerebrasWriter, "write", turned):
        assert main([*FIX, str(source), "--fixed_checkpoint_path", str(target)]) == 3
    assert "the written file differs from the source (check the disk)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["x.mdl"]
