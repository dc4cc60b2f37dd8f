"""Unchanged leaves cost a copy of their files; a killed conversion is resumed; receipts name files."""

from __future__ import annotations

import hashlib
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine.disk import converted, everything_below
from te_runs import arrays, unpacked

from convkit.checkpoint import WriteOptions
from convkit.checkpoint.digests import digest_array
from convkit.cli import main
from convkit.files.receipt import receipt_path
from convkit.files.staging import Staging
from convkit.formats.arrays.folders import LeafFolderWriter
from convkit.testing import in_a_fresh_process_that_dies
from convkit.verify.receipts import verify

pytestmark = pytest.mark.golden

FUSED = "te/t5-fused"


def t5x() -> Path:
    return next(iter((unpacked("sources") / "t5x_adamw").iterdir()))


def folders(path: Path) -> dict[str, str]:
    """A digest of each leaf's files, names and bytes."""
    return {
        leaf.name: hashlib.sha256(repr(sorted(everything_below(leaf).items())).encode()).hexdigest()
        for leaf in path.iterdir()
        if leaf.is_dir()
    }


def test_untouched_leaves_are_the_same_files(tmp_path: Path) -> None:
    receipt = converted(t5x(), tmp_path / "te", FUSED)
    source, target = folders(t5x()), folders(tmp_path / "te")
    steps = [step for step in receipt["plan"]["steps"] if len(step["sources"]) == len(step["targets"]) == 1]
    moved = {step["targets"][0]["key"]: step["sources"][0]["key"] for step in steps}
    names = [key for key in target if key in moved]
    assert any(key.endswith("wo_kernel") for key in names) and len(names) > 60
    assert {key: target[key] for key in names} == {key: source[moved[key]] for key in names}
    for key, array in arrays(tmp_path / "te").items():
        assert receipt["target"]["leaves"][key]["digest"] == digest_array("xxh3-128", array), key


def test_another_compressor_is_written(tmp_path: Path) -> None:
    converted(t5x(), tmp_path / "te", FUSED, options=WriteOptions(compressor="zstd"))
    found = {json.loads(path.read_text())["compressor"]["id"] for path in (tmp_path / "te").glob("*/.zarray")}
    assert found == {"zstd"}


def _until(at: int, source: Path, target: Path) -> None:
    """Convert, and die at the step of that number: a leaf copied or finished, or noted as such."""
    count = 0

    def counting(real: Any) -> Any:
        def step(*args: Any) -> Any:
            nonlocal count
            result = real(*args)
            count += 1
            if count == at:
                os._exit(0)
            return result

        return step

    for owner, name in ((LeafFolderWriter, "copy_leaf"), (LeafFolderWriter, "finish"), (Staging, "record")):
        setattr(owner, name, counting(getattr(owner, name)))
    converted(source, target, FUSED, threads=1)


@pytest.mark.parametrize("at", [1, 2, 40, 41, 163, 230])
def test_killed_and_run_again(at: int, tmp_path: Path) -> None:
    in_a_fresh_process_that_dies(partial(_until, at, t5x(), tmp_path / "te"))
    assert not (tmp_path / "te").exists()
    assert converted(t5x(), tmp_path / "te", FUSED)["resumed"]
    converted(t5x(), tmp_path / "plain", FUSED)
    assert everything_below(tmp_path / "te") == everything_below(tmp_path / "plain")
    np.testing.assert_equal(arrays(tmp_path / "te"), arrays(tmp_path / "plain"))
    assert verify(tmp_path / "te").passed


class TestReceipts:
    def test_files_are_named_by_their_paths(self, tmp_path: Path) -> None:
        receipt = converted(t5x(), tmp_path / "te", FUSED)
        for side, path in (("source", t5x()), ("target", tmp_path / "te")):
            names = {entry["name"]: entry["bytes"] for entry in receipt[side]["files"]}
            assert names == {name: len(data) for name, data in everything_below(path).items()}
        verdict = verify(tmp_path / "te")
        assert verdict.passed, verdict.problems

    def test_a_file_that_is_gone_is_found(self, tmp_path: Path) -> None:
        converted(t5x(), tmp_path / "te", FUSED)
        (tmp_path / "te" / "target.decoder.logits_dense.kernel" / ".zarray").rename(tmp_path / "kept")
        assert "target.decoder.logits_dense.kernel/.zarray: the file is missing" in verify(tmp_path / "te").problems

    def test_an_old_receipt_named_them_without_folders(self, tmp_path: Path) -> None:
        converted(t5x(), tmp_path / "te", FUSED)
        path = receipt_path(tmp_path / "te")
        receipt = json.loads(path.read_text())
        receipt["target"]["files"] = [{**file, "name": Path(file["name"]).name} for file in receipt["target"]["files"]]
        path.write_text(json.dumps({name: receipt[name] for name in receipt if name not in ("written", "digest")}))
        assert verify(tmp_path / "te").passed
        back = ["te", f"--input-path={tmp_path / 'te'}", f"--output-path={tmp_path / 'back'}", "--fw=t5x"]
        assert main([*back, "--direction=te2fw"]) == 0
        (tmp_path / "te" / "target.decoder.logits_dense.kernel" / "0.0").unlink()
        found = [problem for problem in verify(tmp_path / "te").problems if problem.startswith("0.0: 1 files of ")]
        assert len(found) == 1
