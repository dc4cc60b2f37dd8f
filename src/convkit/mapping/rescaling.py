"""Models that are the same with other factors beside their weights: how a framework's checkpoints become such ones."""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from convkit.mapping.algebra import Mapping

#: the declared name that a plan of such a mapping has: what was asked for, and what stood there before
ASKED = "rescaled"


class Rescaling(Struct, frozen=True):
    """How checkpoints of a framework get factors in their configs that their weights are divided by.

    Attributes:
        framework: the part of a layout's name before the slash.
        mapping: of the mapping into the layout, and the fields that are asked for, the mapping from the layout to
            itself. Its plans have the declared name :data:`ASKED`, with the ``fields``.
    """

    framework: str
    mapping: Callable[[Mapping, abc.Mapping[str, Any]], Mapping]
