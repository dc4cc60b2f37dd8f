"""A checkpoint that can't be migrated gives one line with the remedy, and leaves nothing behind."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import Request

Layout = Callable[[str], Path]


def refused(source: Path, target: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Exit code and the one line, after a command that must leave nothing."""
    before = sorted(path.name for path in target.parent.iterdir())
    code = main(["orbax", "migrate", str(source), str(target), "--no-restore", *options])
    assert sorted(path.name for path in target.parent.iterdir()) == before
    captured = capsys.readouterr()
    assert not captured.out
    (line,) = captured.err.splitlines()
    return code, line


def without(folder: str) -> Callable[[Path], None]:
    return lambda source: shutil.rmtree(source / folder)


def missing(file: str) -> Callable[[Path], None]:
    return lambda source: (source / file).unlink()


def cut(file: str) -> Callable[[Path], None]:
    return lambda source: (source / file).write_bytes((source / file).read_bytes()[:-3])


def written(file: str, text: str) -> Callable[[Path], None]:
    def write(source: Path) -> None:
        (source / file).write_text(text)

    return write


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("v0_direct_standard", without("d"), "d is missing (fetch the checkpoint again)"),
        ("v0_direct_standard", missing("manifest.ocdbt"), "manifest.ocdbt is missing (the save was interrupted"),
        ("v0_direct_noocdbt_zarr2", cut("b.c/0.0"), "is truncated or corrupt: "),
        ("v0_direct_noocdbt_zarr2", missing("b.c/0.0"), "b.c: chunk 0.0 is missing (fetch the file again)"),
        ("v1_save_noocdbt", missing("state/a/zarr.json"), "a: its array is missing"),
        (
            "v0_composite_checkpointer",
            without("rng/jax_random_key"),
            "doesn't hold a random key (fetch the checkpoint again)",
        ),
        ("v1_save", written("_CHECKPOINT_METADATA", '{"x"'), "is not valid JSON"),
        ("v1_save", written("state/_METADATA", '{"tree_metadata": {"a": 3}}'), "a: isn't an entry of a tree"),
        ("v1_save", missing("state/_METADATA"), "_METADATA is missing, and nothing else lists the leaves"),
    ],
)
def test_damaged(
    layout: Layout,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    name: str,
    damage: Callable[[Path], None],
    says: str,
) -> None:
    source = tmp_path / "source"
    shutil.copytree(layout(name), source)
    damage(source)
    code, line = refused(source, tmp_path / "target", capsys, "--to", "v0" if name.startswith("v1") else "v1")
    assert code == 3
    assert says in line


@pytest.mark.parametrize(
    ("source", "options", "code", "says"),
    [
        (
            "v0_manager_root/1234",
            ("--to", "v1", "--step", "3"),
            2,
            "isn't a root: --step 3 (leave --step out, or name the root)",
        ),
        ("v0_manager_root", ("--to", "v1", "--step", "3"), 2, "has no step 3 (its steps: 0, 1234)"),
        ("v1_save", ("--to", "v1"), 2, "is already a v1 checkpoint (name the other API with --to"),
        ("v1_save", (), 2, "--to is missing"),
        (
            "v1_save",
            ("--to", "v0", "--mode", "metadata", "--zarr", "2"),
            2,
            "--mode metadata leaves arrays as they are",
        ),
        ("v1_save", ("--to", "v0", "--compressor", "lzma"), 2, "no compressor is called 'lzma'"),
        (
            "v0_legacy_msgpack_only",
            ("--to", "v1", "--mode", "metadata"),
            3,
            "must be rewritten: leaves lie in the file",
        ),
        ("v0_same_names", ("--to", "v1"), 3, "a.b: is the storage name of two leaves"),
        ("nope", ("--to", "v1"), 3, "no such file or folder (check the path)"),
    ],
)
def test_wrong_requests(
    layout: Layout,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    source: str,
    options: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    found, line = refused(layout(source), tmp_path / "target", capsys, *options)
    assert (found, says in line) == (code, True), line


def test_unfinished_saves(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(layout("v0_direct_standard"), tmp_path / "root" / "3.orbax-checkpoint-tmp-12")
    for source, says in (
        (tmp_path / "root", "holds only an unfinished save, 3.orbax-checkpoint-tmp-12 (save the checkpoint again)"),
        (
            tmp_path / "root" / "3.orbax-checkpoint-tmp-12",
            "is an unfinished save (name a checkpoint that was saved completely)",
        ),
    ):
        code, line = refused(source, tmp_path / "target", capsys, "--to", "v1")
        assert (code, says in line) == (3, True), line


def test_targets(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    shutil.copytree(layout("v1_save"), source)
    (tmp_path / "there").mkdir()
    for target, options, says in (
        (tmp_path / "there", (), "exists (name another target, or say --overwrite)"),
        (tmp_path / "there", ("--overwrite",), "is a folder that convkit didn't write (remove it yourself, or name"),
        (source / "inside", (), "lies inside the source (name a target elsewhere)"),
        (source, ("--overwrite",), "is the source, or holds it (name another target)"),
    ):
        code, line = refused(source, target, capsys, "--to", "v0", *options)
        assert (code, says in line) == (2, True), line
    assert main(["orbax", "migrate", str(source), str(tmp_path / "made"), "--to", "v0", "--no-restore"]) == 0
    command = ["orbax", "migrate", str(source), str(tmp_path / "made"), "--to", "v0", "--no-restore", "--overwrite"]
    assert main(command) == 0


@pytest.mark.parametrize("mode", ["metadata", "rewrite"])
def test_a_full_disk(tmp_path: Path, mode: str) -> None:
    """A limit on the length of files does what a full disk does."""
    ocp = pytest.importorskip("orbax.checkpoint")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "source", {"noise": np.random.default_rng(0).normal(size=60_000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        with pytest.raises(ConvkitError, match=r"can't be written: .*\("):
            migrate(tmp_path / "source", tmp_path / "target", Request("v1", mode, copy=True), restored=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
