"""cerebras/gpt2 <-> cerebras/gpt_backbone: the same tensors; the yaml has each field in the section that uses it.

Facts: ModelZoo releases 2.4 ... 2.10, ``tools/checkpoint_converters/gpt_backbone.py``. Its class isn't published.
"""

from __future__ import annotations

from collections import abc
from copy import deepcopy
from typing import Any

from convkit.config import ABSENT, Answer, ConfigError, Constant, Converted, Coupled, Field, Release
from convkit.config.tree import dig, plant
from convkit.mapping import Layout, Mapping, Verbatim
from convkit.mappings.cerebras import gpt2
from convkit.mappings.cerebras.classes import RELEASES
from convkit.mappings.cerebras.classes.gpt2 import GPT2
from convkit.mappings.cerebras.classes.gpt_backbone import DECODER, GPT_BACKBONE, LAYERS, PATHS
from convkit.mappings.cerebras.common import MODEL_AT
from convkit.mappings.cerebras.in_place import InPlace

Values = dict[str, Any]

EVERY_OTHER, PATTERN = "sliding_window_every_other_decoder_layer", "sliding_window_every_other_decoder_layer_pattern"
#: the pattern -> which of two layers has the window
_WINDOWED = {"full_attention_first": 1, "sliding_window_first": 0}
_WINDOW = "self_attn.attention_sliding_window_length"


def _pattern(values: Values, names: Values) -> Answer:
    pattern = values.get(PATTERN) or "full_attention_first"
    if pattern not in _WINDOWED:
        raise ConfigError(f"is {pattern!r}", key=PATTERN, remedy=f"it must be {' or '.join(_WINDOWED)}")
    return Answer(names={"every_other": bool(values.get(EVERY_OTHER)), "pattern": pattern})


def _listed(layers: Values, count: Any, pattern: str) -> list[Values]:
    """A section for each layer, every second without the window."""
    if not isinstance(count, int):
        raise ConfigError("is missing", key="num_hidden_layers", remedy="add it: each layer gets a section")
    found = [deepcopy(layers) for _ in range(count)]
    for i, layer in enumerate(found):
        if i % 2 != _WINDOWED[pattern]:
            plant(layer, _WINDOW, None)
    return found


def _merged(layers: list[Any]) -> tuple[Values, str]:
    """The section of all layers, and the pattern of their windows; empty if all are alike.

    Raises:
        ConfigError: they differ in something else, or in another pattern.
    """
    if not layers or not all(isinstance(layer, dict) for layer in layers):
        raise ConfigError("isn't a list of sections", key=LAYERS, remedy="correct the yaml")
    windows = [(layer.get("self_attn") or {}).get(_WINDOW.partition(".")[2]) for layer in layers]
    bare = [deepcopy(layer) for layer in layers]
    for layer in bare:
        plant(layer, _WINDOW, None)
    for pattern, windowed in {"": None, **_WINDOWED}.items():
        expected = [windows[windowed or 0] if windowed in (None, i % 2) else None for i in range(len(layers))]
        if windows == expected and all(layer == bare[0] for layer in bare):
            return layers[windowed or 0], pattern
    raise ConfigError("the layers differ", key=LAYERS, remedy="ModelZoo's GPT-2 has windows on every second, or on all")


class _Table(InPlace, frozen=True):
    """The backbone's yaml may have a list of layers, where every second has a window."""

    def convert(
        self, config: abc.Mapping[str, Any], facts: abc.Mapping[str, Any] | None = None, release: Release = ()
    ) -> Converted:
        """See :meth:`InPlace.convert`."""
        at, pattern = self.section_path(config), ""
        given = deepcopy(dict(config))
        if self.reverse and isinstance(layers := dig(given, f"{at}.{LAYERS}"), list):
            merged, pattern = _merged(layers)
            plant(given, f"{at}.{LAYERS}", merged)
        found = super().convert(given, facts, release)
        section, count = dig(found.config, at), f"{DECODER}.num_hidden_layers"
        if not self.reverse and found.names["every_other"]:
            layers = dig(section, LAYERS)
            plant(section, LAYERS, _listed(layers, dig(section, count), found.names["pattern"]))
        elif pattern:
            section |= {EVERY_OTHER: True} | ({PATTERN: pattern} if _WINDOWED[pattern] == 0 else {})
            if _WINDOWED[pattern] == 0 and release and release < (2, 10):
                problem = "the first layer has the window"
                raise ConfigError(problem, key=LAYERS, remedy="only 2.10 has that pattern: --release 2.10")
        return found


RIGHT = Layout(
    name="cerebras/gpt_backbone",
    summary="ModelZoo GPTBackboneLMHeadModel, releases 2.4 ... 2.10",
    format="cerebras-h5",
    config_file="params.yaml",
    releases=tuple(release for release in RELEASES if release >= (2, 4)),
    config_at=MODEL_AT,
    signature=({"model.name": "gpt_backbone"},),
    by_name=True,
)
MAPPING = Mapping(
    left=gpt2.MAPPING.right,
    right=RIGHT,
    rules=(Verbatim("{rest:*}"),),
    config=_Table(
        rows=(
            Constant("left", "name", "gpt2"),
            Constant("right", "name", "gpt_backbone"),
            Coupled((EVERY_OTHER, PATTERN), (), _pattern, lambda values, names: Answer()),
            *(Field(name, path, name, left_default=ABSENT, right_default=ABSENT) for name, path in PATHS.items()),
        ),
        left=GPT2,
        right=GPT_BACKBONE,
        left_at=MODEL_AT,
        right_at=MODEL_AT,
    ),
)
