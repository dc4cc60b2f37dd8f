"""Describe one layout: its name, its conventions, its variants, and what only its tensors show."""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from typing import Any, ClassVar

from msgspec import Struct

from convkit.errors import UsageError
from convkit.mapping.declaration import (
    Declaration,
    Roles,
    Which,
    as_it_is,
    axis_of_key,
    declared_name,
    function_of_names,
    keys,
    own_side,
)

#: tensors that can be drawn: key -> shape, dtype, and the bound of their numbers
Lacking = dict[str, tuple[tuple[int, ...], str, float]]


def parse_release(text: str | None) -> tuple[int, ...]:
    """Parse a release, ``2.10`` -> (2, 10): releases are tuples, never floats.

    Raises:
        UsageError: not a release.
    """
    if not text:
        return ()
    try:
        return tuple(int(part) for part in text.removeprefix("cs-").split("."))
    except ValueError:
        raise UsageError(f"{text!r} isn't a release", remedy="write it as 2.9") from None


class Layout(Struct, frozen=True):
    """How a model's tensors are named and arranged.

    ``conventions`` states what names can't show (``rotary: half``). ``signature`` recognises a config of this
    layout: each alternative is a set of fields and their values (None: absent; a tuple: any of these). Where
    checkpoints have no config, ``keys`` recognises them: a checkpoint of this layout has a leaf of each form.

    ``config_at`` lists the paths at which a config may hold the model's fields; ``signature`` reads the first.
    ``releases`` are those in which the layout differs, the current one last. ``companions`` are files beside
    the weights that belong to the model and hold no weights: they are copied along. ``by_name``: its framework's name
    alone doesn't mean it, nor a config that another layout has too. ``lacking`` names a function, ``module:name``: of a
    config and the specs of the leaves, it says which tensors the checkpoint lacks that can be drawn from a seed.
    """

    name: str
    summary: str
    format: str
    config_file: str
    releases: tuple[tuple[int, ...], ...] = ()
    conventions: abc.Mapping[str, str] = {}
    signature: tuple[abc.Mapping[str, Any], ...] = ()
    keys: tuple[str, ...] = ()
    config_at: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    by_name: bool = False
    lacking: str | None = None

    def __hash__(self) -> int:
        return hash(self.name)  # dicts have no hash


class Variant(Declaration, Struct, frozen=True):
    """A choice in which checkpoints of one layout differ: a key prefix, an old spelling.

    It becomes a declared name, for ``{=name}`` and ``when``. For a source, it is the first choice whose
    ``probe`` matches a key (without a probe, keys can't show it). Otherwise, and for a target, it is what
    the caller or the receipt of an earlier conversion says; else what ``usual`` computes from the declared
    names (for a target), or the first choice. ``headless`` is the choice of a model without its head:
    it is taken where the declared name ``headless`` (in a pack, that of the component: ``headless_if``) is true,
    by ``--headless`` or by the config table.
    """

    name: str
    side: Which
    choices: tuple[str, ...]
    probe: str = ""
    headless: str | None = None
    usual: Callable[[dict[str, Any]], str] | None = None
    headless_if: str = "headless"

    roles: ClassVar[Roles] = {
        "name": declared_name(),
        "side": own_side(),
        "choices": as_it_is(),
        "probe": keys("own"),
        "headless": as_it_is(),
        "usual": function_of_names(),
        "headless_if": declared_name(),
    }


class Fact(Declaration, Struct, frozen=True):
    """A fact that only the tensors can show: whether a leaf of this form is there.

    It becomes a declared name with the value True or False, for ``when`` and ``config.Flag``. ``lack`` is why a model
    may be without it, where neither the config nor other leaves say that it must be there; one sentence.
    """

    name: str
    left: str
    right: str
    lack: str = ""

    roles: ClassVar[Roles] = {
        "name": declared_name(),
        "left": keys("left"),
        "right": keys("right"),
        "lack": as_it_is(),
    }


class Measure(Declaration, Struct, frozen=True):
    """A declared name whose value comes from the leaves where no config gives it.

    ``left`` and ``right`` are (template, axis): the length of that axis of the first leaf of that form,
    or, where the axis is a placeholder, how far (or over how many names) it runs; None where that side
    can't show it.
    """

    name: str
    left: tuple[str, int | str] | None
    right: tuple[str, int | str] | None

    roles: ClassVar[Roles] = {
        "name": declared_name(),
        "left": axis_of_key("left"),
        "right": axis_of_key("right"),
    }
