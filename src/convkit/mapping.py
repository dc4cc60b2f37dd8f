"""What can be said about two layouts: rules between them, declared once and used both ways.

A mapping is a value. :func:`inverse` turns it round, :func:`under` moves it below a prefix,
:func:`convkit.pack.pack` puts several into one checkpoint, :func:`for_slots` extends it to an
optimizer's moments, :func:`compose` chains two. A family's file in ``convkit.mappings`` is a table of
these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

from convkit.config import ConfigTable
from convkit.errors import ConvkitError
from convkit.keys import KeyTemplate, Placeholder
from convkit.ops import Elementwise, Pad, Shift
from convkit.pattern import Pattern, PatternError, Side, monomials

Which = Literal["left", "right"]
_OTHER: dict[Which, Which] = {"left": "right", "right": "left"}


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
    conventions: Dict[str, str] = field(default_factory=dict, hash=False)
    signature: tuple[Dict[str, Any], ...] = field(default=(), hash=False)
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
        return replace(self, side=_OTHER[self.side])

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


@dataclass(frozen=True, init=False)
class Rule:
    """Key template(s) on the left, key template(s) on the right, a rearrangement between them.

    Several templates on one side are names of one leaf: *tied* (equal bit by bit, which is proven
    before a copy is dropped) or, with ``copied``, independent copies of which the first is the
    model. ``pattern`` may be a dict from the names of a placeholder that stands on both sides
    (``"q|k"``) to a pattern each. ``ops`` follow the rearrangement, left to right. Further keyword
    arguments are sizes of the pattern's atoms: a number, or a declared name.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    pattern: tuple[tuple[str, str], ...]
    optional: bool
    when: str
    copied: bool
    ops: tuple[Elementwise | Pad, ...]
    sizes: tuple[tuple[str, int | str], ...]

    def __init__(
        self,
        left: str | tuple[str, ...],
        right: str | tuple[str, ...],
        pattern: str | Dict[str, str] | tuple[tuple[str, str], ...] = "... -> ...",
        *,
        optional: bool = False,
        when: str = "",
        copied: bool = False,
        ops: tuple[Elementwise | Pad, ...] = (),
        **sizes: int | str,
    ) -> None:
        branches = {"": pattern} if isinstance(pattern, str) else dict(pattern)
        left, right = _declared_once(
            (left,) if isinstance(left, str) else left, (right,) if isinstance(right, str) else right
        )
        try:
            spelled = tuple((names, str(Pattern.parse(text))) for names, text in branches.items())
        except PatternError as error:
            raise PatternError(f"rule {left[0]} <-> {right[0]}: {error}") from None
        values = {
            "left": left,
            "right": right,
            "pattern": spelled,
            "optional": optional,
            "when": when,
            "copied": copied,
            "ops": ops,
            "sizes": tuple(sorted(sizes.items())),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        _check(self)

    def changed(self, **changes: Any) -> Rule:
        """A copy with some parts replaced."""
        parts = {
            name: getattr(self, name) for name in ("left", "right", "pattern", "optional", "when", "copied", "ops")
        }
        parts |= changes
        sizes = dict(parts.pop("sizes", self.sizes))
        return Rule(**parts, **sizes)

    def inverse(self) -> Rule:
        """The same bijection, read from right to left."""
        return self.changed(
            left=self.right,
            right=self.left,
            pattern=tuple((names, str(Pattern.parse(text).inverse())) for names, text in self.pattern),
            ops=tuple(op.inverse() for op in reversed(self.ops)),
        )

    def under(self, left: str, right: str) -> Rule:
        """The same below a prefix on each side."""
        return self.changed(
            left=tuple(left + text for text in self.left), right=tuple(right + text for text in self.right)
        )

    def pattern_for(self, bound: Dict[str, int | str]) -> Pattern:
        """The pattern for leaves whose shared placeholders have these values."""
        values = {str(value) for value in bound.values()}
        return next(
            Pattern.parse(text) for names, text in self.pattern if names == "" or values & set(names.split("|"))
        )

    def __str__(self) -> str:
        sides = [
            text if len(names) == 1 else " = ".join(names) for names in (self.left, self.right) for text in names[:1]
        ]
        return f"{sides[0]} <-> {sides[1]}"


@dataclass(frozen=True)
class Derived:
    """A leaf that one layout may store and that follows from the config, or from other leaves of that layout.

    As source it is recomputed and compared; what differs is kept as complement, or refused where it is to be
    ``proven``. As target it isn't owed: it is written where an earlier conversion's receipt says that it was
    there. With a ``shape`` (numbers or declared names) it is, beside every leaf of the form ``of``.
    ``recipe`` is a name of ``convkit.recipes``; its arguments are numbers or declared names. ``of`` are the
    leaves that it reads, their placeholders those of the key; the dtype is that of the first unless said.
    """

    side: Which
    key: str
    recipe: str
    arguments: Dict[str, int | float | str] = field(default_factory=dict, hash=False)
    of: tuple[str, ...] = ()
    shape: tuple[int | str, ...] | None = None
    dtype: str = ""
    when: str = ""
    proven: bool = False

    def inverse(self) -> Derived:
        """The same on the other side."""
        return replace(self, side=_OTHER[self.side])

    def under(self, left: str, right: str) -> Derived:
        """The same below a prefix."""
        prefix = left if self.side == "left" else right
        return replace(self, key=prefix + self.key, of=tuple(prefix + text for text in self.of))

    def __str__(self) -> str:
        return f"{self.key} = {self.recipe}"


@dataclass(frozen=True)
class Folded:
    """A leaf that the other layout has multiplied by factors, which a second leaf ``by`` gives and which it lacks.

    As source it is read so by the rule that carries it; both leaves are kept as complement, from which they
    come back. ``recipe`` is a name of ``convkit.recipes.FACTORS``; its arguments are numbers or declared
    names. The placeholders of ``by`` are those of the key.
    """

    side: Which
    key: str
    by: str
    recipe: str
    arguments: Dict[str, int | float | str] = field(default_factory=dict, hash=False)
    when: str = ""

    def inverse(self) -> Folded:
        """The same on the other side."""
        return replace(self, side=_OTHER[self.side])

    def under(self, left: str, right: str) -> Folded:
        """The same below a prefix."""
        prefix = left if self.side == "left" else right
        return replace(self, key=prefix + self.key, by=prefix + self.by)

    def __str__(self) -> str:
        return f"{self.by} is folded into {self.key}"


@dataclass(frozen=True)
class LeftBehind:
    """Leaves of one layout that have no place in the other; listed, and kept as complement.

    Keys that begin with ``unless`` (a template) are not meant. ``when`` is a condition as a rule's.
    """

    side: Which
    key: str
    reason: str
    unless: str = ""
    when: str = ""

    def inverse(self) -> LeftBehind:
        """The same on the other side."""
        return replace(self, side=_OTHER[self.side])

    def under(self, left: str, right: str) -> LeftBehind:
        """The same below a prefix."""
        prefix = left if self.side == "left" else right
        return replace(self, key=prefix + self.key, unless=self.unless and prefix + self.unless)

    def __str__(self) -> str:
        return f"{self.key} stays behind"


@dataclass(frozen=True)
class Refused:
    """Leaves of one layout that no other rule claims, and that mean something the other layout can't say."""

    side: Which
    key: str
    reason: str
    remedy: str
    when: str = ""

    def inverse(self) -> Refused:
        """The same on the other side."""
        return replace(self, side=_OTHER[self.side])

    def under(self, left: str, right: str) -> Refused:
        """The same below a prefix."""
        return replace(self, key=(left if self.side == "left" else right) + self.key)

    def __str__(self) -> str:
        return f"{self.key} is refused"


@dataclass(frozen=True)
class Verbatim:
    """Leaves that no other rule claims and that keep their names on the other side."""

    key: str
    when: str = ""

    def inverse(self) -> Verbatim:
        """Itself."""
        return self

    def under(self, left: str, right: str) -> Verbatim:
        """The same below a prefix.

        Raises:
            PatternError: the prefixes differ, so the names would change.
        """
        if left != right:
            raise PatternError(f"{self}: can't stand below {left!r} and {right!r}")
        return replace(self, key=left + self.key)

    def __str__(self) -> str:
        return f"{self.key} <-> {self.key}"


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


AnyRule = Rule | Derived | Folded | LeftBehind | Refused | Verbatim


@dataclass(frozen=True)
class Mapping:
    """A pair of layouts and the rules between them.

    ``axes`` says which declared name is the length of an integer placeholder (``i`` -> ``layers``),
    so that a missing layer is seen.
    """

    left: Layout
    right: Layout
    rules: tuple[AnyRule, ...]
    config: ConfigTable = field(default_factory=ConfigTable)
    variants: tuple[Variant, ...] = ()
    facts: tuple[Fact, ...] = ()
    measures: tuple[Measure, ...] = ()
    axes: Dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """``hf/llama <-> cerebras/llama``."""
        return f"{self.left.name} <-> {self.right.name}"


@dataclass(frozen=True)
class Chain:
    """Mappings one after another: each starts where the one before ends."""

    links: tuple[Mapping, ...]

    def inverse(self) -> Chain:
        """The way back."""
        return Chain(tuple(inverse(mapping) for mapping in reversed(self.links)))


def inverse(mapping: Mapping) -> Mapping:
    """The mapping from right to left; ``inverse(inverse(m)) == m``."""
    return Mapping(
        left=mapping.right,
        right=mapping.left,
        rules=tuple(rule.inverse() for rule in mapping.rules),
        config=mapping.config.inverse(),
        variants=tuple(variant.inverse() for variant in mapping.variants),
        facts=tuple(fact.inverse() for fact in mapping.facts),
        measures=tuple(measure.inverse() for measure in mapping.measures),
        axes=mapping.axes,
    )


def under(left: str, right: str, rules: Iterable[AnyRule]) -> tuple[AnyRule, ...]:
    """Rules below a prefix on each side: the way to write a layer's rules once."""
    return tuple(rule.under(left, right) for rule in rules)


def for_slots(mapping: Mapping, slots: Iterable[str], left: str, right: str) -> Mapping:
    """Extend a mapping to an optimizer's moments, which follow their parameters.

    ``left`` and ``right`` are prefixes with a placeholder ``{slot}``. A shift does not apply to moments.

    Raises:
        ConvkitError: a rule scales its tensor, so its moments would have to be rescaled too.
    """
    axis = "{slot:" + "|".join(slots) + "}"
    extended: list[AnyRule] = list(mapping.rules)
    for rule in mapping.rules:
        if not isinstance(rule, Rule):
            continue
        ops = tuple(op for op in rule.ops if not isinstance(op, Shift))
        if any(not isinstance(op, Pad) for op in ops):
            raise ConvkitError(
                f"rule {rule}: the moments of a scaled tensor can't follow it", remedy="convert the weights alone"
            )
        extended.append(rule.changed(ops=ops).under(left.replace("{slot}", axis), right.replace("{slot}", axis)))
    return replace(mapping, rules=tuple(extended))


def compose(first: Mapping | Chain, second: Mapping | Chain) -> Chain:
    """What carries ``first``'s left layout to ``second``'s right layout (:mod:`convkit.chain` does it).

    Raises:
        ConvkitError: they don't meet in one layout.
    """
    before, after = [side.links if isinstance(side, Chain) else (side,) for side in (first, second)]
    middle, start = before[-1].right.name, after[0].left.name
    if middle != start:
        raise ConvkitError(f"{middle} and {start} are different layouts", remedy="chain mappings that meet")
    return Chain(before + after)


def _declared_once(*sides: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Write out the choices of a placeholder wherever it appears: ``{p:q|k}`` once makes ``{p}`` the same."""
    declared = {
        found[1]: found[0]
        for templates in sides
        for text in templates
        for found in re.finditer(r"\{(\w+):[^{}]*\}", text)
    }
    return [tuple(re.sub(r"\{(\w+)\}", lambda f: declared.get(f[1], f[0]), text) for text in side) for side in sides]


def _check(rule: Rule) -> None:
    """A rule must be a bijection before it has met a checkpoint.

    Raises:
        PatternError: a placeholder without a place on the other side, pieces that differ, an op that can't be undone.
    """
    try:
        axes = {"left": _axes(rule.left), "right": _axes(rule.right)}
        shared = {name: field for name, field in axes["left"].items() if name in axes["right"]}
        if any(axes["right"][name] != field for name, field in shared.items()):
            raise PatternError("a placeholder of both sides must have the same choices on both")
        _check_ops(rule, one_leaf=axes["left"].keys() == axes["right"].keys())
        _check_branches(rule, shared)
        sized = axes["left"].keys() | axes["right"].keys()
        for branch, text in rule.pattern:
            pattern = Pattern.parse(text)
            pieces: dict[str, list[list[str]]] = {}
            for side, own in (("left", pattern.left), ("right", pattern.right)):
                single = [field for name, field in axes[side].items() if name not in shared]
                pieces[side] = sorted(sorted(piece) for piece in _pieces(own, single))
                if any(a == b for a, b in pairwise(pieces[side])):
                    raise PatternError(f"'{text}' names one piece twice on the {side}")
                if loops := shared.keys() & {name for piece in pieces[side] for name in piece}:
                    raise PatternError(f"'{{{min(loops)}}}' stands in the keys of both sides, so it is no axis")
            sized |= {name for piece in pieces["left"] for name in piece}
            if pieces["left"] != pieces["right"]:
                where = f" ({branch})" if branch else ""
                shown = [
                    f"{side} has {', '.join('·'.join(piece) or '1' for piece in found)}"
                    for side, found in pieces.items()
                ]
                raise PatternError(f"'{text}'{where} is not a bijection: {'; '.join(shown)}")
        if other := dict(rule.sizes).keys() - sized:
            raise PatternError(f"'{min(other)}' is the size of nothing")
    except PatternError as error:
        raise PatternError(f"rule {rule}: {error}") from None


def _axes(templates: tuple[str, ...]) -> Dict[str, Placeholder]:
    first, *others = [KeyTemplate.parse(text) for text in templates]
    if any(other.axes != first.axes for other in others):
        raise PatternError("names of one leaf must have the same placeholders")
    if any(field.wild for template in (first, *others) for field in template.placeholders.values()):
        raise PatternError("'{...:*}' says nothing of the other side's name")
    return first.axes


def _check_branches(rule: Rule, shared: Dict[str, Placeholder]) -> None:
    """Patterns by branch must cover the choices of one shared placeholder."""
    named = {name for names, _ in rule.pattern for name in names.split("|")}
    if named != {""} and not any(named == set(field.choices) for field in shared.values()):
        raise PatternError(f"the patterns' branches {', '.join(sorted(named))} are not the choices of a placeholder")


def _check_ops(rule: Rule, one_leaf: bool) -> None:
    """What is padded must be found again as the fill, so arithmetic has no place beside it."""
    pads = [op for op in rule.ops if isinstance(op, Pad)]
    if pads and len(rule.ops) > 1:
        raise PatternError("a rule that pads can't pad twice, shift or scale")
    if pads and not one_leaf:
        raise PatternError("a rule that pads carries one leaf into one")


def _pieces(side: Side, single: list[Placeholder]) -> Iterable[frozenset[str]]:
    """The pieces of one side over all branches of the placeholders that only it has."""
    labels: list[dict[str, int | str]] = [{}]
    for field_ in single:
        if side.stacks(field_.name):
            continue
        if not field_.choices:
            raise PatternError(f"'{{{field_.name}}}' stands on one side and isn't an axis of the other")
        labels = [label | {field_.name: choice} for label in labels for choice in field_.choices]
    for label in labels:
        yield from monomials(side.axes(label).with_ellipsis(1))
