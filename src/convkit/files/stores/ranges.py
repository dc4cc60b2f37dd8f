"""Ranges of bytes that are joined where they touch."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Ranges:
    """A set of bytes, as ranges ``[start, stop)``."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def add(self, start: int, stop: int) -> None:
        """Add a range; parts of it may be there."""
        first, last = bisect_left(self._stops, start), bisect_right(self._starts, stop)
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last], self._stops[first:last] = [start], [stop]

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of a range is there."""
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and stop <= self._stops[at]

    def gaps(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """What isn't there of a range."""
        for at in range(bisect_right(self._stops, start), len(self._starts)):
            if self._starts[at] >= stop:
                break
            if start < self._starts[at]:
                yield start, self._starts[at]
            start = self._stops[at]
        if start < stop:
            yield start, stop
