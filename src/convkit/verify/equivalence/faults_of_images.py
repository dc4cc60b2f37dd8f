"""The faults that are planted before the layers of a model of images: see :mod:`.faults`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from convkit.verify.equivalence.faults import Changes, Kind, Place, roll, without_gates

if TYPE_CHECKING:
    from torch import Tensor

#: gates of positions
_GATES = ("tile_positions.gate", "tiles_before.gate", "tiles_after.gate")


def _without_gates_of_positions(place: Place) -> Changes:
    return without_gates(filter(place.reads, _GATES), place)


def _of_projector(end: str, place: Place) -> list[str]:
    """The roles of all layers of the projector."""
    return [
        role
        for role in place.oracle.roles
        if role.startswith("projector.") and role.endswith(end) and place.reads(role)
    ]


def _without_biases(place: Place) -> Changes:
    """Set the projector's biases to zero."""
    return {role: place.oracle.part(role) * 0 for role in _of_projector("bias", place)}


def _layers_in_another_order(place: Place) -> Changes:
    """Give a layer of the projector what the one before it has, the first what the last one has, if it fits."""
    oracle = place.oracle
    changes: dict[str, Tensor] = {}
    for end in ("weight", "bias"):
        roles = _of_projector(end, place)
        for role, other in zip(roles, [*roles[-1:], *roles[:-1]], strict=True):
            if oracle.part_shape(role) == oracle.part_shape(other):
                changes[role] = oracle.part(other)
    return changes


def _transposed_projector(place: Place) -> Changes:
    """Transpose the projector's square weights, which their shapes don't show."""
    weights = {role: place.oracle.part(role) for role in _of_projector("weight", place)}
    return {role: weight.T for role, weight in weights.items() if weight.shape[0] == weight.shape[1]}


def _class_token_last(place: Place) -> Changes:
    """Read a table of positions whose last row is the class token's as if it were the first."""
    import torch

    token, patches = "class_position.weight", "patch_positions.weight"
    if not (place.reads(token) and place.reads(patches)):
        return {}
    rows = torch.cat((place.oracle.part(patches), place.oracle.part(token)))
    return {token: rows[:1], patches: rows[1:]}


def _turned_patches(axes: tuple[int, int, int], place: Place) -> Changes:
    """Read the pixels of each patch as if they were stored in another order of channels, rows and columns."""
    role, facts = "patches.weight", place.oracle.facts
    if not place.reads(role):
        return {}
    weight, sizes = place.oracle.part(role), (facts.image[-3], *facts.patch)
    stored = weight.unflatten(1, tuple(sizes[axis] for axis in axes))
    back = [1 + axes.index(axis) for axis in range(len(axes))]
    return {role: stored.permute(0, *back).flatten(1)}


#: what can be wrong before the layers, or between them
OF_IMAGES = (
    Kind("the class token's position last for first", _class_token_last),
    Kind("gates of the positions left out", _without_gates_of_positions),
    *(
        Kind(f"shift the shapes of an image {name}", partial(roll, f"{role}.weight"))
        for name, role in (
            ("in its positions", "tile_positions"),
            ("at first", "tiles_before"),
            ("later", "tiles_after"),
        )
    ),
    Kind("drop the bias of the projector", _without_biases),
    Kind("layers of the projector in another order", _layers_in_another_order),
    Kind("transpose the square weights of the projector", _transposed_projector),
    Kind("transpose the patches", partial(_turned_patches, (0, 2, 1))),
    Kind("channels of the patches last for first", partial(_turned_patches, (1, 2, 0))),
)
