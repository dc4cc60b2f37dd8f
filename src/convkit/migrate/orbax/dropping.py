"""Which leaves and items a migration leaves out, because the user names them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from convkit.errors import UsageError


class Dropping:
    """Names or globs of ``--drop``; it knows which of them have named something.

    A leaf is called by its storage name (``params.w``), or with its item and step before it (``12/state/params.w``); an
    item by its name.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._unused = dict.fromkeys(patterns)
        self._patterns = patterns

    def item(self, step: str, item: str) -> bool:
        """Whether a whole item is left out."""
        return bool(item) and self._names(_called(step, item))

    def leaves(self, step: str, item: str, names: Iterable[str]) -> tuple[str, ...]:
        """Those of an item's leaves that are left out, by storage name."""
        if not self._patterns:
            return ()
        return tuple(name for name in names if self._names({name, *_called(step, f"{item}/{name}" if item else name)}))

    def check_used(self, source: Path) -> None:
        """Check that each name was somebody's.

        Raises:
            UsageError: nothing is called so.
        """
        if unused := next(iter(self._unused), None):
            raise UsageError(
                f"--drop {unused}: no leaf or item has that name", path=source, remedy=f"see convkit inspect {source}"
            )

    def _names(self, names: Iterable[str]) -> bool:
        found = [pattern for pattern in self._patterns if any(fnmatchcase(name, pattern) for name in (*names,))]
        for pattern in found:
            self._unused.pop(pattern, None)
        return bool(found)


def _called(step: str, name: str) -> set[str]:
    return {name, f"{step}/{name}" if step else name}
