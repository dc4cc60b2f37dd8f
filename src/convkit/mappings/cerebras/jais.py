"""hf/jais <-> cerebras/jais: a BTLM of another vocabulary.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/jais_hf_cs.py`` (rules of cs-2.1 ... cs-2.9),
``models/nlp/jais``; the code of the hub's ``inceptionai/jais-30b-v3``; vLLM, ``model_executor/models/jais.py``.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from convkit.config import Answer, ConfigError, Coupled, Row
from convkit.mapping import Layout
from convkit.mappings.cerebras.btlm import CONVENTIONS, NAMELESS, like_btlm
from convkit.mappings.cerebras.classes.gpt2 import JAIS
from convkit.mappings.cerebras.common import Cs, Hf
from convkit.mappings.cerebras.hf_classes.hub import JAIS_CONFIG
from convkit.mappings.cerebras.scales import scales


def _name(values: dict[str, Any], names: dict[str, Any]) -> Answer:
    name = values.get("name", "jais")
    named = name.get("model_type", "jais") if isinstance(name, dict) else name
    if named != "jais":
        raise ConfigError(f"is {named!r}, but this layout has 'jais'", key="name", remedy="name the layout that it is")
    return Answer()


class _Jais(Cs, frozen=True):
    """ModelZoo's side; the yamls of its converter have the whole config of transformers where the name belongs."""

    @property
    def naming(self) -> Row:
        """See :attr:`Cs.naming`."""
        return Coupled((), ("name",), lambda values, names: Answer({"name": "jais"}), _name)

    @property
    def layout(self) -> Layout:
        """See :attr:`Cs.layout`."""
        named, *nameless = super().layout.signature
        return replace(super().layout, signature=(named, {"model.name.model_type": "jais"}, *nameless))


# fmt: off
MAPPING = like_btlm(
    Hf("jais", ("JAISModel", "JAISLMHeadModel"), JAIS_CONFIG, "transformer.", "wte.weight", conventions=CONVENTIONS[0]),
    _Jais("jais", "GPT2LMHeadModel configured as Jais", JAIS, CONVENTIONS[1], unnamed=NAMELESS),
    "inceptionai/jais-30b-v3", scales("width_scale"),
)
