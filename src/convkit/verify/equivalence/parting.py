"""Say where two models part: the state, the point inside its layer, and the tensors that feed it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from convkit.oracles.oracle import POINTS
from convkit.verify.equivalence.agreement import UPDATE

if TYPE_CHECKING:
    from convkit.oracles.oracle import Oracle
    from convkit.verify.equivalence.lanes import Lane, Models
    from convkit.verify.equivalence.stage_check import StageCheck

#: the roles that feed each state or output outside the layers
_FEEDS = {
    "embedding": ("embedding", "positions", "segments", "norm_embedding"),
    "encoder.between": ("norm_encoder", "tiles_after"),
    "encoded": ("norm_encoder", "projector"),
    "decoder.embedding": ("embedding", "embedding_decoder", "positions"),
    "final": ("norm_final", "norm_decoder"),
    "pooled": ("pooler",),
    "lm": ("head.lm",),
    "mlm": ("transform", "norm_transform", "head.mlm"),
    "nsp": ("head.nsp",),
    "classifier": ("head.classifier",),
    "text": ("head.text",),
    "question": ("head.question",),
    "context": ("head.context",),
}

#: roles of positions that each layer adds to its scores
_POSITIONS = ("positions_encoder", "positions_decoder", "slopes")


def parting(check: StageCheck, beyond: str, bound: float, n: int, *, strong: bool = False) -> dict[str, Any]:
    """Where the models first differ in a stage.

    Args:
        check: of the stage.
        beyond: the first of what it shows that is beyond its bound.
        bound: of that.
        n: the input.
        strong: whether it is so with the weak weights amplified.
    """
    state = beyond.removesuffix(UPDATE)
    point, feeds = state, _FEEDS.get(state) or _FEEDS.get(state.rpartition(".")[2], ())
    if state.startswith("layers."):
        layer = int(state.split(".")[1])
        gaps = check.inside(layer, n, strong)
        names = (name for name, gap in gaps.items() if gap.relative > bound and not name.endswith(UPDATE))
        point = next(names, state)
        inner = point.rsplit(".", 1)[-1]
        feeds = tuple(f"layers.{layer}.{role}" for role in POINTS.get(inner, ()))
        feeds += _POSITIONS if inner == "probabilities" else ()
    else:
        feeds = tuple(check.place.oracle.outside(feed, check.stage) for feed in feeds)
    sides = {"source": check.models.source, "target": check.models.target}
    return {"state": state, "point": point, **{name: _keys(lane.oracle, feeds) for name, lane in sides.items()}}


def _keys(oracle: Oracle, feeds: tuple[str, ...]) -> list[str]:
    """The tensors of these roles: weights, biases, scales."""
    named = [[role for role in oracle.roles if role == feed or role.startswith(f"{feed}.")] for feed in feeds]
    return list(dict.fromkeys(oracle.roles[role].key for roles in named for role in roles))


def not_finite(models: Models, stage: str) -> Iterator[str]:
    """The first tensor of each side that a stage reads and that holds NaN or an infinity."""
    for name, lane in {"source": models.source, "target": models.target}.items():
        if (key := _first_not_finite(lane, stage)) is not None:
            yield f"{key} of the {name} holds NaN or infinite values"
        lane.tensors.release()


def _first_not_finite(lane: Lane, stage: str) -> str | None:
    oracle = lane.oracle
    keys = dict.fromkeys(part.key for role, part in oracle.roles.items() if oracle.stage_of(role) == stage)
    return next((key for key in keys if not lane.tensors[key].isfinite().all()), None)
