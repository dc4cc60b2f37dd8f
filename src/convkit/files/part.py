"""One part of several of a piece of work, and what belongs to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

_PART = re.compile(r"(\d{1,6})/(\d{1,6})")


class Part(Struct, frozen=True, order=True):
    """Part ``number`` of ``count``, from 1 on; number 0 only begins the set.

    >>> Part.parse("3/8"), str(Part(3, 8))
    (Part(number=3, count=8), '3/8')
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """What is typed.

        Raises:
            ValueError: it isn't a part.
        """
        found = _PART.fullmatch(text)
        part = cls(int(found[1]), int(found[2])) if found else cls(1, 0)
        if not part.number <= part.count >= 1:
            raise ValueError(f"{text!r} isn't a part, as 3/8: a number up to that of all parts, or 0 to begin")
        return part

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def stretch(part: Part, sizes: Iterable[int]) -> Iterator[int]:
    """The positions that belong to a part: those whose middle lies in its share of all bytes.

    >>> [list(stretch(Part(number, 3), [4, 4, 1, 1, 8])) for number in (1, 2, 3)]
    [[0], [1, 2, 3], [4]]
    >>> [list(stretch(Part(number, 2), [0, 0])) for number in (1, 2)]
    [[0, 1], []]
    """
    sizes = list(sizes)
    total, before = sum(sizes), 0
    for position, size in enumerate(sizes):
        owner = min(part.count - 1, (2 * before + size) * part.count // max(1, 2 * total))
        if owner == part.number - 1:
            yield position
        before += size
