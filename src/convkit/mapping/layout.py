"""What is said of one layout: its name, its conventions, its variants, and what its tensors alone can tell."""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from convkit.errors import UsageError


def parse_release(text: str | None) -> tuple[int, ...]:
    """``2.10`` -> (2, 10): releases are tuples, never floats.

    Raises:
        UsageError: not a release.
    """
    if not text:
        return ()
    try:
        return tuple(int(part) for part in text.removeprefix("cs-").split("."))
    except ValueError:
        raise UsageError(f"{text!r} is no release", remedy="write it as 2.9") from None


Which = Literal["left", "right"]


OTHER: dict[Which, Which] = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Layout:
    """How a model's tensors are named and arranged.

    ``conventions`` states what names can't show (``rotary: half``). ``signature`` lists what a
    config of this layout says of itself: each alternative is a set of fields and their values
    (None: absent; a tuple: any of these). Where checkpoints have no config, ``keys`` does: one of this
    layout has a leaf of each form. ``releases`` says that it differs from release to release.
    """

    name: str
    summary: str
    format: str
    config_file: str
    releases: bool = False
    conventions: abc.Mapping[str, str] = field(default_factory=dict, hash=False)
    signature: tuple[abc.Mapping[str, Any], ...] = field(default=(), hash=False)
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """A choice that checkpoints of one layout make differently: a key prefix, an old spelling.

    It becomes a declared name, for ``{=name}`` and ``when``. As source the first choice is taken
    for which ``probe`` matches a key (there is none where keys can't show it); else, and as target, what
    the caller or the receipt of an earlier conversion says; else what ``usual`` makes of the declared
    names (as target), or the first choice. ``headless`` is the choice of a model without its head:
    where the declared name ``headless`` is true, which ``--headless`` or the config table makes it.
    """

    name: str
    side: Which
    choices: tuple[str, ...]
    probe: str = ""
    headless: str | None = None
    usual: Callable[[dict[str, Any]], str] | None = None

    def inverse(self) -> Variant:
        """The same on the other side."""
        return replace(self, side=OTHER[self.side])

    def under(self, left: str, right: str) -> Variant:
        """The same below a prefix."""
        return replace(self, probe=self.probe and (left if self.side == "left" else right) + self.probe)


@dataclass(frozen=True)
class Fact:
    """Something that only the tensors can say: whether a leaf of this form is there.

    It becomes a declared name with the value True or False, for ``when`` and ``config.Flag``.
    """

    name: str
    left: str
    right: str

    def inverse(self) -> Fact:
        """The same with the sides exchanged."""
        return replace(self, left=self.right, right=self.left)

    def under(self, left: str, right: str) -> Fact:
        """The same below a prefix on each side."""
        return replace(self, left=left + self.left, right=right + self.right)


@dataclass(frozen=True)
class Measure:
    """A declared name that the leaves give where no config does.

    ``left`` and ``right`` are (template, axis): the length of that axis of the first leaf of that form,
    or, where the axis is a placeholder, how far (or over how many names) it runs; None where that side
    can't tell.
    """

    name: str
    left: tuple[str, int | str] | None
    right: tuple[str, int | str] | None

    def inverse(self) -> Measure:
        """The same with the sides exchanged."""
        return replace(self, left=self.right, right=self.left)

    def under(self, left: str, right: str) -> Measure:
        """The same below a prefix on each side."""
        return replace(
            self,
            left=self.left and (left + self.left[0], self.left[1]),
            right=self.right and (right + self.right[0], self.right[1]),
        )
