"""Make leaves in an order in which the bytes of files are complete one after another, for what takes them away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convkit.checkpoint import Writer
from convkit.checkpoint.outlet import Outlet
from convkit.checkpoint.source_files import Span
from convkit.execute.job import Job


def in_order(jobs: Sequence[Job], writers: Mapping[str, Writer]) -> list[Job]:
    """The jobs by the places of their leaves; those of leaves without a place first, in the order given."""
    placed = [(writers[job.role].place(job.key), job) for job in jobs]
    return [job for _, job in sorted(placed, key=lambda one: _position(one[0]))]


def forget_unsent(finished: dict[str, Any], jobs: Sequence[Job], writers: Mapping[str, Writer], outlet: Outlet) -> None:
    """Drop from a journal the leaves of which not all was sent: what isn't sent is made again."""
    for job in jobs:
        span = writers[job.role].place(job.key)
        if span is not None and not outlet.holds(span):
            finished.pop(job.journal_key, None)


def _position(span: Span | None) -> tuple[str, int]:
    return ("", 0) if span is None else (str(span.path), span.start)
