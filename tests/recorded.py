"""Conversions recorded from the original (ModelZoo 2.10.0's converter): inputs and outputs.

The archives hold all of them (``goldens.py``); a few lie in ``tests/data/goldens`` as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from config_deviations.falcon import OF_CEREBRAS
from config_deviations.santacoder import CODE
from config_deviations.santacoder import LEFT_OUT as OF_SANTACODER
from config_deviations.santacoder import NOISE as OF_AUTHORS
from config_deviations.starcoder import NOISE
from goldens import golden_dir

from convkit.cli.cerebras.names import models

HERE = Path(__file__).parent / "data" / "goldens" / "cerebras"

#: model: releases recorded
MODELS = {
    "llama_gqa": ("2.1", "2.9"),
    "llama_mha": ("2.1", "2.9"),
    "llama_tied": ("2.9",),
    "gpt2": ("2.1", "2.9"),
    "bert": ("2.1", "2.9"),
    "bert_qa": ("2.9",),
    "roberta": ("2.9",),
    "gptj": ("2.9",),
    "codegen": ("2.9",),
    "mistral": ("2.9",),
    "mixtral": ("2.9",),
    "gemma2": ("2.9",),
    "gpt_neox": ("2.1", "2.9"),
    "btlm": ("2.9",),
    "bloom": ("2.1", "2.9"),
    "vit": ("2.9",),
    "clip_vit": ("2.9",),
    "t5_gated": ("2.1", "2.9"),
    "starcoder": ("2.9",),
    "santacoder": ("2.9",),
    "falcon_7b": ("2.1", "2.9"),
    "falcon_rw7b": ("2.9",),
}
#: the family of models whose names don't begin with it
FAMILIES = {"ul2": "t5", "flan_ul2": "t5", "transformer": "t5"}
FAMILIES |= dict.fromkeys(("starcoder", "octocoder", "sqlcoder", "wizardcoder"), "gpt_bigcode")
#: ModelZoo's layout of a family, where it is another family's
LAYOUTS = {"codegen": "cerebras/gptj", "gpt_neox": "cerebras/gpt-neox", "clip_vision_model": "cerebras/clip-vit",
           "gpt_bigcode": "cerebras/starcoder", "esm": "cerebras/esm-2"}  # fmt: skip
#: families whose norms are stored minus one on one side: the sum is rounded, and what is lost is kept
ROUNDED = {"gemma2"}
#: training checkpoints, with optimizer, schedulers, step and loader state
TRAINED = {
    "llama": ("2.1", "2.2", "2.3", "2.4", "2.5"),
    "gpt2": ("2.1", "2.2", "2.3", "2.4", "2.5", "2.9"),
    "bert": ("2.1", "2.2", "2.3", "2.4", "2.5"),
    "bert-sequence-classifier": ("2.1", "2.2", "2.3", "2.4", "2.5"),
    "codegen": ("2.1", "2.2", "2.3", "2.4", "2.5"),
    "t5": ("2.1", "2.2", "2.3", "2.4", "2.5"),
    "bloom": ("2.1", "2.2", "2.3", "2.4", "2.5"),
    "falcon_7b": ("2.1", "2.2", "2.3", "2.4", "2.5"),
}
#: buffers that the original writes for Hugging Face, and transformers rebuilds
BUFFERS = (".attn.bias", ".attn.masked_bias", ".embeddings.position_ids", ".attention.bias", ".attention.masked_bias",
           ".rotary_emb.inv_freq")  # fmt: skip
#: keys of the original's yaml that 2.10's model classes reject, apart from that of vision transformers, whose config in
#: transformers has a field of another model
LEFT_OUT = {"norm_first", "use_ff_layer1_dropout"}
VISION = ("vit", "clip_vision_model")
#: what the original's configs say, and the tensors say otherwise
CORRECTED = {"vit": {"num_classes": 6, "num_labels": 6}}

#: fields in which we differ from the original in any case, and what we write; None: nothing. See config_deviations
OTHERWISE = {"starcoder": {"nonlinearity": "gelu_new"} | NOISE, "santacoder": {"auto_map": CODE} | OF_AUTHORS}

#: what we write in sections beside the original's values: without it, 2.6 ... 2.10 build other tensors than it writes
WRITTEN_TOO = {"moe": {"moe_implementation": "optimized"}}


def with_ours(fields: dict[str, Any]) -> dict[str, Any]:
    """The original's fields, with what we write beside them in sections."""
    return {key: value | WRITTEN_TOO[key] if value and key in WRITTEN_TOO else value for key, value in fields.items()}


