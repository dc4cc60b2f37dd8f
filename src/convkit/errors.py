"""The one way in which convkit says no: one line that names the file, the key and the remedy."""

from __future__ import annotations

import os
from pathlib import PurePath

TYPE_CHECKING = False  # as in `typing`, which takes ten milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "ContradictionError",
    "ConvkitError",
    "IncompleteError",
    "PlanError",
    "UsageError",
    "meant",
    "visible",
]

#: what a terminal obeys or hides instead of showing it: controls, line separators, marks of direction, byte order marks
_UNSEEN = frozenset(
    chr(code)
    for first, last in (
        (0x00, 0x1F),
        (0x7F, 0x9F),
        (0x061C, 0x061C),
        (0x200B, 0x200B),
        (0x200E, 0x200F),
        (0x2028, 0x202E),
        (0x2060, 0x2069),
        (0xFEFF, 0xFEFF),
    )
    for code in range(first, last + 1)
)


def visible(text: str) -> str:
    r"""A text as one line that a terminal shows as it is: names of files, keys and values may hold anything.

    >>> visible("a\x1b[2Jb\n\u202ec"), visible("naïve 重み")
    ('a\\x1b[2Jb\\n\\u202ec', 'naïve 重み')
    """
    if _UNSEEN.isdisjoint(text):
        return text
    return "".join(letter.encode("unicode_escape").decode() if letter in _UNSEEN else letter for letter in text)


def meant(word: str, known: Iterable[str]) -> str:
    """The start of a remedy that names what a wrong word was probably meant to be; empty if nothing is like it.

    >>> meant("cerebras/lama", ["cerebras/llama", "hf/llama"]), meant("x", ["y"])
    ('did you mean cerebras/llama? ', '')
    """
    from difflib import get_close_matches

    spelled = {one.lower(): one for one in known}
    found = get_close_matches(word.lower(), spelled, n=1)
    return f"did you mean {spelled[found[0]]}? " if found else ""


class ConvkitError(Exception):
    """Input that can't be read, isn't supported, or a plan that isn't total (exit code 3).

    ``str(error)`` is one line: ``path: key: problem (remedy)``, with the parts that are known.
    """

    exit_code = 3

    def __init__(
        self,
        problem: str,
        *,
        path: str | os.PathLike[str] | None = None,
        key: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = problem
        # a path in a store has a text, and no place in this machine's file system
        self.path = None if path is None else str(path) if isinstance(path, PurePath) else os.fspath(path)
        self.key = key
        self.remedy = remedy
        names = [visible(name) for name in (self.path, key) if name]
        text = ": ".join([*names, problem] if problem else names) + (f" ({remedy})" if remedy else "")
        super().__init__(visible(" ".join(text.split())))


class UsageError(ConvkitError):
    """The command was called wrongly (exit code 2)."""

    exit_code = 2


class ConfigError(ConvkitError):
    """A config that can't be expressed on the other side, or contradicts the layout."""


class PlanError(ConvkitError):
    """A plan that isn't total, or a checkpoint that contradicts its config."""


class ContradictionError(PlanError):
    """A field of a config contradicts the tensors beside it; ``key`` is the field."""


class UnclaimedError(PlanError):
    """Leaves of the source that no rule of the mapping claims; ``key`` is the first."""


class IncompleteError(PlanError):
    """A leaf isn't there though something else says that it must be; ``key`` is the leaf."""
