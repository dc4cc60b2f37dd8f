"""Say where the bytes that were read aren't those that the target's receipt records.

Of a target, what lies there is judged, for that is what will be used. A source with other bytes than the one that was
converted isn't the model that the target must equal, however little they differ.
"""

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


def changed_source(source: Opened, receipt: Mapping[str, Any] | None) -> Iterator[str]:
    """The problem of a source of which tensors that were read have another digest than the receipt gives them."""
    if other := _others(source, "source", receipt):
        yield f"the source was changed since the conversion: {other} (convert again, or restore the source)"


def changed_target(target: Opened, receipt: Mapping[str, Any] | None) -> Iterator[str]:
    """The same of a target, as a note."""
    if other := _others(target, "target", receipt):
        yield f"the target isn't what the receipt records: {other}; what lies there was judged"


def _others(side: Opened, name: str, receipt: Mapping[str, Any] | None) -> str:
    """The tensors of other digests, in words; empty if there is none."""
    leaves = (receipt or {}).get(name, {}).get("leaves", {})
    read = side.read.digests
    other = [key for key, digest in read.items() if key in leaves and leaves[key]["digest"] != digest]
    return ", ".join(other[:_SHOWN]) + (f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else "")
