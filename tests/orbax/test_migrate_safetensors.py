"""Safetensors, which Orbax's v1 API reads as one flat tree, become a checkpoint of either API."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from convkit.errors import ConvkitError
from convkit.files.receipt import read_receipt
from convkit.formats.orbax.reader import open_orbax
from convkit.migrate.orbax import checks
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import Request

Layout = Callable[[str], Path]


@pytest.mark.parametrize("to", ["v0", "v1"])
@pytest.mark.parametrize("source", ["safetensors_dir", "safetensors_dir/model.safetensors"])
def test_the_real_orbax_restores_the_flat_tree(layout: Layout, tmp_path: Path, source: str, to: str) -> None:
    target = tmp_path / "target"
    receipt = migrate(layout(source), target, Request(to))
    assert receipt["restored"]["measured"] == {**receipt["restored"]["measured"], "leaves": 3, "different": 0}
    with open_orbax(target) as opened:
        assert set(opened.leaves) == {"a", "b.c", "e"}
    assert json.loads((target / "_CHECKPOINT_METADATA").read_text())["custom_metadata"] == {"format": "np"}
    verdict = checks.roundtrip(layout(source), target, read_receipt(target) or {})
    assert verdict.passed
    assert verdict.measured["leaves_written_anew"] == 3


def test_what_lies_beside_is_told_and_a_tensor_twice_is_refused(layout: Layout, tmp_path: Path) -> None:
    source = shutil.copytree(layout("safetensors_dir"), tmp_path / "source")
    (source / "config.json").write_text("{}")
    receipt = migrate(source, tmp_path / "target", Request("v1"), restored=False)
    assert receipt["parts"][0]["left_out"] == {"config.json": "isn't a safetensors file"}
    shutil.copy(source / "model.safetensors", source / "again.safetensors")
    with pytest.raises(ConvkitError, match="lies in several files"):
        migrate(source, tmp_path / "twice", Request("v1"), restored=False)
    assert not (tmp_path / "twice").exists()


@pytest.mark.parametrize("asked", [Request("v1", "rewrite"), Request("v1", dual=True)])
def test_there_and_back_within_one_api(layout: Layout, tmp_path: Path, asked: Request) -> None:
    source, target = layout("v1_save"), tmp_path / "target"
    receipt = migrate(source, target, asked, restored=False)
    assert checks.roundtrip(source, target, receipt).passed


def test_a_file_of_flax_becomes_a_checkpoint_of_v0(tmp_path: Path) -> None:
    """v0 is the API that flax's own checkpoints were of, and doesn't read this file."""
    file = tmp_path / "checkpoint_10"
    file.write_bytes(b"\x81\xa1a\x92\x01\xcb\x3f\xf8" + bytes(6))
    receipt = migrate(file, tmp_path / "target", Request("v0"))
    assert receipt["restored"]["measured"]["leaves"] == 2
    assert receipt["restored"]["measured"]["different"] == 0
    assert checks.roundtrip(file, tmp_path / "target", receipt).passed
