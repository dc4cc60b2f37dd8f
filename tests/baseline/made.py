"""A campaign of one row by a mapping of its own, whose rules a test can change as a release of its package would."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from convkit.cli import main
from convkit.config import ConfigTable, Field
from convkit.mapping import Layout, Mapping, Rule
from convkit.mapping.ops import Scale
from convkit.mappings import look_again

LEFT = Layout("slate/model", "a model", "safetensors", "slate.json", signature=({"kind": "slate"},))
RIGHT = Layout("chalk/model", "the same in chalk", "safetensors", "chalk.json", signature=({"kind": "chalk"},))
CONFIG = ConfigTable((Field("kind", "kind", values=(("slate", "chalk"),)), Field("layers", "rows", "layers")))
#: one rule of which is changed on purpose
KERNEL = Rule("layer.{i}.kernel", "row.{i}.kernel", "a b -> b a")
TURNED = Rule("layer.{i}.kernel", "row.{i}.kernel", "a (half c) -> (c half) a", half=2)
#: one ulp of float32 near one
GAIN = Rule("layer.{i}.gain", "row.{i}.gain")
SCALED = Rule("layer.{i}.gain", "row.{i}.gain", ops=(Scale(1 + 2.0**-23),))


def mapping(*rules: Rule) -> Mapping:
    return Mapping(LEFT, RIGHT, rules, CONFIG, axes={"i": "layers"})


@contextmanager
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, *rules: Rule) -> Iterator[None]:
    """Have a package installed that brings the mapping with these rules."""
    metadata = folder / "slate_for_convkit-1.0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: slate-for-convkit\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[convkit.mappings]\nslate = slate_for_convkit:MAPPING\n")
    module = ModuleType("slate_for_convkit")
    module.__dict__["MAPPING"] = mapping(*rules)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setitem(sys.modules, module.__name__, module)
        look_again()
        yield
    look_again()


def source(folder: Path) -> Path:
    """A checkpoint of two layers."""
    made, random = folder / "slate", np.random.default_rng(0)
    made.mkdir()
    tensors = {f"layer.{i}.kernel": random.standard_normal((3, 4)).astype("float32") for i in range(2)}
    gains = {f"layer.{i}.gain": np.linspace(1.0, 1.5, 5, dtype="float32") for i in range(2)}
    save_file(tensors | gains, made / "model.safetensors")
    (made / "slate.json").write_text(json.dumps({"kind": "slate", "layers": 2}))
    return made


def convert(capsys: pytest.CaptureFixture[str], slate: Path, results: Path) -> None:
    """A campaign of one row, of which no model is run."""
    row = results / "model"
    (row / "logs").mkdir(parents=True)
    (results / "checkpoints.tsv").write_text(f"id\tsource\tto\tchecks\nmodel\t{slate}\tchalk/model\troundtrip\n")
    for stage, words in (("convert", ["--to", "chalk/model"]), ("roundtrip", [])):
        capsys.readouterr()
        assert main([stage, str(slate), str(row / "target"), *words, "--json", "-q"]) == 0
        (row / f"{stage}.json").write_text(capsys.readouterr().out)


def compare(capsys: pytest.CaptureFixture[str], results: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """The exit code of a comparison, and its document."""
    capsys.readouterr()
    code = main(["baseline", "compare", str(results), *more, "--json", "-q"])
    return code, json.loads(capsys.readouterr().out)
