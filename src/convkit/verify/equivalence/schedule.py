"""Choose which faults are planted in which stage.

``spread``: every layer gets at least one fault, and every kind that changes anything is planted in at least one layer.
The order is fixed by a seed, whatever was found. A wrong config that leaves no trace where it is planted is planted in
each further layer, beside those that are due there, until it shows. ``all``: every kind in every layer. ``none``: no
fault.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Literal

from convkit.verify.equivalence.faults import IN_A_LAYER, Kind, Place

Mode = Literal["all", "spread", "none"]
MODES: tuple[Mode, ...] = ("all", "spread", "none")


class Schedule:
    """The kinds that wait to be planted in a layer."""

    def __init__(
        self, mode: Mode, configs: Sequence[Kind], layers: Sequence[str], seed: int, more: Sequence[Kind] = ()
    ) -> None:
        """Plant these wrong ``configs``, and what can be wrong in tensors, in these ``layers``, by their stages.

        ``more`` is what can be wrong in the tensors of this pair of models beside :data:`IN_A_LAYER`.
        """
        self.mode, self.layers = mode, len(layers)
        self.kinds = {kind.name: kind for kind in (*IN_A_LAYER, *more, *configs)}
        self.configs = list(configs)
        in_tensors = [kind.name for kind in IN_A_LAYER]
        random.Random(seed).shuffle(in_tensors)
        first = [kind.name for kind in configs if not kind.stages.isdisjoint(layers)]
        #: names of those that weren't planted yet; wrong configs come first, since some matter in few layers only, and
        #: then what shows best where states differ most, in the first layers
        self.waiting = [*first, *(kind.name for kind in more), *in_tensors]
        #: names of those that were
        self.planted: list[str] = []
        #: names of wrong configs that were planted, and haven't shown yet
        self.traceless: list[str] = []

    def due(self, place: Place, kinds: Sequence[Kind] = ()) -> list[Kind]:
        """The kinds to plant in a place: of a layer, or these ``kinds`` of what stands outside the layers.

        A wrong config is planted outside the layers too, where it may be all that shows it.
        """
        if self.mode == "none":
            return []
        if place.layer is None:
            return [kind for kind in (*kinds, *self.configs) if kind.alters(place)]
        if self.mode == "all":
            return [kind for kind in self.kinds.values() if kind.alters(place)]
        found = self._spread(place, place.layer)
        names = {kind.name for kind in found}
        more = [name for name in self.traceless if name not in names and self.kinds[name].alters(place)]
        self.traceless = [name for name in self.traceless if name not in names and name not in more]
        return [*found, *(self.kinds[name] for name in more)]

    def leave(self, place: Place) -> None:
        """Go past a place, whose faults somebody else plants."""
        if self.mode == "spread" and place.layer is not None:
            self._spread(place, place.layer)

    def begin(self) -> None:
        """Begin to plant here: what others have found of the wrong configs that they planted isn't known."""
        configs = {kind.name for kind in self.configs}
        self.traceless = [name for name in self.planted if name in configs]

    def _spread(self, place: Place, layer: int) -> list[Kind]:
        quota = max(1, math.ceil(len(self.waiting) / (self.layers - layer)))
        found: list[Kind] = []
        for name in [*self.waiting]:
            if len(found) < quota and self.kinds[name].alters(place):
                found.append(self.kinds[name])
                self.waiting.remove(name)
        if not found:
            turned = self.planted[layer % len(self.planted) :] + self.planted if self.planted else []
            found += [kind for kind in map(self.kinds.__getitem__, turned) if kind.alters(place)][:1]
        self.planted += [kind.name for kind in found if kind.name not in self.planted]
        return found

    def again(self, kind: Kind) -> None:
        """Plant a kind in a further layer: it left no trace in this one, where the config may not matter."""
        if kind.name not in self.traceless:
            self.traceless.append(kind.name)
