"""The row of windows: which layers see the last positions only.

transformers names the kind of each layer. ModelZoo has one flag for a window on every other layer, and since release
2.10 a second one for the layer with which it begins; until then the first layer sees the whole text.

Facts: ModelZoo 2.3.1 ... 2.10.0, ``layers/TransformerDecoder.py``, ``models/nlp/gpt2/gpt2_model.py``
(``validate_sliding_window_every_other_decoder_layer``); transformers, ``models/gemma2``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from convkit.config import Answer, ConfigError, Coupled, Deviation

Values = dict[str, Any]

SLIDING, FULL = KINDS = ("sliding_attention", "full_attention")
LENGTH, EVERY_OTHER = "attention_sliding_window_length", "sliding_window_every_other_decoder_layer"
PATTERN = f"{EVERY_OTHER}_pattern"
#: ModelZoo's patterns, by the kind of the first layer
PATTERNS = {SLIDING: "sliding_window_first", FULL: "full_attention_first"}
CHOSEN_SINCE = (2, 10)
OTHER_LAYERS = (
    "releases before 2.10 have the window on the second layer, the fourth ..., not on the first, the third ..."
)


def _in_turn(first: str, layers: int) -> list[str]:
    """The kinds of layers that alternate."""
    return [KINDS[(KINDS.index(first) + i) % 2] for i in range(layers)]


def _to_cerebras(usual: int, values: Values, names: Values) -> Answer:
    said: Values = {"sliding_window": usual, "layer_types": None} | values
    window, layers, kinds = said["sliding_window"], names["layers"], said["layer_types"]
    defaults: Values = {"sliding_window": usual} if "sliding_window" not in values else {}
    if kinds is None:
        kinds = defaults["layer_types"] = _in_turn(SLIDING, layers)
    if len(kinds) != layers or set(kinds) - {*KINDS}:
        raise ConfigError(f"is {kinds}", key="layer_types", remedy=f"{layers} times {' or '.join(KINDS)}")
    if set(kinds) == {FULL}:
        return Answer({LENGTH: None, EVERY_OTHER: False}, defaults=defaults)
    if window is None:
        raise ConfigError("is null", key="sliding_window", remedy="say it, or that no layer is a sliding_attention")
    if set(kinds) == {SLIDING}:
        return Answer({LENGTH: window, EVERY_OTHER: False}, defaults=defaults)
    if kinds != _in_turn(kinds[0], layers):
        raise ConfigError(
            f"is {kinds}", key="layer_types", remedy="Cerebras has windows on every other layer, or on all"
        )
    fields = {LENGTH: window, EVERY_OTHER: True}
    if not names["release"] or names["release"] >= CHOSEN_SINCE:
        return Answer(fields | {PATTERN: PATTERNS[kinds[0]]}, defaults=defaults)
    if kinds[0] == FULL or window >= names["positions"]:
        return Answer(fields, defaults=defaults)
    deviation = Deviation("layer_types", said["layer_types"], _in_turn(FULL, layers), OTHER_LAYERS)
    return Answer(fields, deviations=(deviation,), defaults=defaults)


def _to_hf(values: Values, names: Values) -> Answer:
    window, layers = values.get(LENGTH), names["layers"]
    if not values.get(EVERY_OTHER, False):
        kinds = [FULL if window is None else SLIDING] * layers
    elif window is None:
        raise ConfigError("is null", key=LENGTH, remedy=f"say it, or that {EVERY_OTHER} is false")
    else:
        first = {pattern: kind for kind, pattern in PATTERNS.items()} | {None: FULL}
        pattern = values.get(PATTERN)
        if pattern not in first:
            raise ConfigError(f"is {pattern!r}", key=PATTERN, remedy=f"one of {', '.join(PATTERNS.values())}")
        kinds = _in_turn(first[pattern], layers)
    return Answer({"layer_types": kinds} | ({} if window is None else {"sliding_window": window}))


def windows(usual: int) -> Coupled:
    """The row; it needs the names ``layers`` and ``positions``. ``usual`` is transformers' default for the length."""
    fields = (LENGTH, EVERY_OTHER, PATTERN)
    return Coupled(("sliding_window", "layer_types"), fields, partial(_to_cerebras, usual), _to_hf)
