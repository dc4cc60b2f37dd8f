"""Models of the transformers library, run by the library itself: a family is a row of a table."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from convkit.oracles.hf.decoders import DECODERS
from convkit.oracles.hf.encoders import ENCODERS
from convkit.oracles.hf.vision import VISION

if TYPE_CHECKING:
    from convkit.oracles.hf.model import HfOracle

#: layout -> its row
FAMILIES = {**DECODERS, **ENCODERS, **VISION}


@cache
def oracle_of(layout: str) -> type[HfOracle]:
    """The oracle of a row."""
    from convkit.oracles.hf.model import HfDecoder, HfEncoder
    from convkit.oracles.hf.vision_model import HfVision

    base = HfDecoder if layout in DECODERS else HfVision if layout in VISION else HfEncoder
    return type(f"{base.__name__}[{layout}]", (base,), {"layout": layout, "family": FAMILIES[layout]})
