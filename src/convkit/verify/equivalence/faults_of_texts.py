"""The faults that are planted in models that embed texts, alone or in a retriever: see :mod:`.faults`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from convkit.verify.equivalence.faults import Changes, Kind, Place, of_the_other

#: outputs that are embeddings of texts
_TEXTS = ("text", "question", "context")
_TABLES = ("embedding", "positions", "segments", "norm_embedding")


def _projection(text: str, changes: Callable[[str, Place], Changes], place: Place) -> Changes:
    """Plant a fault in the projection of a text, if that is compared."""
    return changes(f"head.{text}.", place) if text in place.heads and place.has(f"head.{text}.weight") else {}


def _transposed(at: str, place: Place) -> Changes:
    weight = place.oracle.part(f"{at}weight")
    return {f"{at}weight": weight.T} if weight.shape[0] == weight.shape[1] else {}


def _without_bias(at: str, place: Place) -> Changes:
    return {f"{at}bias": place.oracle.part(f"{at}bias") * 0} if place.has(f"{at}bias") else {}


def _of_the_other_text(at: str, place: Place) -> Changes:
    return of_the_other(place, (f"{at}weight", f"{at}bias"))


def _tables_of_the_other_encoder(place: Place) -> Changes:
    """Embed with the tables of the other encoder."""
    roles = (place.outside(f"{table}.{end}") for table in _TABLES for end in ("weight", "bias"))
    return of_the_other(place, filter(place.reads, roles))


#: what can be wrong before the layers
TABLES_OF_TEXTS = (Kind("tables of the other encoder", _tables_of_the_other_encoder, elsewhere=True),)
#: what can be wrong after them
HEADS_OF_TEXTS = tuple(
    Kind(f"{fault} of the {text}", partial(_projection, text, changes))
    for text in _TEXTS
    for fault, changes in (
        ("transpose the projection", _transposed),
        ("drop the bias of the projection", _without_bias),
        ("the other encoder's projection", _of_the_other_text),
    )
)
