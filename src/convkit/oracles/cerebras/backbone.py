"""ModelZoo's GPT backbone: the GPT-2 class, whose yaml has each field in the section of the module that uses it.

Source: Cerebras ModelZoo 2.10.0, ``tools/checkpoint_converters/gpt_backbone.py``; the class itself isn't published.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError
from convkit.oracles.cerebras.decoder import CerebrasDecoder

if TYPE_CHECKING:
    from torch import Tensor

_WINDOW, _EVERY_OTHER = "attention_sliding_window_length", "sliding_window_every_other_decoder_layer"


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the GPT-2 class, from whatever section they are in.

    Raises:
        ConvkitError: layers differ in something else than a window on every second.
    """
    sections = [dict(config.get(name) or {}) for name in ("embedding_layer", "transformer_decoder")]
    layers = sections[1].pop("layers", {})
    each = [_layer(one) for one in (layers if isinstance(layers, list) else [layers])]
    windows = [layer.pop(_WINDOW, None) for layer in each]
    found = {name: value for name, value in config.items() if name not in ("embedding_layer", "transformer_decoder")}
    for section in (*sections, each[0]):
        found |= section
    if windows != [windows[i % 2] for i in range(len(windows))] or any(layer != each[0] for layer in each):
        remedy = "only a window on every second layer can be run"
        raise ConvkitError("the layers differ", key="transformer_decoder.layers", remedy=remedy)
    if window := next(filter(None, windows), None):
        found[_WINDOW] = window
    if len(set(windows)) > 1:
        first = "sliding_window_first" if windows[0] else "full_attention_first"
        found |= {_EVERY_OTHER: True, f"{_EVERY_OTHER}_pattern": first}
    return found


def _layer(section: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a layer and of its attention."""
    found = dict(section)
    return found | dict(found.pop("self_attn", None) or {})


class CerebrasBackbone(CerebrasDecoder):
    """The GPT-2 class with another yaml."""

    layout = "cerebras/gpt_backbone"

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        super().__init__(flat(config), tensors, path)

    @classmethod
    def reconcile(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
        """See :meth:`CerebrasOracle.reconcile`."""
        return super().reconcile(flat(config), tensors)
