"""What baselines say of a row, for the page: its history, and what has moved since."""

from __future__ import annotations

from msgspec import Struct

from convkit.baseline.comparing import compared
from convkit.baseline.document import Acceptance
from convkit.baseline.drift import Drift, RowDrift
from convkit.baseline.observed import Observed
from convkit.baseline.store import Store
from convkit.errors import ConvkitError


class Past(Struct, frozen=True, kw_only=True):
    """The acceptances of a row, the oldest first, and the row against the last of them."""

    accepted: tuple[Acceptance, ...] = ()
    drift: RowDrift


def past_of(row: Observed, store: Store) -> Past:
    """What the baseline of a row says; one that is refused says only that."""
    try:
        baseline = store.read(row.id)
    except ConvkitError as error:
        refused = Drift(kind="baseline refused", what=row.id, why=error.problem)
        return Past(drift=RowDrift(id=row.id, standing="drifted", drifts=(refused,)))
    return Past(accepted=tuple(baseline.accepted) if baseline else (), drift=compared(baseline, row))