def left_out(family: str) -> set[str]:
    """The keys that we don't write."""
    return {"encoder_stride"} if family in VISION else OF_SANTACODER if family == "santacoder" else LEFT_OUT


def family(model: str) -> str:
    """``bert_qa`` -> ``bert``."""
    plain = model.replace("-", "_").removesuffix("_headless")
    if plain.startswith("clip_vit"):
        return "clip_vision_model"
    return FAMILIES.get(plain) or ("gpt_neox" if plain.startswith("gpt_neox") else plain.partition("_")[0])


def cerebras(family: str) -> str:
    """ModelZoo's layout of a family: ``codegen`` -> ``cerebras/gptj``."""
    return LAYOUTS.get(family, f"cerebras/{family}")


def original_name(model: str) -> str:
    """The original's name of a recorded model: ``bert_qa`` -> ``bert-qa``, ``llama_gqa`` -> ``llama``."""
    words = model.replace("_", "-").split("-")
    starts = ("-".join(words[:count]) for count in range(len(words), 0, -1))
    layout = cerebras(family(model))
    of_layout = (name for name, one in models().items() if layout in one.layouts.values())
    return next(name for name in (*starts, *of_layout) if name in models())


def read_hf_config(path: Path) -> dict[str, Any]:
    """A config of the original's for transformers, without ModelZoo's fields."""
    return {name: value for name, value in json.loads(path.read_text()).items() if name not in OF_CEREBRAS}


@dataclass(frozen=True)
class Recorded:
    """One model at one release, both ways. ``here``: from the repository, not from the archive."""

    model: str
    release: str
    here: bool

    def __str__(self) -> str:
        return f"{self.model}-{self.release}{'-here' if self.here else ''}"

    @property
    def family(self) -> str:
        return family(self.model)

    @property
    def root(self) -> Path:
        if self.here:
            return HERE / self.model
        return golden_dir("cerebras.tar.gz") / self.model

    @property
    def hf(self) -> Path:
        return self.root / "hf"

    @property
    def to_cerebras(self) -> Path:
        return self.root / f"hf-cs-{self.release}"

    @property
    def to_hf(self) -> Path:
        return self.root / f"cs-{self.release}-hf"

    @property
    def form(self) -> str:
        """The original's name of Cerebras's format: ``cs-2.9``."""
        return self.to_cerebras.name.removeprefix("hf-")

    def mdl(self) -> Path | None:
        """The original's ``.mdl``; the repository has not all of them."""
        return next(iter(self.to_cerebras.glob("*.mdl")), None)

    def cerebras_config(self) -> dict[str, Any]:
        (path,) = self.to_cerebras.glob("*.yaml")
        return yaml.safe_load(path.read_text())

    def hf_config(self) -> dict[str, Any]:
        (path,) = self.to_hf.rglob("config.json")
        return read_hf_config(path)


def trained_root() -> Path:
    """Where the training checkpoints lie."""
    return golden_dir("cerebras_more.tar.xz", *(f"upgrade/{model}/" for model in TRAINED)) / "upgrade"


@cache
def arrays(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a ``.npz`` by name."""
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


def owed(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the buffers that transformers rebuilds."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(BUFFERS)}
