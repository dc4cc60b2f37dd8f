"""Whole conversions against the original's: the same tensors bit by bit, the same configs.

What differs on purpose: buffers that transformers rebuilds aren't owed, keys that 2.10 rejects aren't
written, and a tied checkpoint in safetensors, which the original makes an incomplete model of, gives the
same complete one as the ``.bin``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from recorded import (
    CORRECTED,
    MODELS,
    OTHERWISE,
    ROUNDED,
    TRAINED,
    Recorded,
    arrays,
    cerebras,
    family,
    left_out,
    original_name,
    owed,
    read_hf_config,
    trained_root,
    with_ours,
)

from convkit.checkpoint import TensorSpec
from convkit.cli import main
from convkit.execute import convert
from convkit.formats import open_checkpoint
from convkit.plan import Options, Plan, make_plan, open_source

ALL = [Recorded(model, release, here=False) for model, releases in MODELS.items() for release in releases]
SMALL = [Recorded(model, "2.9", here=True) for model in ("llama_gqa", "gpt2", "bert", "bert_qa")]
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def _convert(source: Path, to: str, target: Path, config: Path | None = None, **options: Any) -> Plan:
    with open_source(source, config=config) as opened:
        plan = make_plan(opened, to, options=Options(**options))
        convert(opened, plan, target, threads=2)
    return plan


def _tensors(path: Path) -> dict[str, tuple[TensorSpec, bytes]]:
    with open_checkpoint(path) as checkpoint:
        return {
            key: (leaf.spec, checkpoint.read(key).tobytes())
            for key, leaf in checkpoint.leaves.items()
            if leaf.spec is not None
        }


def _same_tensors(path: Path, theirs: dict[str, np.ndarray]) -> None:
    ours = _tensors(path)
    assert sorted(ours) == sorted(theirs)
    for key, tensor in theirs.items():
        assert ours[key] == (TensorSpec(tensor.shape, str(tensor.dtype)), tensor.tobytes()), key


def _later(case: Recorded) -> frozenset[str]:
    """Fields that the original writes for releases that don't have them yet."""
    return frozenset({"freeze_ffn_bias_in_glu"} if case.release in ("2.1", "2.2") else ())


def _agrees(
    model: str,
    ours: dict[str, Any],
    theirs: dict[str, Any],
    later: frozenset[str] = frozenset(),
    *,
    tensors: bool = True,
) -> None:
    without = left_out(family(model))
    told = with_ours({key: value for key, value in theirs.items() if key not in without | later})
    told |= {key: value for key, value in CORRECTED.get(model, {}).items() if key in told and tensors}
    told |= {key: value for key, value in OTHERWISE.get(model, {}).items() if key in told}
    assert {key: ours.get(key) for key in told} == told
    assert not without & set(ours)


@pytest.mark.parametrize(
    ("case", "file"),
    [pytest.param(case, file, marks=pytest.mark.golden) for case in ALL for file in WEIGHTS]
    + [(case, WEIGHTS[0]) for case in SMALL],
    ids=str,
)
def test_hf_to_cerebras(case: Recorded, file: str, tmp_path: Path) -> None:
    out = tmp_path / "out.mdl"
    parsed = tuple(int(part) for part in case.release.split("."))
    plan = _convert(case.hf / file, cerebras(case.family), out, release=parsed)
    assert plan.exact == (case.family not in ROUNDED)
    _same_tensors(out, arrays(case.to_cerebras / "flat.npz"))
    written = yaml.safe_load(out.with_suffix(".yaml").read_text())
    _agrees(case.model, written["model"], case.cerebras_config()["model"], _later(case))


@pytest.mark.parametrize("case", [*(pytest.param(case, marks=pytest.mark.golden) for case in ALL), *SMALL], ids=str)
@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_cerebras_to_hf(case: Recorded, format: str, tmp_path: Path) -> None:
    source = case.mdl() or _as_safetensors(case, tmp_path / "source")
    out = tmp_path / "out"
    plan = _convert(source, f"hf/{case.family}", out, format=format)
    assert plan.exact == (case.family not in ROUNDED)
    assert plan.source_format == ("cerebras-h5" if case.mdl() else "safetensors")
    _same_tensors(out, owed(arrays(case.to_hf / "flat.npz")))
    _agrees(case.model, json.loads((out / "config.json").read_text()), case.hf_config())


def _as_safetensors(case: Recorded, folder: Path) -> Path:
    """The original's tensors in another format, with its yaml: a layout is a layout in any format."""
    safetensors = pytest.importorskip("safetensors.numpy")
    folder.mkdir()
    safetensors.save_file(dict(arrays(case.to_cerebras / "flat.npz")), folder / "model.safetensors")
    (folder / "params.yaml").write_text(yaml.safe_dump(case.cerebras_config()))
    return folder


@pytest.mark.golden
def test_bfloat16(tmp_path: Path) -> None:
    """Bits are carried, not numbers."""
    root = Recorded("llama_gqa_bfloat16", "2.9", here=False).root
    (theirs,) = (root / "hf-cs-2.9").glob("*.mdl")
    out = tmp_path / "out.mdl"
    _convert(root / "hf" / "pytorch_model.bin", "cerebras/llama", out, release=(2, 9))
    assert _tensors(out) == _tensors(theirs)
    assert {spec.dtype for spec, _ in _tensors(out).values()} == {"bfloat16"}
    back = tmp_path / "back"
    _convert(theirs, "hf/llama", back, format="torch")
    assert _tensors(back) == _tensors(root / "hf" / "pytorch_model.bin")


