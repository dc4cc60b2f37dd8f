"""Independent forward passes by layout. A new family takes a file and a line here, one of transformers a row
of a table (:mod:`.hf`). Other packages add theirs through the entry point group ``convkit.oracles`` (layout -> a
subclass of :class:`.oracle.Oracle`), whose module is imported when the layout is run.

Nothing below imports the mapping engine: see "What is proved" in the documentation.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from convkit.errors import UsageError
from convkit.oracles import hf
from convkit.plugins import Group, Plugin, installed

if TYPE_CHECKING:
    from convkit.oracles.oracle import Oracle

#: layout -> module and class of its oracle
_ORACLES = {
    "cerebras/bert": ("convkit.oracles.cerebras.encoder", "CerebrasBert"),
    "cerebras/bert-summarization": ("convkit.oracles.cerebras.encoder", "CerebrasBert"),
    "cerebras/btlm": ("convkit.oracles.cerebras.decoder", "CerebrasDecoder"),
    "cerebras/bloom": ("convkit.oracles.cerebras.decoder", "CerebrasDecoder"),
    "cerebras/gemma2": ("convkit.oracles.cerebras.decoder", "CerebrasDecoder"),
    "cerebras/dragon": ("convkit.oracles.cerebras.encoder", "CerebrasDragon"),
    "cerebras/dpr": ("convkit.oracles.cerebras.encoder", "CerebrasDpr"),
    "cerebras/dpr-biencoder": ("convkit.oracles.cerebras.biencoder", "CerebrasBiencoder"),
    "cerebras/esm-2": ("convkit.oracles.cerebras.encoder", "CerebrasEsm2"),
    "cerebras/falcon": ("convkit.oracles.cerebras.decoder", "CerebrasParallelDecoder"),
    "cerebras/gpt_backbone": ("convkit.oracles.cerebras.backbone", "CerebrasBackbone"),
    "cerebras/gpt2": ("convkit.oracles.cerebras.decoder", "CerebrasDecoder"),
    "cerebras/gptj": ("convkit.oracles.cerebras.decoder", "CerebrasParallelDecoder"),
    "cerebras/gpt-neox": ("convkit.oracles.cerebras.decoder", "CerebrasParallelDecoder"),
    "cerebras/jais": ("convkit.oracles.cerebras.decoder", "CerebrasDecoder"),
    "cerebras/llama": ("convkit.oracles.cerebras.decoder", "CerebrasDecoder"),
    "cerebras/llava": ("convkit.oracles.cerebras.llava", "CerebrasLlava"),
    "cerebras/mistral": ("convkit.oracles.cerebras.decoder", "CerebrasDecoder"),
    "cerebras/mllama": ("convkit.oracles.cerebras.mllama", "CerebrasMllama"),
    "cerebras/mixtral": ("convkit.oracles.cerebras.decoder", "CerebrasDecoder"),
    "cerebras/multimodal_simple": ("convkit.oracles.cerebras.llava", "CerebrasMultimodalSimple"),
    "cerebras/roberta": ("convkit.oracles.cerebras.encoder", "CerebrasBert"),
    "cerebras/santacoder": ("convkit.oracles.cerebras.decoder", "CerebrasDecoder"),
    "cerebras/starcoder": ("convkit.oracles.cerebras.decoder", "CerebrasDecoder"),
    "cerebras/vit": ("convkit.oracles.cerebras.vision", "CerebrasVision"),
    "cerebras/clip-vit": ("convkit.oracles.cerebras.vision", "CerebrasClip"),
    "cerebras/t5": ("convkit.oracles.cerebras.t5", "CerebrasT5"),
    "hf/btlm": ("convkit.oracles.hub.decoder", "HubDecoder"),
    "hf/dpr-biencoder": ("convkit.oracles.hf.biencoders", "HfDprBiencoder"),
    "hf/dragon-biencoder": ("convkit.oracles.hf.biencoders", "HfDragonBiencoder"),
    "hf/jais": ("convkit.oracles.hub.decoder", "HubJais"),
    "hf/llava": ("convkit.oracles.hf.llava", "HfLlava"),
    "hf/santacoder": ("convkit.oracles.hub.decoder", "HubSantacoder"),
    "pax/lm": ("convkit.oracles.jax.pax", "PaxLm"),
    "pax/lm-repeat": ("convkit.oracles.jax.pax", "PaxLmRepeat"),
    "t5x/t5": ("convkit.oracles.jax.t5x", "T5xT5"),
    "te/pax": ("convkit.oracles.jax.pax", "TePax"),
    "te/pax-repeat": ("convkit.oracles.jax.pax", "TePaxRepeat"),
    "te/t5": ("convkit.oracles.jax.t5x", "TeT5"),
    "te/t5-fused": ("convkit.oracles.jax.t5x", "TeT5Fused"),
}
#: families of Cerebras that are also trained by direct preference optimization: layouts of their own
_TRAINED = ("bloom", "falcon", "gpt2", "gptj", "gpt-neox", "llama", "mistral", "mixtral", "santacoder", "starcoder")
_POLICIES = {f"cerebras/dpo-{family}": f"cerebras/{family}" for family in _TRAINED if f"cerebras/{family}" in _ORACLES}


def _fault(plugin: Plugin, found: Any) -> str:
    """Why an object isn't an oracle of this layout."""
    from inspect import isabstract

    from convkit.oracles.oracle import Oracle

    if not (isinstance(found, type) and issubclass(found, Oracle)):
        return f"it is {found!r}, not a subclass of convkit.oracles.oracle.Oracle"
    if isabstract(found):
        return f"it lacks {', '.join(sorted(found.__abstractmethods__))}, as oracles of this convkit have"
    if getattr(found, "layout", None) != plugin.name:
        return f"it says that its layout is {getattr(found, 'layout', None)}"
    if plugin.module in {one.module for one in installed("mappings")}:
        return f"{plugin.module} also declares a mapping, with which an oracle shares no code"
    return ""


#: the oracles of other packages
OTHERS = Group("oracles", {*_ORACLES, *_POLICIES, *hf.FAMILIES}, _fault)


def layouts() -> list[str]:
    """The layouts that can be run."""
    return sorted({*OTHERS.ours, *OTHERS.names()})


def get_oracle(layout: str) -> type[Oracle]:
    """The oracle of a layout.

    Raises:
        UsageError: the layout has no oracle; the message lists those that do.
        ConvkitError: it can't be used; the message names the package that brings it.
    """
    if layout in hf.FAMILIES:
        return hf.oracle_of(layout)
    if layout in _POLICIES:
        from convkit.oracles.cerebras.dpo import trained

        return trained(get_oracle(_POLICIES[layout]), layout)
    if layout in _ORACLES:
        module, name = _ORACLES[layout]
        return getattr(import_module(module), name)
    if layout in OTHERS.names():
        return OTHERS.get(layout)
    raise UsageError(f"no oracle runs layout {layout!r}", remedy=f"layouts: {', '.join(layouts())}")
