"""Models of the transformers library, run by the library itself: a family is a row of a table."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from convkit.oracles.hf.decoders import DECODERS
from convkit.oracles.hf.encoder_decoders import ENCODER_DECODERS
from convkit.oracles.hf.encoders import ENCODERS
from convkit.oracles.hf.image_readers import IMAGE_READERS
from convkit.oracles.hf.vision import VISION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convkit.oracles.hf.family import Family
    from convkit.oracles.hf.model import HfOracle

#: layout -> its row
FAMILIES = {**DECODERS, **ENCODERS, **ENCODER_DECODERS, **VISION, **IMAGE_READERS}


@cache
def oracle_of(layout: str) -> type[HfOracle]:
    """The oracle of a row."""
    from convkit.oracles.hf.image_reader import HfImageReader
    from convkit.oracles.hf.model import HfDecoder, HfEncoder
    from convkit.oracles.hf.two_stacks import HfEncoderDecoder
    from convkit.oracles.hf.vision_model import HfVision

    kinds: list[tuple[Mapping[str, Family], type[HfOracle]]] = [
        (DECODERS, HfDecoder),
        (ENCODERS, HfEncoder),
        (ENCODER_DECODERS, HfEncoderDecoder),
        (VISION, HfVision),
        (IMAGE_READERS, HfImageReader),
    ]
    base = next(kind for rows, kind in kinds if layout in rows)
    return type(f"{base.__name__}[{layout}]", (base,), {"layout": layout, "family": FAMILIES[layout]})
