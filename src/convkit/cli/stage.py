"""Which stage of a command of several is at work, so that an error can name the one that stopped it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Work:
    """What a command does right now; empty if it does only one thing."""

    stage: str = ""


WORK = Work()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Name a stage while it runs, and after an error in it."""
    before, WORK.stage = WORK.stage, name
    yield
    WORK.stage = before
