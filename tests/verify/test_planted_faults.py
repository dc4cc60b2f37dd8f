"""Faults of every kind of layer are planted and caught, on recorded models of families with and without a mapping."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from goldens import golden_dir
from safetensors.torch import save_file
from torch import Tensor

from convkit.oracles import get_oracle
from convkit.oracles.hf import FAMILIES
from convkit.oracles.hf.model import HfDecoder
from convkit.testing.stages import compared, edited
from convkit.verify.equivalence.amplify import gains, left_weak
from convkit.verify.equivalence.check import equivalence
from convkit.verify.equivalence.measured import BOUND
from convkit.verify.equivalence.probe import make_probe
from convkit.verify.equivalence.walk import Choices

pytestmark = pytest.mark.golden

torch.set_num_threads(1)


@dataclass(frozen=True)
class Recorded:
    """A model with strong weights in both layouts, as the original converted it."""

    name: str
    hf_layout: str
    cs_layout: str
    params: str = "params.yaml"
    #: what transformers' config must say to be the model that was recorded
    changes: tuple[tuple[str, str], ...] = ()

    @property
    def folder(self) -> Path:
        return golden_dir("cerebras_forward.tar.gz") / self.name / "strong"

    @cached_property
    def hf_config(self) -> dict:
        folder = golden_dir("cerebras.tar.gz") / self.name / "hf"
        return json.loads((folder / "config.json").read_text()) | dict(self.changes)

    @cached_property
    def cs_config(self) -> dict:
        return yaml.safe_load((self.folder / self.params).read_text())["model"]

    def tensors(self, side: str, factor: float = 1.0) -> dict[str, Tensor]:
        with np.load(self.folder / f"{side}.npz") as arrays:
            read = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        return {key: tensor if "slopes" in key else tensor * factor for key, tensor in read.items()}

    def write(self, folder: Path) -> dict[str, Path]:
        sides = {}
        for side in ("hf", "cs"):
            (folder / side).mkdir()
            save_file(self.tensors(side), folder / side / "model.safetensors")
            sides[side] = folder / side
        (folder / "hf" / "config.json").write_text(json.dumps(self.hf_config))
        (folder / "cs" / "params.yaml").write_text(yaml.safe_dump({"model": self.cs_config}))
        return sides


BLOOM = Recorded("bloom", "hf/bloom", "cerebras/gpt2", "params_fixed.yaml")
GEMMA = Recorded("gemma2", "hf/gemma2", "cerebras/gemma2", "params_fixed.yaml", (("hidden_activation", "gelu"),))
#: a model, and the faults that no llama, gpt2 or bert has
PLANTED = {
    Recorded("gptj", "hf/gptj", "cerebras/gptj"): {"wrong rotary", "wrong head count", "drop the bias of the lm head"},
    Recorded("codegen", "hf/codegen", "cerebras/gptj"): {"wrong rotary", "wrong head count", "swap k and v"},
    Recorded("gpt_neox", "hf/gpt_neox", "cerebras/gptj"): {"swap the norms of a layer", "swap q and k"},
    Recorded("falcon_7b", "hf/falcon", "cerebras/gptj"): {"wrong rotary", "swap k and v"},
    Recorded("starcoder", "hf/gpt_bigcode", "cerebras/gpt2"): {"swap k and v", "shift the positions by one row"},
    Recorded("roberta", "hf/roberta", "cerebras/roberta"): {
        "positions off by the padding",
        "drop the bias of the mlm head",
    },
    Recorded("vit", "hf/vit", "cerebras/vit"): {
        "the class token's position last for first",
        "transpose the patches",
        "channels of the patches last for first",
        "shift the rows of a classifier",
    },
    Recorded("clip_vit", "hf/clip_vision_model", "cerebras/clip-vit"): {
        "the class token's position last for first",
        "the embedding's norm not loaded",
        "transpose the patches",
    },
    GEMMA: {
        "swap the norms before and after attention",
        "window on the wrong layers",
        "a window of one position less",
        "softcap of the scores left out",
        "softcap of the logits left out",
    },
    BLOOM: {"the embedding's norm not loaded", "swap q and k"},
    Recorded("t5_gated", "hf/t5", "cerebras/t5", changes=(("dense_act_fn", "gelu"),)): {
        "relative positions of the other stack",
        "swap k and v of the cross attention",
        "tie the head to the embedding",
        "scale before the head wrong",
    },
    Recorded("mixtral", "hf/mixtral", "cerebras/llama"): {
        "swap gate and up of the experts",
        "experts off by one",
        "swap two rows of the router",
    },
}
#: those that only one side can be given
ONE_SIDED = {
    "gptj": {"hf": {"wrong number of rotary dims"}, "cs": {"wrong rotary base"}},
    "gpt_neox": {"hf": {"parallel residual left out"}},
    "bloom": {"cs": {"slopes in reverse", "norm of the embeddings left out"}},
    "gemma2": {"cs": {"scale of the embeddings left out"}},
    "mixtral": {"hf": {"one expert a token"}, "cs": {"one expert a token"}},
}


@pytest.mark.parametrize("target", ["hf", "cs"])
@pytest.mark.parametrize("model", PLANTED, ids=lambda model: model.name)
def test_every_fault_is_caught(model: Recorded, target: str, tmp_path: Path) -> None:
    sides, layouts = model.write(tmp_path), {"hf": model.hf_layout, "cs": model.cs_layout}
    source = {"hf": "cs", "cs": "hf"}[target]
    verdict = equivalence(
        sides[source], sides[target], from_layout=layouts[source], to_layout=layouts[target], probe_length=40
    )
    assert verdict.passed, verdict.problems
    assert verdict.measured["max_rel"] < BOUND / 5
    assert PLANTED[model] | ONE_SIDED.get(model.name, {}).get(target, set()) <= {fault.name for fault in verdict.faults}


def test_faults_of_a_config_show_where_they_belong() -> None:
    source, target = (get_oracle(layout) for layout in ("hf/gemma2", "cerebras/gemma2"))
    ours, theirs = source(GEMMA.hf_config, GEMMA.tensors("hf")), target(GEMMA.cs_config, GEMMA.tensors("cs"))
    found = compared(ours, theirs, make_probe(ours.facts, theirs.facts, length=40))
    at = {fault.name: fault.stage for fault in found.all_faults}
    assert all(fault.caught for fault in found.all_faults)
    assert at["a window of one position less"] == "layers.0"  # the other layer sees the whole text
    assert at["softcap of the logits left out"] == "head"
    assert at["scale of the embeddings left out"] == "embedding"


def test_weights_that_one_side_names_are_left_weak_and_reported() -> None:
    """An oracle that reads the embedding's norm without naming it: the same model, amplified or not."""

    class Silent(HfDecoder):
        layout = "hf/silent"
        family = replace(
            FAMILIES["hf/bloom"],
            outside={role: at for role, at in FAMILIES["hf/bloom"].outside.items() if role != "norm_embedding"},
            inside={role: at for role, at in FAMILIES["hf/bloom"].inside.items() if role != "norm_ffn"},
        )

    source = Silent(BLOOM.hf_config, BLOOM.tensors("hf", 2**-8))
    target = get_oracle("cerebras/gpt2")(BLOOM.cs_config, BLOOM.tensors("cs", 2**-8))
    probe = make_probe(source.facts, target.facts, length=32)
    assert gains(source, target, "embedding").keys() == {"embedding.weight"}
    assert "layers.0.q.weight" in gains(source, target, "layers.0")
    weak = "target: norm_embedding.weight is weak and wasn't amplified: the other side doesn't name it"
    assert left_weak("target", target, source, "embedding") == [weak]
    named = get_oracle("hf/bloom")(BLOOM.hf_config, BLOOM.tensors("hf", 2**-8))
    assert left_weak("target", target, named, "embedding") == []
    found = compared(source, target, probe, Choices(faults="all"))
    weak = [
        f"target: layers.{i}.norm_ffn.weight is weak and wasn't amplified: the other side doesn't name it"
        for i in (0, 1)
    ]
    assert found.sound and found.weak == weak and found.amplified is not None
    assert found.amplified[0] < BOUND / 5


