"""The figures of a plan, of every kind."""

from __future__ import annotations

from msgspec import Struct

from convkit.files.receipt_json import Natural


class Figures(Struct, frozen=True):
    """Leaves, bytes of tensors, and the predicted peak of anonymous memory."""

    source_leaves: Natural
    target_leaves: Natural
    bytes_read: Natural
    bytes_written: Natural
    peak_bytes: Natural
