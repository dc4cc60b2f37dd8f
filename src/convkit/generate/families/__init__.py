"""The families that can be generated: a dataclass each, whose fields are the options.

Other packages add theirs through the entry point group ``convkit.generate`` (name -> a subclass of
:class:`convkit.generate.Generator`).
"""

from __future__ import annotations

from typing import Any

from convkit.errors import UsageError, meant
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
from convkit.generate.generator import Generator
from convkit.generate.old_cerebras import OldCerebras
from convkit.generate.orbax import OrbaxTraining
from convkit.generate.pax import Pax
from convkit.generate.t5x import T5X
from convkit.plugins import Group, Plugin

__all__ = ["FAMILIES", "OTHERS", "AnyFamily", "Family", "get_family", "names"]

FAMILIES: dict[str, type[AnyFamily | Generator]] = {
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


def _fault(plugin: Plugin, found: Any) -> str:
    """Why an object isn't a family."""
    from inspect import isabstract

    if not (isinstance(found, type) and issubclass(found, Generator)):
        return f"it is {found!r}, not a subclass of convkit.generate.Generator"
    if isabstract(found):
        return f"it lacks {', '.join(sorted(found.__abstractmethods__))}, as families of this convkit have"
    return ""


#: the families of other packages
OTHERS = Group("generate", FAMILIES, _fault)


def names() -> list[str]:
    """Names of all families, ours first, then those of other packages."""
    return [*FAMILIES, *OTHERS.names()]


def get_family(name: str) -> type[AnyFamily | Generator]:
    """The family with this name.

    Raises:
        UsageError: there is none; the message lists those that exist.
        ConvkitError: it can't be used; the message names the package that brings it.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    if name in OTHERS.names():
        found: type[Generator] = OTHERS.get(name)
        return found
    known = f"{meant(name, names())}families: {', '.join(names())}; write generated://family?option=value"
    raise UsageError(f"no family is called {name!r}", remedy=known)
