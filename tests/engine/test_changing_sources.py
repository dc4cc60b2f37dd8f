"""A source that changes while it is read fails the conversion, and nothing is published."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.execute import convert
from convkit.files.unchanged import Watch
from convkit.formats.cerebras_h5.writer import CerebrasWriter
from convkit.generate.old_mdl import write_old
from convkit.mapping import Verbatim
from convkit.plan import make_plan, open_source
from engine.disk import converted, everything_below, write
from engine.memory import mapping_of

MAPPING = mapping_of(Verbatim("{n:a|b}"))
WEIGHTS = "model.safetensors"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    leaves = {name: np.arange(1000, dtype="float32") for name in "ab"}
    return write(tmp_path / "source", leaves, {"layers": 2}, shard_size=5000)


def write_into(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(-4, os.SEEK_END)
        opened.write(b"edit")


def with_the_same_time(file: Path) -> None:
    time = file.stat().st_mtime_ns
    write_into(file)
    os.utime(file, ns=(time, time))


def replaced(file: Path) -> None:
    shutil.copy2(file, file.parent / "new")
    (file.parent / "new").rename(file)


@pytest.mark.parametrize("change", [write_into, with_the_same_time, replaced, Path.unlink])
@pytest.mark.parametrize("name", ["model-00002-of-00002.safetensors", "model.safetensors.index.json", "config.json"])
def test_nothing_is_published(source: Path, tmp_path: Path, name: str, change: Callable[[Path], object]) -> None:
    file, before = source / name, everything_below(tmp_path)

    def once(done: int, total: int | None) -> None:
        if file.exists() and file.read_bytes() == before[f"source/{name}"] and file.stat().st_ino == inode:
            change(file)

    inode = file.stat().st_ino
    says = "(is gone since|.*No such file|.*vanished while)" if change is Path.unlink else "(changed|.*was replaced)"
    with pytest.raises(ConvkitError, match=f"{name}: {says}"):
        converted(source, tmp_path / "target", MAPPING, progress=once)
    assert {path.name for path in tmp_path.iterdir()} == {"source"}


@pytest.mark.parametrize(("format", "key"), [("orbax-v0", "a"), ("orbax-v1", "a"), ("pax", "mdl_vars.a")])
def test_the_files_of_a_database(tmp_path: Path, format: str, key: str) -> None:
    """Pax and Orbax keep arrays in a database: its manifest and its data count, and a receipt lists them."""
    mapping = mapping_of(Verbatim("{n:*}"))
    made = write(
        tmp_path / "checkpoint", {key: np.arange(9000, dtype="float32")}, format=format.replace("pax", "orbax-v0")
    )
    found = converted(made, tmp_path / "target", mapping)["source"]
    assert found["format"] == format
    listed = {entry["name"] for entry in found["files"]}
    files = {file.relative_to(made).as_posix(): file for file in made.rglob("*") if file.is_file()}
    databases = {name for name in files if "/d/" in f"/{name}" or files[name].name in ("manifest.ocdbt", "_METADATA")}
    assert len(databases) > 2
    assert databases <= listed
    for name in databases:
        with pytest.raises(ConvkitError, match=f"{name}: changed while it was read"):
            converted(made, tmp_path / "other", mapping, progress=lambda *_, name=name: os.utime(files[name]))
        assert not (tmp_path / "other").exists()


def test_a_change_between_planning_and_reading(source: Path, tmp_path: Path) -> None:
    with open_source(source) as opened:
        plan = make_plan(opened, MAPPING)
        write_into(source / "model-00001-of-00002.safetensors")
        with pytest.raises(ConvkitError, match="changed while it was read"):
            convert(opened, plan, tmp_path / "target")


def test_what_is_not_read_may_change(source: Path, tmp_path: Path) -> None:
    """Another file of the folder, a new one, and another name for one that is read: a backup makes such links."""
    (source / "training.log").write_text("1")

    def log(done: int, total: int | None) -> None:
        (source / "training.log").write_text("2")
        (source / "checkpoint-2").mkdir(exist_ok=True)
        link = tmp_path / f"backup-{done}"
        if not link.exists():
            link.hardlink_to(source / "model-00001-of-00002.safetensors")

    assert converted(source, tmp_path / "target", MAPPING, progress=log)["target"]["path"] == "target"


def test_a_watch_that_begins_before_the_source_is_opened(source: Path, tmp_path: Path) -> None:
    """What was read in between may be of either."""
    watch = Watch(source)
    write_into(source / "model-00001-of-00002.safetensors")
    with (
        open_source(source, watch=watch) as opened,
        pytest.raises(ConvkitError, match="changed while it was read"),
    ):
        convert(opened, make_plan(opened, MAPPING), tmp_path / "target")


@pytest.mark.parametrize("inplace", [False, True])
def test_a_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], inplace: bool
) -> None:
    file = tmp_path / "old.mdl"
    write_old(file, {"w": np.ones(3), "lr_scheduler": {"last_epoch": 0}, "global_step": 5}, "1.7")
    commit = CerebrasWriter.commit
    monkeypatch.setattr(CerebrasWriter, "commit", lambda self: (write_into(file), commit(self)))
    options = ["--fix_inplace", "--yes"] if inplace else []
    assert main(["cerebras", "fix-checkpoint-spec", str(file), *options]) == 3
    assert "old.mdl: changed while it was read (let nothing write to the source, and start again)" in (
        capsys.readouterr().err
    )
    assert file.read_bytes().endswith(b"edit")
    assert {path.name for path in tmp_path.iterdir()} == {"old.mdl"}
