"""Carry out a plan without an output: every leaf is made and digested, and nothing is written to a disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from convkit.checkpoint import Writer
from convkit.checkpoint.progress import Progress
from convkit.execute.carry import Carrier
from convkit.execute.chain import complement_of, jobs_of, links_of
from convkit.execute.conversion import digest_values, opened_earlier
from convkit.formats import get_format
from convkit.plan import Plan, Source

if TYPE_CHECKING:
    import numpy as np


class _Nowhere(Writer):
    """An output that keeps nothing."""

    def write(self, key: str, start: int, data: np.ndarray) -> None:
        """Keep nothing."""

    def finish(self, key: str) -> None:
        """Keep nothing."""

    def commit(self) -> None:
        """Keep nothing."""

    def close(self) -> None:
        """Keep nothing."""


class _Forgetful:
    """A journal without entries."""

    def __init__(self) -> None:
        self.finished: dict[str, Any] = {}

    def record(self, entry: dict[str, Any]) -> None:
        """Forget it."""


def leaf_digests(
    source: Source, plan: Plan, algorithm: str, *, threads: int | None = None, progress: Progress | None = None
) -> Mapping[str, Mapping[str, str]]:
    """The digests that a conversion's receipt would have: of ``source``, ``target`` and ``complement``, by leaf.

    Raises:
        ConvkitError: the source can't be read, or tied copies differ.
    """
    source = replace(source, checkpoint=plan.wrapping.off(source.checkpoint))
    carrier = Carrier(
        _Forgetful(),
        source.checkpoint,
        threads=threads or os.cpu_count() or 1,
        algorithm=algorithm,
        progress=progress,
        allow_overflow=any(stage.allow_overflow for stage in plan.stages),
    )
    ties = get_format(plan.target_format).ties
    with ExitStack() as stack:
        earlier = opened_earlier(source, plan, stack)
        links = links_of(plan, source.checkpoint, earlier)
        source.checkpoint.check_sums(carrier.threads)
        kept = complement_of(links, plan.before, earlier)
        own = [job for job in jobs_of(links) if not ties or plan.target_leaves[job.key].same_as is None]
        carrier.make([*own, *kept.jobs], {"target": _Nowhere(), "complement": _Nowhere()})
        carrier.digest_source()
        digest_values(carrier, source, plan)
    return carrier.digests
