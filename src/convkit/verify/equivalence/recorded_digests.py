"""Say where the bytes that were read aren't those that the target's receipt records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convkit.oracles.opening import Opened

#: names that a note gives before it counts the rest
_SHOWN = 3


def algorithm_of(receipt: Mapping[str, Any] | None) -> str:
    """The algorithm of a receipt's digests of leaves; the usual one where it has none."""
    leaves = (receipt or {}).get("target", {}).get("leaves", {})
    digest = next((leaf["digest"] for leaf in leaves.values()), "xxh3-128:")
    return str(digest).partition(":")[0]


def other_than_recorded(sides: Mapping[str, Opened], receipt: Mapping[str, Any] | None) -> Iterator[str]:
    """A note for each side of which tensors that were read have another digest than the receipt gives them."""
    for name, side in sides.items():
        leaves = (receipt or {}).get(name, {}).get("leaves", {})
        read = side.read.digests
        other = [key for key, digest in read.items() if key in leaves and leaves[key]["digest"] != digest]
        if other:
            shown = ", ".join(other[:_SHOWN]) + (f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else "")
            yield f"the {name} isn't what the receipt records: {shown}; what lies there was judged"
