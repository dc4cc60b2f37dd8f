"""A flipped bit is found by ``verify``, wherever it is in what was written: any file of the set, and the receipt."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from corruption import copy
from once import once
from recorded import HERE

from convkit.checkpoint import TensorSpec
from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.files.receipt import complement_path
from convkit.generate.old_mdl import write_old
from convkit.verify.receipts import verify

LLAMA = HERE / "llama_gqa" / "hf"


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def convert(folder: Path, name: str, *words: str) -> None:
    """A conversion of a model with companions."""
    source = folder / "source"
    if not source.exists():
        shutil.copytree(LLAMA, source)
        (source / "tokenizer.json").write_text('{"version": "1.0", "added_tokens": []}')
    run("convert", source, folder / "made" / name, *words)


def converted(folder: Path) -> None:
    """A conversion of a training, which keeps a complement; the source lies elsewhere."""
    run("convert", LLAMA, folder / "plain.mdl", "--to", "cerebras/llama")
    rest = np.arange(5000, dtype=np.uint32)
    extra = {"optimizer.state.0": (TensorSpec((5000,), "float32"), rest), "global_step": 7}
    source = copy(folder / "plain.mdl", folder / "source.mdl", extra=extra)
    shutil.copyfile(folder / "plain.yaml", source.with_suffix(".yaml"))
    run("convert", source, folder / "made" / "t", "--to", "hf/llama", "--shard-size", "20KB")
    assert complement_path(folder / "made" / "t").is_file()


def repaired(folder: Path) -> None:
    state = {"model": {"w": np.ones((64, 64), "f4"), "b": np.zeros(3)}, "lr_scheduler": {"last_epoch": 1}}
    write_old(folder / "old.mdl", {**state, "global_step": 15}, "1.7")
    (folder / "old.yaml").write_text("model:\n  name: llama\n")
    run("cerebras", "fix-checkpoint-spec", folder / "old.mdl", "--fixed_checkpoint_path", folder / "made" / "t.mdl")


def migrated(folder: Path, *words: str) -> None:
    pytest.importorskip("orbax.checkpoint")
    run("fetch", "generated://orbax-v0", folder / "source")
    run("orbax", "migrate", folder / "source", folder / "made" / "t", "--to", "v1", "--no-restore", *words)


CEREBRAS = ("--to", "cerebras/llama", "--format")
KINDS: dict[str, Callable[[Path], None]] = {
    "safetensors": lambda folder: convert(folder, "t", *CEREBRAS, "safetensors"),
    "one file of safetensors": lambda folder: convert(folder, "t.safetensors", *CEREBRAS, "safetensors"),
    "shards of torch": lambda folder: convert(folder, "t", *CEREBRAS, "torch", "--shard-size", "20KB"),
    "one file of torch": lambda folder: convert(folder, "t.pt", *CEREBRAS, "torch"),
    "cerebras-h5": lambda folder: convert(folder, "t.mdl", *CEREBRAS, "cerebras-h5"),
    "t5x": lambda folder: convert(folder, "t", *CEREBRAS, "t5x"),
    "pax": lambda folder: convert(folder, "t", *CEREBRAS, "pax"),
    "orbax-v0": lambda folder: convert(folder, "t", *CEREBRAS, "orbax-v0"),
    "orbax-v1": lambda folder: convert(folder, "t", *CEREBRAS, "orbax-v1"),
    "shards and a complement": converted,
    "a repair": repaired,
    "a migration by links": migrated,
    "a migration by copies": lambda folder: migrated(folder, "--copy"),
    "a migration that rewrites arrays": lambda folder: migrated(folder, "--zarr", "2", "--ocdbt", "off"),
    "a migration for both": lambda folder: migrated(folder, "--dual"),
}


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder with nothing but a target and what was written beside it."""

    def make(folder: Path) -> None:
        (folder / "made").mkdir()
        KINDS[request.param](folder)

    folder = once(f"flipped-{list(KINDS).index(request.param)}", make)
    shutil.copytree(folder / "made", tmp_path / "made")
    return tmp_path / "made"


def target_in(folder: Path) -> Path:
    (receipt,) = folder.glob("*.convkit.json")
    return folder / receipt.name.removesuffix(".convkit.json")


def unnoticed(folder: Path, number: int, seed: int) -> list[str]:
    """Flip as many bits, one after the other, half of them in any byte and half in any file; which weren't noticed."""
    target, rng = target_in(folder), random.Random(seed)
    assert verify(target).passed
    files = {path: path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size}
    missed = []
    for turn in range(number):
        (path,) = rng.choices(list(files), list(files.values()) if turn % 2 else None)
        at, bit = rng.randrange(files[path]), 1 << rng.randrange(8)
        _flip(path, at, bit)
        try:
            caught = not verify(target).passed
        except ConvkitError:
            caught = True
        if not caught:
            missed.append(f"{path.relative_to(folder)}: byte {at}, bit {bit}")
        _flip(path, at, bit)
    assert verify(target).passed
    return missed


def _flip(path: Path, at: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ bit]))


def test_a_few_flipped_bits_are_all_found(made: Path) -> None:
    assert unnoticed(made, 4, seed=9) == []


@pytest.mark.slow
def test_a_thousand_flipped_bits_are_all_found(made: Path) -> None:
    assert unnoticed(made, -(-1000 // len(KINDS)), seed=1) == []


def test_other_damage_to_files_is_found_and_named(made: Path) -> None:
    """Each file cut, grown, gone, renamed, or exchanged with another; and one more."""
    target = target_in(made)
    files = [path for path in sorted(made.rglob("*")) if path.is_file() and not path.name.endswith(".convkit.json")]
    for path in random.Random(3).sample(files, min(2, len(files))):
        size, away = path.stat().st_size, path.with_name("away")
        with path.open("ab") as file:
            file.write(b"\0")
        assert found(target, path)
        os.truncate(path, size)
        if size:
            last = path.read_bytes()[-1:]
            os.truncate(path, size - 1)
            assert found(target, path)
            with path.open("ab") as file:
                file.write(last)
        path.rename(away)
        assert found(target, path)
        away.rename(path)
    if target.is_dir():
        (target / "more").write_bytes(b"")
        assert "more: is not in the receipt" in verify(target).problems
        (target / "more").unlink()
    one, other = files[0], next((path for path in files[1:] if path.read_bytes() != files[0].read_bytes()), files[0])
    if one != other:
        exchange(one, other)
        assert found(target, one) and found(target, other)
        exchange(one, other)
    assert verify(target).passed


def found(target: Path, path: Path) -> bool:
    """Whether the file is named, or where it is the target itself, that it isn't there."""
    name = path.relative_to(target).as_posix() if target in path.parents else path.relative_to(target.parent).as_posix()
    try:
        return any(line.startswith(f"{name}: ") for line in verify(target).problems)
    except ConvkitError as error:
        return not path.exists() and "no such file" in str(error)


def exchange(one: Path, other: Path) -> None:
    away = one.with_name("away")
    one.rename(away)
    other.rename(one)
    away.rename(other)