def test_norms_stored_minus_one_are_weak_by_what_is_used() -> None:
    hf = {key: tensor * 2**-6 for key, tensor in GEMMA.tensors("hf").items()}
    cs = {key: tensor * 2**-6 for key, tensor in GEMMA.tensors("cs").items()}
    source, target = get_oracle("hf/gemma2")(GEMMA.hf_config, hf), get_oracle("cerebras/gemma2")(GEMMA.cs_config, cs)
    norms = [role for role in source.roles if ".norm_" in f".{role}"]
    target = target.rebuilt(tensors=edited(target, {role: 1 + source.part(role) for role in norms}))
    found = compared(source, target, make_probe(source.facts, target.facts, length=40))
    assert found.sound and found.amplified and found.amplified[0] < BOUND
    assert not any("norm" in role for stage in source.stages for role in gains(source, target, stage))


def test_an_expert_that_no_token_chose_is_named_as_not_shown() -> None:
    """One token chooses two of the experts."""
    mixtral = next(model for model in PLANTED if model.name == "mixtral")
    hf, cs = mixtral.tensors("hf"), mixtral.tensors("cs")
    probe = {"input_ids": torch.tensor([[3]])}
    source = get_oracle("hf/mixtral")(mixtral.hf_config, hf)
    target = get_oracle("cerebras/llama")(mixtral.cs_config, cs)
    found = compared(source, target, probe, Choices(faults="none"))
    layers = [stage for stage in found.stages if stage.name.startswith("layers.")]
    assert len(layers) == 2 and all(stage.unshown.startswith("no token chose experts ") for stage in layers)
    assert found.sound
