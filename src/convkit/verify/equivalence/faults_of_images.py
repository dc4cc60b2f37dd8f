"""The faults that are planted before the layers of a model of images: see :mod:`.faults`."""

from __future__ import annotations

from functools import partial

from convkit.verify.equivalence.faults import Changes, Kind, Place, roll, without_gates

#: gates of positions
_GATES = ("tile_positions.gate", "tiles_before.gate", "tiles_after.gate")


def _without_gates_of_positions(place: Place) -> Changes:
    return without_gates(filter(place.reads, _GATES), place)


def _without_bias(role: str, place: Place) -> Changes:
    """Set a bias to zero."""
    return {role: place.oracle.part(role) * 0} if place.reads(role) else {}


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
    Kind("drop the bias of the projector", partial(_without_bias, "projector.bias")),
    Kind("transpose the patches", partial(_turned_patches, (0, 2, 1))),
    Kind("channels of the patches last for first", partial(_turned_patches, (1, 2, 0))),
)
