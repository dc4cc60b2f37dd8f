"""One encoder of DRAGON against halves of the original's outputs, which hold both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from goldens import golden_dir
from mappings.test_dpr import ENCODERS, UNUSED, half, read, run
from recorded import HERE
from test_detection import detected


@pytest.mark.golden
@pytest.mark.parametrize("component", ENCODERS)
def test_hf_to_cerebras_and_back(component: str, tmp_path: Path) -> None:
    root = golden_dir("cerebras_more.tar.xz", "packed/dragon/base/") / "packed" / "dragon" / "base"
    which = f"{ENCODERS[component]}."
    run(root / "hf" / component, "cerebras/dragon", tmp_path / "out.mdl", release=(2, 9), choices={"which": which})
    tensors, fields = half(root / "hf-cs-2.9", component)
    assert read(tmp_path / "out.mdl") == {key: one.tobytes() for key, one in tensors.items()}
    ours = yaml.safe_load((tmp_path / "out.yaml").read_text())["model"]
    theirs = {key: value for key, value in fields.items() if key not in UNUSED | {"name"}}
    assert {key: ours.get(key) for key in theirs} == theirs
    assert detected({"model": ours}) == "cerebras/dragon"
    run(tmp_path / "out.mdl", "hf/dragon", tmp_path / "back")
    assert read(tmp_path / "back") == read(root / "hf" / component / "pytorch_model.bin")  # by the receipt


def test_a_bert_is_taken_for_one_unless_dragon_is_asked_for() -> None:
    config = json.loads((HERE / "bert" / "hf" / "config.json").read_text())
    assert detected(config) == detected(config, to="cerebras") == detected(config, to="cerebras/bert") == "hf/bert"
    assert detected(config, to="cerebras/dragon") == detected(config, named="hf/dragon") == "hf/dragon"
