"""The families that can be generated: a dataclass each, whose fields are the options."""

from __future__ import annotations

from convkit.generate.families.bert import Bert
from convkit.generate.families.biencoder import DprBiencoder, DragonBiencoder
from convkit.generate.families.bloom import Bloom
from convkit.generate.families.dpr import Dpr
from convkit.generate.families.esm import Esm
from convkit.generate.families.falcon import Falcon
from convkit.generate.families.family import AnyFamily, Family
from convkit.generate.families.gemma2 import Gemma2
from convkit.generate.families.gpt import Codegen, Gpt2, GptBigcode, Gptj
from convkit.generate.families.gpt_neox import GptNeox
from convkit.generate.families.llama_like import Llama, Mistral, Mixtral
from convkit.generate.families.llava import Llava
from convkit.generate.families.mllama import Mllama
from convkit.generate.families.roberta import Roberta
from convkit.generate.families.t5 import T5
from convkit.generate.families.vision import ClipVit, Vit
from convkit.generate.old_cerebras import OldCerebras
from convkit.generate.orbax import OrbaxTraining
from convkit.generate.pax import Pax
from convkit.generate.t5x import T5X
from convkit.generate.training import Training

__all__ = ["FAMILIES", "AnyFamily", "Family"]

FAMILIES: dict[str, type[AnyFamily | OldCerebras | Training | OrbaxTraining]] = {
    "llama": Llama,
    "mistral": Mistral,
    "mixtral": Mixtral,
    "gemma2": Gemma2,
    "gpt2": Gpt2,
    "bert": Bert,
    "roberta": Roberta,
    "esm": Esm,
    "dpr": Dpr,
    "dpr-biencoder": DprBiencoder,
    "dragon-biencoder": DragonBiencoder,
    "gptj": Gptj,
    "codegen": Codegen,
    "gpt_neox": GptNeox,
    "bloom": Bloom,
    "gpt_bigcode": GptBigcode,
    "vit": Vit,
    "clip-vit": ClipVit,
    "mllama": Mllama,
    "llava": Llava,
    "t5": T5,
    "falcon": Falcon,
    "cerebras-old": OldCerebras,
    "t5x": T5X,
    "pax": Pax,
    "orbax-v0": OrbaxTraining,
}
