"""Parts of a checkpoint: leaves that are there together or not at all, and leaves that others need.

What a mapping leaves optional, the tensors alone would decide, and an incomplete checkpoint would pass for a smaller
one. A part says what else decides: its own leaves, or those beside it.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from convkit.mapping.declaration import Declaration, Roles, Which, as_it_is, condition, own_side
from convkit.mapping.declaration import keys as of_keys


class Part(Declaration, Struct, frozen=True):
    """Leaves of one layout that are there together or not at all: an optimizer's slots, the biases of a layer.

    The leaves have the forms ``keys``. With ``beside``, a form of other leaves, they are there for each of those or for
    none, and no leaf of the part is there without its own. Placeholders that both forms have stand for the same text.
    Of the others, names count all, or any if they are marked (``{n:w?|kernel?}``), and what else there is
    (``{at:*}``, ``{i}``) stands for anything.

    >>> adam = Part("left", "Adam's state", ("state.{at:*}.{slot:mu|nu}.{leaf:*}",), beside="target.{leaf:*}")
    >>> print(adam)
    Adam's state

    Attributes:
        side: whose keys these are.
        what: for people, such as "Adam's state"; errors begin a clause with it.
        keys: the forms of its leaves.
        beside: the form of the leaves for which they are there; empty where they only need each other.
        needed: whether none isn't enough: beside each leaf of that form (or in any case, where it is empty) they must
            be there, while they may be there alone.
        lack: why a model may be without the whole part, where nothing else says that it must be there; one sentence.
        when: a condition on declared names.
    """

    side: Which
    what: str
    keys: tuple[str, ...]
    beside: str = ""
    needed: bool = False
    lack: str = ""
    when: str = ""

    roles: ClassVar[Roles] = {
        "side": own_side(),
        "what": as_it_is(),
        "keys": of_keys("own"),
        "beside": of_keys("own"),
        "needed": as_it_is(),
        "lack": as_it_is(),
        "when": condition(),
    }

    def __str__(self) -> str:
        return self.what
