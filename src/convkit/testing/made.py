"""What is made of a tiny checkpoint, and the decisions by chance on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from convkit.checkpoint import Leaf, TensorSpec
from convkit.mapping import Derived
from convkit.mapping.keys import Bindings

#: choices of each placeholder in a model in which more would be too many
FEW = 2


class Chances:
    """Decisions by chance: the same question has the same answer for as long as one model is made."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self._answers: dict[Any, Any] = {}
        #: the rule whose leaves are wanted in any case
        self.aim = ""

    def pick(self, question: Any, choices: Iterable[Any]) -> Any:
        """One of some choices."""
        return self._answers.setdefault(question, self.random.choice(list(choices)))

    def few(self, choices: tuple[Any, ...]) -> list[Any]:
        """A few of many choices."""
        return list(self._answers.setdefault(choices, self.random.sample(choices, min(FEW, len(choices)))))

    def says(self, question: Any, share: float = 0.5) -> bool:
        """Yes or no."""
        return bool(self._answers.setdefault(question, self.random.random() < share))


@dataclass
class Made:
    """Leaves of a checkpoint: specs by key, and for each name of a leaf that has several, the name that holds it."""

    specs: dict[str, TensorSpec] = field(default_factory=dict)
    names_of: dict[str, str] = field(default_factory=dict)
    #: leaves that a recipe computes from the declared names, or from other leaves
    derived: dict[str, tuple[Derived, Bindings]] = field(default_factory=dict)
    #: leaves in whose place any text stands
    spare: set[str] = field(default_factory=set)

    @property
    def leaves(self) -> dict[str, Leaf]:
        """The leaves as a checkpoint lists them."""
        return {key: Leaf(key, spec) for key, spec in self.specs.items()}
