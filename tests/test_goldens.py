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
from goldens import golden_dir
from recorded import LEFT_OUT, MODELS, TRAINED, Recorded, arrays, cerebras, family, owed, trained_root, with_ours

from convkit.checkpoint import TensorSpec
from convkit.errors import ConfigError
from convkit.execute import convert
from convkit.formats import open_checkpoint
from convkit.mappings import find_mapping
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


def _agrees(ours: dict[str, Any], theirs: dict[str, Any], later: frozenset[str] = frozenset()) -> None:
    told = with_ours({key: value for key, value in theirs.items() if key not in LEFT_OUT | later})
    assert {key: ours.get(key) for key in told} == told
    assert not LEFT_OUT & set(ours)


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
    assert plan.exact
    _same_tensors(out, arrays(case.to_cerebras / "flat.npz"))
    written = yaml.safe_load(out.with_suffix(".yaml").read_text())
    later = frozenset({"freeze_ffn_bias_in_glu"} if parsed < (2, 3) else ())
    _agrees(written["model"], case.cerebras_config()["model"], later)


@pytest.mark.parametrize("case", [*(pytest.param(case, marks=pytest.mark.golden) for case in ALL), *SMALL], ids=str)
@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_cerebras_to_hf(case: Recorded, format: str, tmp_path: Path) -> None:
    source = case.mdl() or _as_safetensors(case, tmp_path / "source")
    out = tmp_path / "out"
    plan = _convert(source, f"hf/{case.family}", out, format=format)
    assert plan.exact
    assert plan.source_format == ("cerebras-h5" if case.mdl() else "safetensors")
    _same_tensors(out, owed(arrays(case.to_hf / "flat.npz")))
    _agrees(json.loads((out / "config.json").read_text()), case.hf_config())


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
    _agrees(json.loads((out / "config.json").read_text()), json.loads((theirs / "config.json").read_text()))
    behind = plan.bound.left_behind
    assert any(key.startswith("optimizer.") for key in behind)
    assert not any(key.startswith("model.") for key in behind)
    kept = _tensors(tmp_path / "out.complement.safetensors")
    held = arrays(root / "state" / f"cs-{release}.npz")
    for key, (_, data) in kept.items():
        assert held[key].tobytes() == data, key


@pytest.mark.golden
@pytest.mark.parametrize("model", ["llama_gqa", "gpt2", "bert"])
def test_mup_is_refused_for_now(model: str) -> None:
    root = golden_dir("cerebras.tar.gz") / model / "mup-cs-2.9-hf"
    config = yaml.safe_load((root / "cs_params_mup.yaml").read_text())
    table = find_mapping(f"cerebras/{family(model)}", f"hf/{family(model)}").config
    with pytest.raises(ConfigError, match="muP scales this model"):
        table.convert(config)
