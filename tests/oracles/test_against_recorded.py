"""The oracles against recorded logits of the real models, on weights that expose a wrong forward pass."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from goldens import golden_dir
from torch import Tensor

from convkit.oracles import get_oracle

pytestmark = pytest.mark.golden

#: Agreeing float32 runs differ by less than 1e-6; the smallest wrong setting (a norm's epsilon) shows as 2e-5.
BOUND = 5e-6
FAMILIES = ["llama_gqa", "llama_mha", "llama_tied", "gpt2", "bert"]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def tensors(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def check(layout: str, config: dict, weights: dict[str, Tensor], recorded: dict[str, Tensor], side: str) -> None:
    torch.set_num_threads(1)
    oracle = get_oracle(layout)(config, weights)
    assert not oracle.problems
    outputs = oracle.run({name: recorded[name] for name in INPUTS if name in recorded}).outputs
    expected = [recorded[name] for name in (f"{side}_logits", f"{side}_logits2") if name in recorded]
    assert len(outputs) == len(expected)
    for value, reference in zip(outputs.values(), expected, strict=True):
        assert (value - reference).abs().max() <= BOUND * reference.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_cerebras_oracle_is_the_real_cerebras_model(family: str) -> None:
    folder = golden_dir("cerebras_forward.tar.gz") / family / "strong"
    config = yaml.safe_load((folder / "params.yaml").read_text())["model"]
    layout = "cerebras/" + family.split("_", maxsplit=1)[0]
    check(layout, config, tensors(folder / "cs.npz"), tensors(folder / "forward.npz"), "cs")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_hf_oracle_is_the_real_hf_model(family: str) -> None:
    folder = golden_dir("cerebras_forward.tar.gz") / family / "strong"
    config = json.loads((golden_dir("cerebras.tar.gz", f"{family}/hf/") / family / "hf" / "config.json").read_text())
    layout = "hf/" + family.split("_", maxsplit=1)[0]
    check(layout, config, tensors(folder / "hf.npz"), tensors(folder / "forward.npz"), "hf")


def test_question_answering() -> None:
    """Only the weak weights are recorded here: they show the wiring of the heads, not much more."""
    recorded = tensors(golden_dir("cerebras_forward.tar.gz") / "bert_qa" / "forward.npz")
    folder = golden_dir("cerebras.tar.gz", "bert_qa/") / "bert_qa" / "hf-cs-2.9"
    config = yaml.safe_load((folder / "config_to_cs-2.9.yaml").read_text())["model"]
    check("cerebras/bert", config, tensors(folder / "flat.npz"), recorded, "cs")
