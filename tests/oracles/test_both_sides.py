"""Both sides' oracles on models that the original converted: the same roles and states, and every fault seen."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import yaml
from goldens import golden_dir
from test_against_recorded import tensors

from convkit.oracles import get_oracle
from convkit.oracles.cerebras.decoder import CerebrasDecoder, CerebrasParallelDecoder
from convkit.oracles.cerebras.model import CerebrasOracle
from convkit.oracles.cerebras.vision import CerebrasClip, CerebrasVision
from convkit.oracles.oracle import Oracle
from convkit.testing.stages import compared
from convkit.verify.equivalence.agreement import Gap, measure
from convkit.verify.equivalence.probe import make_probe

pytestmark = pytest.mark.golden

torch.set_num_threads(1)

BOUND = 5e-6
#: family -> the two oracles, and what transformers' config must say to be the model that was recorded
FAMILIES: dict[str, tuple[str, type[CerebrasOracle], dict[str, Any]]] = {
    "bloom": ("hf/bloom", CerebrasDecoder, {}),
    "codegen": ("hf/codegen", CerebrasParallelDecoder, {}),
    "falcon_7b": ("hf/falcon", CerebrasParallelDecoder, {}),
    "gemma2": ("hf/gemma2", CerebrasDecoder, {"hidden_activation": "gelu"}),
    "gpt_neox": ("hf/gpt_neox", CerebrasParallelDecoder, {}),
    "gptj": ("hf/gptj", CerebrasParallelDecoder, {}),
    "mistral": ("hf/mistral", CerebrasDecoder, {}),
    "mixtral": ("hf/mixtral", CerebrasDecoder, {}),
    "starcoder": ("hf/gpt_bigcode", CerebrasDecoder, {}),
    "vit": ("hf/vit", CerebrasVision, {}),
    "clip_vit": ("hf/clip_vision_model", CerebrasClip, {}),
}
#: roles and points that transformers' side doesn't have: slopes are computed, and a router is hidden in its module
OURS_ALONE = {"slopes", "layers.1.router"}


def both(family: str) -> tuple[Oracle, Oracle]:
    layout, ours, changes = FAMILIES[family]
    folder = golden_dir("cerebras_forward.tar.gz") / family / "strong"
    fixed = folder / "params_fixed.yaml"
    said = yaml.safe_load((fixed if fixed.exists() else folder / "params.yaml").read_text())["model"]
    config = golden_dir("cerebras.tar.gz") / family / "hf" / "config.json"
    hf = get_oracle(layout)(json.loads(config.read_text()) | changes, tensors(folder / "hf.npz"))
    return hf, ours(said, tensors(folder / "cs.npz"))


@pytest.mark.parametrize("family", FAMILIES)
def test_they_agree_inside_and_out_and_no_fault_is_missed(family: str) -> None:
    hf, cs = both(family)
    assert not hf.problems + cs.problems
    assert hf.roles.keys() ^ cs.roles.keys() <= OURS_ALONE
    probe = make_probe(hf.facts, cs.facts, length=min(cs.facts.positions, 64))
    ours, theirs = ({**trace.states, **trace.outputs} for trace in (hf.run(probe, 1), cs.run(probe, 1)))
    inside: dict[str, Gap] = {}
    measure(inside, ours, theirs)
    assert ours.keys() <= theirs.keys() and theirs.keys() - ours.keys() <= OURS_ALONE
    assert max(gap.relative for gap in inside.values()) <= BOUND
    found = compared(hf, cs, probe)
    assert found.sound and len(found.all_faults) >= 11
    assert [fault for fault in found.all_faults if not fault.caught] == []
