"""A small whole checkpoint of every format, made anew, and the commands that read it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgpack
import numpy as np

from convkit.cli import main

#: in a command: the checkpoint, and a place to write to
SRC, OUT = "SRC", "OUT"


@dataclass(frozen=True)
class Source:
    """A folder of files that commands read. ``inner`` is what they are given of it; ``files`` are glob patterns of what
    is worth damaging, by default all.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    inner: str = ""
    files: tuple[str, ...] = ("**/*",)


def _read(to: str, suffix: str = "") -> tuple[tuple[str, ...], ...]:
    return (
        ("inspect", SRC, "--digest"),
        ("inspect", SRC, "--json"),
        ("plan", SRC, "--to", to),
        ("convert", SRC, OUT + suffix, "--to", to, "--no-restore"),
        ("diff", SRC, SRC),
    )


_ORBAX = (
    ("inspect", SRC, "--digest"),
    ("orbax", "check", SRC),
    ("orbax", "migrate", SRC, OUT, "--to", "v0", "--no-restore"),
    ("orbax", "migrate", SRC, OUT, "--to", "v1", "--no-restore"),
)
_OLD = (
    ("inspect", SRC, "--digest"),
    ("convert", SRC, OUT, "--to", "hf/llama"),
    ("cerebras", "fix-checkpoint-spec", SRC, "--fixed_checkpoint_path", OUT + ".mdl"),
)

SOURCES = (
    Source("safetensors", _read("cerebras/llama", ".mdl"), files=("*.safetensors",)),
    Source("config", _read("cerebras/llama", ".mdl"), files=("config.json",)),
    Source("sharded", _read("cerebras/llama", ".mdl"), files=("*.index.json", "*-00001-*")),
    Source("zip", _read("cerebras/llama", ".mdl"), files=("*.bin",)),
    Source("legacy", _read("cerebras/llama", ".mdl"), files=("*.bin",)),
    Source("mdl", _read("hf/llama"), inner="m.mdl", files=("m.mdl",)),
    Source("yaml", _read("hf/llama"), inner="m.mdl", files=("*.yaml",)),
    Source("receipt", (("verify", SRC), ("roundtrip", "SRC/../st", SRC)), inner="m.mdl", files=("*.convkit.json",)),
    Source("t5x", _read("te/t5-fused"), files=("checkpoint", "*.scale/*", "*.scale/.zarray")),
    Source("pax", _read("te/pax"), files=("**/metadata/*", "**/*.ln*/.zarray", "**/*.final_ln*/*")),
    Source("orbax0", _ORBAX),
    Source("orbax0-folders", _ORBAX),
    Source("orbax1", _ORBAX),
    Source("flax", _ORBAX, inner="checkpoint_3"),
    Source("old", _OLD, inner="model.mdl", files=("model.mdl", "data_iter/*")),
    Source("fetched", (("fetch", "SRC/../st", SRC), ("convert", SRC, OUT + ".mdl", "--to", "cerebras/llama")),
           inner="here", files=("*.fetch.json",)),
    Source("results", (("report", SRC),), files=("**/*.json",)),
)  # fmt: skip


def make(folder: Path) -> None:
    """Make all sources below a folder, each in one of its name."""

    def run(*words: str | Path) -> None:
        assert main([str(word) for word in words]) == 0, words

    st = folder / "safetensors"
    run("fetch", "generated://llama?layers=1&hidden=12&heads=2&vocab=17", st)
    (folder / "safetensors.fetch.json").unlink(missing_ok=True)
    shutil.copytree(st, folder / "config")
    run("fetch", "generated://llama?layers=1&hidden=12&heads=2&vocab=17&shard_size=4KB", folder / "sharded")
    _torch(st, folder)
    for name in ("mdl", "yaml", "receipt"):
        run("convert", st, folder / name / "m.mdl", "--to", "cerebras/llama")
        if name != "receipt":
            (folder / name / "m.mdl.convkit.json").unlink()
    shutil.copytree(st, folder / "receipt" / "st")
    run("fetch", "generated://t5x?layers=1", folder / "t5x")
    run("fetch", "generated://pax?layers=1", folder / "pax")
    run("fetch", "generated://orbax-v0?steps=1&layers=1", folder / "orbax0")
    run("fetch", "generated://orbax-v0?steps=1&layers=1&ocdbt=false", folder / "orbax0-folders")
    run("orbax", "migrate", folder / "orbax0", folder / "orbax1", "--to", "v1", "--no-restore")
    _flax(folder / "flax")
    run("fetch", "generated://cerebras-old?release=1.7&layers=1&workers=2", folder / "old")
    shutil.copytree(st, folder / "fetched" / "st")
    run("fetch", folder / "fetched" / "st", folder / "fetched" / "here")
    _results(st, folder / "results", run)


def _torch(st: Path, folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    state = {**load_file(st / "model.safetensors"), "step": 3, "notes": {"a": [1, 2.5, None], "b": (True, "x")}}
    for name, zipped in (("zip", True), ("legacy", False)):
        (folder / name).mkdir()
        shutil.copy(st / "config.json", folder / name)
        torch.save(state, folder / name / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)


def _flax(folder: Path) -> None:
    def array(value: np.ndarray) -> msgpack.ExtType:
        return msgpack.ExtType(1, msgpack.packb((value.shape, value.dtype.name, value.tobytes())))

    tree = {
        "step": 3,
        "params": {"dense": {"kernel": np.ones((2, 3), "f4"), "bias": np.zeros(3, "f4")}},
        "opt_state": {"0": {"count": np.int32(1).reshape(())}, "1": {}},
        "note": "x",
        "rate": 0.5,
    }
    folder.mkdir()
    (folder / "checkpoint_3").write_bytes(msgpack.packb(tree, default=array))


def _results(st: Path, folder: Path, run: object) -> None:
    """One conversion and its proofs, as `report` takes it."""
    folder.mkdir()
    import contextlib
    import io

    for name, words in (
        ("plan", ("plan", st, "--to", "cerebras/llama", "--json")),
        ("convert", ("convert", st, folder / "target" / "m.mdl", "--to", "cerebras/llama", "--json")),
        ("roundtrip", ("roundtrip", st, folder / "target" / "m.mdl", "--json")),
    ):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            main([str(word) for word in words])
        (folder / f"{name}.json").write_text(said.getvalue())
        json.loads(said.getvalue())