@pytest.mark.golden
@pytest.mark.parametrize(("model", "release"), [(model, release) for model in TRAINED for release in TRAINED[model]])
def test_training_checkpoint_to_hf(model: str, release: str, tmp_path: Path) -> None:
    """The model is converted; the rest of a training checkpoint stays behind, and is listed and kept."""
    root = trained_root() / model
    theirs = root / f"cs-{release}__hf-full"
    out = tmp_path / "out"
    source = root / "state" / f"cs-{release}.mdl"
    plan = _convert(source, f"hf/{family(model)}", out)
    expected = arrays(theirs / "out.npz")
    _same_tensors(out, owed(expected))
    _agrees(model, json.loads((out / "config.json").read_text()), read_hf_config(theirs / "config.json"))
    behind = plan.bound.left_behind
    assert any(key.startswith("optimizer.") for key in behind)
    assert not any(key.startswith("model.") for key in behind)
    kept = _tensors(tmp_path / "out.complement.safetensors")
    held = arrays(root / "state" / f"cs-{release}.npz")
    for key, (_, data) in kept.items():
        assert held[key].tobytes() == data, key


# --- by the original's command --------------------------------------------------------------------------------


def _by_its_command(case: Recorded, source: Path, forms: tuple[str, str], config: Path, *more: str) -> None:
    words = ["--model", original_name(case.model), "--src-fmt", forms[0], "--tgt-fmt", forms[1], "--config"]
    assert main(["cerebras", "convert", str(source), *words, str(config), *more]) == 0


@pytest.mark.golden
@pytest.mark.parametrize("file", WEIGHTS)
@pytest.mark.parametrize("case", ALL, ids=str)
def test_to_cerebras_and_back_by_the_originals_command(case: Recorded, file: str, tmp_path: Path) -> None:
    """Its file names, tensors and configs; what we write ourselves, with its receipt, leads back to its source."""
    form, place = case.form, ["--output-dir", str(tmp_path)]
    _by_its_command(case, case.hf / file, ("hf", form), case.hf / "config.json", *place)
    ours, config = tmp_path / f"{file.partition('.')[0]}_to_{form}.mdl", tmp_path / f"config_to_{form}.yaml"
    names = [path.name for path in case.to_cerebras.iterdir()]
    assert config.name in names
    assert ours.name in names or file == WEIGHTS[0] or f"model_to_{form}.mdl" in names
    _same_tensors(ours, arrays(case.to_cerebras / "flat.npz"))
    _agrees(case.model, yaml.safe_load(config.read_text())["model"], case.cerebras_config()["model"], _later(case))
    _by_its_command(case, ours, ("cs-auto", "hf"), config, *place)
    assert _tensors(tmp_path / f"{ours.stem}_to_hf") == _tensors(case.hf / file)


@pytest.mark.golden
@pytest.mark.parametrize("case", ALL, ids=str)
@pytest.mark.parametrize(("single", "flags"), list(zip(WEIGHTS, (["--export-safetensors"], []), strict=True)))
def test_to_hf_by_the_originals_command(case: Recorded, single: str, flags: list[str], tmp_path: Path) -> None:
    theirs = case.mdl()
    assert theirs is not None
    (config,) = case.to_cerebras.glob("*.yaml")
    _by_its_command(case, theirs, (case.form, "hf"), config, "--output-dir", str(tmp_path), *flags)
    made = tmp_path / f"{theirs.stem}_to_hf"
    _same_tensors(made, owed(arrays(case.to_hf / "flat.npz")))
    _agrees(case.model, json.loads((made / "config.json").read_text()), case.hf_config())
    stem, _, suffix = single.partition(".")
    files = {f"{stem}-00001-of-00001.{suffix}", f"{single}.index.json", "config.json"}
    assert {path.name for path in made.iterdir()} == files
    if (recorded := case.to_hf / made.name).is_dir() and not flags:
        assert {path.name for path in recorded.iterdir()} == files
        ours, its = (json.loads((one / f"{single}.index.json").read_text())["weight_map"] for one in (made, recorded))
        assert ours == owed(its)


@pytest.mark.golden
@pytest.mark.parametrize("case", ALL, ids=str)
def test_a_config_by_the_originals_command(case: Recorded, tmp_path: Path) -> None:
    """Its configs, without a tensor."""
    (theirs,) = case.to_cerebras.glob("*.yaml")
    model = ["--model", original_name(case.model), "--output-dir", str(tmp_path)]
    there, back = ["--src-fmt", "hf", "--tgt-fmt", case.form], ["--src-fmt", case.form, "--tgt-fmt", "hf"]
    assert main(["cerebras", "convert-config", str(case.hf / "config.json"), *model, *there]) == 0
    ours = yaml.safe_load((tmp_path / f"config_to_{case.form}.yaml").read_text())
    _agrees(case.model, ours["model"], case.cerebras_config()["model"], _later(case))
    assert main(["cerebras", "convert-config", str(theirs), *model, *back]) == 0
    (made,) = tmp_path.glob("*.json")
    assert made.name == f"{theirs.stem}_to_hf.json"
    _agrees(case.model, json.loads(made.read_text()), case.hf_config(), tensors=False)
