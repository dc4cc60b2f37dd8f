"""How far leaves that changed are from what was accepted, where the accepted output is still there."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from convkit.baseline.drift import Drift, RowDrift
from convkit.checkpoint import Checkpoint
from convkit.checkpoint.digests import digest_leaf
from convkit.errors import ConvkitError
from convkit.formats import open_checkpoint
from convkit.verify.diff import distance

_BY_DIGEST = "by how much isn't known: only the digest of the old leaf is there"


def by_ulps(row: RowDrift, now: Path | None, before: Path | None) -> RowDrift:
    """The same, and each leaf that changed with its distance in ulp, or with why that isn't known.

    Args:
        row: what has moved.
        now: the output; None if it isn't there.
        before: the output that was accepted; None if it isn't there any more.
    """
    if now is None or before is None:
        return structs.replace(row, drifts=tuple(_unknown(one) for one in row.drifts))
    try:
        with open_checkpoint(before) as old, open_checkpoint(now) as new:
            return structs.replace(row, drifts=tuple(_measured(one, old, new) for one in row.drifts))
    except ConvkitError:
        return structs.replace(row, drifts=tuple(_unknown(one) for one in row.drifts))


def _measured(drift: Drift, old: Checkpoint, new: Checkpoint) -> Drift:
    if drift.kind != "leaf changed":
        return drift
    key = drift.what
    specs = [side.leaves[key].spec if key in side.leaves else None for side in (old, new)]
    if specs[0] is None or specs[1] is None or digest_leaf(old, key, drift.before.partition(":")[0]) != drift.before:
        return _unknown(drift)
    if specs[0] != specs[1]:
        was, now = (f"{spec.dtype} {list(spec.shape)}" for spec in specs if spec)
        return structs.replace(drift, why=f"{drift.why}; it was {was}, and is {now}")
    tally = distance(key, old, new)
    return structs.replace(drift, differing=tally.differing, elements=tally.elements, max_ulp=tally.max_ulp)


def _unknown(drift: Drift) -> Drift:
    if drift.kind != "leaf changed":
        return drift
    return structs.replace(drift, why=f"{drift.why}; {_BY_DIGEST}")
