"""JSON that is none, a way back that Orbax needs help with, and leaves and items that are left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from convkit.cli import main
from convkit.errors import ConvkitError, UsageError
from convkit.migrate.orbax.checks import equivalence, roundtrip
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import Request

Layout = Callable[[str], Path]
ITEMS = "v0_composite_checkpointer"


@pytest.fixture
def step(layout: Layout, tmp_path: Path) -> Path:
    """A step with a pytree, JSON, a random key and an array."""
    return shutil.copytree(layout(ITEMS), tmp_path / "step")


@pytest.mark.parametrize(
    ("file", "data", "says"),
    [
        ("meta/metadata", b"", "is empty, which is not valid JSON .restore .*--drop meta"),
        ("meta/metadata", b'{"a": 1, }', "is not valid JSON: .* --drop meta"),
        ("meta/metadata", b"\xef\xbb\xbf{}", r"starts with a byte order mark \(BOM\)"),
        ("meta/metadata", b"\xff", "is not valid JSON: .* --drop meta"),
        ("_CHECKPOINT_METADATA", b"\xef\xbb\xbf{}", r"starts with a byte order mark \(BOM\)"),
        ("state/_sharding", b"\xef\xbb\xbf{}", r"starts with a byte order mark \(BOM\)"),
        ("state/_sharding", b"", "is empty, which is not valid JSON"),
        ("state/_sharding", b"[]", "doesn't hold a JSON object"),
        ("state/_sharding", b'{"YQ==": 3}', "holds something other than text"),
    ],
)
def test_json_that_is_none_is_one_line_before_anything_is_written(
    step: Path, file: str, data: bytes, says: str
) -> None:
    (step / file).write_bytes(data)
    with pytest.raises(ConvkitError, match=says) as refused:
        migrate(step, step.with_name("out"), Request("v1"), restored=False)
    assert refused.value.path == str(step / file)
    assert main(["orbax", "check", str(step), "-q"]) in (0, 1, 3)


def test_what_the_worker_cannot_read_is_said_as_it_is(step: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It isn't a fault of Orbax's installation."""
    from convkit.migrate.orbax import migrate as module

    restore = module.restore

    def changed_meanwhile(*args: object) -> object:
        (step / "_CHECKPOINT_METADATA").write_bytes(b"[")
        return restore(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "restore", changed_meanwhile)
    with pytest.raises(ConvkitError, match="_CHECKPOINT_METADATA: is not valid JSON") as refused:
        migrate(step, step.with_name("out"), Request("v1"))
    assert "installation" not in str(refused.value)


def test_back_to_what_orbax_alone_cannot_restore(layout: Layout, tmp_path: Path) -> None:
    source = shutil.copytree(layout("v0_direct_standard"), tmp_path / "source")
    (source / "_sharding").unlink()
    migrate(source, tmp_path / "there", Request("v1"), restored=False)
    receipt = migrate(tmp_path / "there", tmp_path / "back", Request("v0"))
    assert receipt["restored"]["problems"] == [] and receipt["restored"]["measured"]["leaves"]
    files = {file.relative_to(source): file.read_bytes() for file in source.rglob("*") if file.is_file()}
    back = tmp_path / "back"
    assert files == {file.relative_to(back): file.read_bytes() for file in back.rglob("*") if file.is_file()}


def test_an_array_without_elements_is_left_out_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "model.safetensors", tmp_path / "out"
    save_file({"w": np.ones(3, np.float32), "lora.A": np.zeros((0, 4), np.float32)}, source)
    command = ["orbax", "migrate", str(source), str(target), "--to", "v1"]
    assert main(command) == 3
    assert "lora.A: is float32[0, 4]: Orbax can't hold arrays without elements" in (error := capsys.readouterr().err)
    assert "--drop" in error
    assert main([*command, "--drop", "lora.*", "--json"]) == 0
    receipt = json.loads(capsys.readouterr().out)
    assert receipt["plan"]["source_leaves"]["lora.A"]["fate"] == "dropped"
    assert list(receipt["plan"]["target_leaves"]) == ["state/w"]
    back = roundtrip(source, target, receipt)
    assert back.passed and back.measured["leaves_dropped"] == 1, back.problems
    assert equivalence(source, target, receipt).passed
    receipt["plan"]["source_leaves"]["lora.A"]["fate"] = "moved"
    assert "lora.A: is missing" in roundtrip(source, target, receipt).problems
    assert main(["convert", str(source), str(tmp_path / "v0"), "--format", "orbax-v0", "--drop", "lora.A"]) == 0


def test_items_and_leaves_are_left_out(step: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (step / "meta" / "metadata").write_text("")
    request = Request("v1", drop=("meta", "step/never", "state/a"))
    with pytest.raises(UsageError, match="--drop step/never: no leaf or item has that name"):
        migrate(step, step.with_name("out"), request, restored=False)
    out = step.with_name("out")
    receipt = migrate(step, out, Request("v1", drop=("meta", "state/a")))
    assert receipt["restored"]["problems"] == []
    assert not (out / "meta").exists()
    assert main(["inspect", str(out), "--json"]) == 0
    keys = {leaf["key"] for leaf in json.loads(capsys.readouterr().out)["leaves"]}
    assert "state/b.c" in keys and "state/a" not in keys
    verdict = roundtrip(step, out, receipt)
    assert verdict.passed, verdict.problems


def test_dropping_everything_is_refused(tmp_path: Path) -> None:
    save_file({"w": np.ones(3, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="every leaf and item is dropped"):
        migrate(tmp_path / "model.safetensors", tmp_path / "out", Request("v1", drop=("*",)), restored=False)
