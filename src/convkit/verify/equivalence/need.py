"""Predict what an equivalence check needs, from the plan of its conversion: memory and time."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from convkit.verify.documents import Described, Planned
from convkit.verify.equivalence.probe import POSITIONS, ROWS
from convkit.verify.equivalence.schedule import Mode
from convkit.verify.equivalence.stage_memory import Shape, StageShapes

#: the number of a layer in a key: the first number that stands alone, as in ``layers.3.weight`` and ``layers_3/kernel``
_NUMBER = re.compile(r"(?<![^._/])\d+(?![^._/])")
#: the field of a config that says up to which length a longrope model computes as it was first trained
_SWITCH = "original_max_position_embeddings"
#: how the keys of an optimizer's state begin, which no model reads
_OPTIMIZER = re.compile(r"(state|opt_states?|optimizer)[._/]")
#: tensors of a head: weight and bias
_OF_A_HEAD = 2
#: seconds before the first stage, on a slow machine
_START = 60
#: how often a stage is run, on average, by which faults are planted: as it is, again, aside, fed, free, and with those
_RUNS = {"none": 6, "spread": 12, "all": 40}
#: floating-point operations in a second, by one slow thread
_SPEED = 4e9
#: bytes in a second, from a slow disk
_DISK = 20e6


#: lengths of the input for which a plan says what its check needs
LENGTHS = tuple(2**power for power in range(5, 18))


@dataclass(frozen=True)
class Need:
    """What a check needs at most: anonymous memory of its process in bytes, and time in seconds."""

    memory: int
    seconds: float


def need(plan: Described, *, positions: int = POSITIONS, threads: int = 1, faults: Mode = "spread") -> Need:
    """Predict what the equivalence check of a conversion needs.

    Args:
        plan: of the conversion.
        positions: the length of the input, as it is asked for.
        threads: that run the models.
        faults: which are planted.
    """
    check = _Check(plan)
    return Need(check.memory(positions), check.start + check.computing(positions) * _RUNS[faults] / threads)


def foreseen(plan: Described) -> list[dict[str, Any]]:
    """The same as a document, for whoever doesn't run convkit: by the length of the input, of one thread.

    An entry has ``positions``, ``memory`` (bytes), ``start`` (seconds that any number of threads takes), and
    ``computing``: seconds by the faults that are planted.
    """
    check = _Check(plan)
    return [
        {
            "positions": length,
            "memory": check.memory(length),
            "start": round(check.start, 1),
            "computing": {faults: round(check.computing(length) * runs, 1) for faults, runs in _RUNS.items()},
        }
        for length in LENGTHS
    ]


class _Check:
    """The check of a conversion; ``start`` are the seconds before models run, and those for reading them."""

    def __init__(self, plan: Described) -> None:
        self._switch = max(_switch(plan.source.config), _switch(plan.target.config))
        self._sides = [_Side(leaves) for leaves in (plan.source_leaves, plan.target_leaves)]
        self.start = _START + sum(side.stored for side in self._sides) / _DISK

    def memory(self, positions: int) -> int:
        """Bytes, for an input of this length."""
        tokens = self._tokens(positions)
        return max(StageShapes(side.layers, side.table, tokens).memory() for side in self._sides)

    def computing(self, positions: int) -> float:
        """Seconds in which one thread runs both models once on an input of this length."""
        return 2 * max(side.elements for side in self._sides) * self._tokens(positions) / _SPEED

    def _tokens(self, positions: int) -> int:
        return ROWS * max(positions, self._switch + POSITIONS // 4 if self._switch else 0)


class _Side:
    """The tensors of one side that its model reads."""

    def __init__(self, leaves: Mapping[str, Planned]) -> None:
        layers = defaultdict[str, list[Shape]](list)
        outside: list[Shape] = []
        self.stored = self.elements = 0
        for key, leaf in leaves.items():
            spec = leaf.spec
            if spec is None or "float" not in spec.dtype or _OPTIMIZER.match(key):
                continue
            number = _NUMBER.search(key)
            (layers[key[: number.end()]] if number else outside).append(spec.shape)
            self.stored += spec.nbytes
            self.elements += spec.size
        self.table = table = max(outside, key=math.prod, default=())
        # a head may have a number too, as in ``classifier.ffn.0.weight``: its rows are those of the largest table
        found = [shapes for shapes in layers.values() if table not in shapes or len(shapes) > _OF_A_HEAD]
        # without numbers, layers lie stacked in tensors, and are at worst all read at once
        self.layers = found or [outside]


def _switch(config: Mapping[str, Any]) -> int:
    """Up to which input length a longrope model computes as it was first trained; 0 for others."""
    values = dict(_flat(config))
    if "longrope" not in [str(value).lower() for value in values.values()]:
        return 0
    return max((int(value) for name, value in values.items() if name == _SWITCH and value), default=0)


def _flat(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield name, value
