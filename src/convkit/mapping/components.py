"""Put several checkpoints into one: each component has its own prefix, declared names and config.

A pack is a mapping like any other. By default, the keys of component ``text`` begin with ``text.`` on both sides, and
its config is the section ``text`` of both configs. The name that it declares as ``layers`` is called
``text.layers``, so that two components may declare the same name.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from convkit.config import ConfigTable, Converted, Release, Row
from convkit.config.tree import dig, merge, plant, unseen, uproot
from convkit.errors import ConfigError
from convkit.mapping import algebra
from convkit.mapping.algebra import Mapping
from convkit.mapping.declaration import Which
from convkit.mapping.layout import Layout, Variant
from convkit.mapping.pattern import PatternError
from convkit.mapping.rules import AnyRule


class Component(Struct, frozen=True):
    """A mapping as a part of a pack.

    ``left`` and ``right`` are the prefixes (templates) of its keys, ``left_section`` and ``right_section`` the paths
    of its config below the pack's own section; ``models.0.encoder`` lies in a list. Of several paths the last one that
    a config has is read, and the first one is written; before the release that ``right_before`` names, the right one is
    written at the path there. The paths at which its table looks for a model section when it stands alone don't apply
    here. ``choices`` fixes its variants in this pack.
    ``rows`` replace the rows of its table that concern the same fields.
    """

    mapping: Mapping
    left: str | None = None
    right: str | None = None
    left_section: str | tuple[str, ...] | None = None
    right_section: str | tuple[str, ...] | None = None
    right_before: tuple[Release, str] | None = None
    choices: abc.Mapping[str, str] = {}
    rows: tuple[Row, ...] = ()

    def placed(self, name: str) -> Mapping:
        """Move its mapping to its place in the pack, with the scope ``name.`` before declared names.

        Raises:
            PatternError: a choice for an unknown variant, or a leaf that keeps its name below prefixes that differ.
        """
        own, scope = self.mapping, f"{name}."
        if unknown := self.choices.keys() - {variant.name for variant in own.variants}:
            raise PatternError(f"component {name}: no variant is called {min(unknown)!r}")
        mapping = replace(
            own,
            rules=tuple(rule.sized(own.axes).scoped(scope) for rule in own.rules),
            variants=tuple(self._chosen(variant).scoped(scope) for variant in own.variants),
            facts=tuple(fact.scoped(scope) for fact in own.facts),
            measures=tuple(measure.scoped(scope) for measure in own.measures),
            parts=tuple(part.scoped(scope) for part in own.parts),
            recalled=tuple(scope + name for name in own.recalled),
        )
        return algebra.under(
            scope if self.left is None else self.left, scope if self.right is None else self.right, mapping
        )

    def section(self, name: str) -> Section:
        """The section that is its config in the pack."""
        left, right = (
            (path,) if isinstance(path, str) else path or (name,) for path in (self.left_section, self.right_section)
        )
        places = frozenset(place for row in self.rows for place in row.places())
        rows = tuple(row for row in self.mapping.config.rows if not row.places() or row.places() - places)
        table = replace(self.mapping.config, rows=(*rows, *self.rows), left_at=("",), right_at=("",))
        return Section(name, left, right, table, self.right_before)

    def _chosen(self, variant: Variant) -> Variant:
        if variant.name not in self.choices:
            return variant
        return variant.changed(choices=(self.choices[variant.name],), probe="", headless=None, usual=None)


def pack(
    left: Layout,
    right: Layout,
    components: abc.Mapping[str, Mapping | Component],
    config: ConfigTable | None = None,
    *,
    under: tuple[str, str] = ("", ""),
    rules: tuple[AnyRule, ...] = (),
    variants: tuple[Variant, ...] = (),
) -> Mapping:
    """Make the mapping of a checkpoint that consists of other checkpoints.

    Args:
        left: the left layout of the whole.
        right: the right layout of the whole.
        components: components by name. They can't keep leaves verbatim where their prefixes differ by side.
        config: the table of the fields beside the components' configs. Its rows may also read and write inside them,
            and use the components' names (``text.layers``); sections lie below its own ``left_at``, ``right_at``.
        under: left and right prefix of all components' keys.
        rules: rules of the leaves beside the components, with whole keys.
        variants: variants of the whole, which the prefixes may name.
    """
    own = config or ConfigTable()
    parts = {name: part if isinstance(part, Component) else Component(part) for name, part in components.items()}
    placed = [part.placed(name) for name, part in parts.items()]
    sections = tuple(part.section(name) for name, part in parts.items())
    whole = Mapping(
        left=left,
        right=right,
        rules=tuple(rule for mapping in placed for rule in mapping.rules),
        config=PackedTable(**asdict(own), sections=sections),
        variants=tuple(variant for mapping in placed for variant in mapping.variants),
        facts=tuple(fact for mapping in placed for fact in mapping.facts),
        measures=tuple(measure for mapping in placed for measure in mapping.measures),
        parts=tuple(part for mapping in placed for part in mapping.parts),
        recalled=tuple(name for mapping in placed for name in mapping.recalled),
    )
    whole = algebra.under(*under, whole)
    return replace(whole, rules=(*whole.rules, *rules), variants=(*variants, *whole.variants))


class Section(Struct, frozen=True):
    """A component's config in that of a pack: where it may lie on each side, and its table."""

    name: str
    left: tuple[str, ...]
    right: tuple[str, ...]
    table: ConfigTable
    before: tuple[Release, str] | None = None

    def at(self, side: Which, release: Release = ()) -> str:
        """Where it is written on a side, below the pack's own section, for a release; () is the current one."""
        if side == "right" and self.before and release and release < self.before[0]:
            return self.before[1]
        return (self.left if side == "left" else self.right)[0]

    def found(self, side: Which, config: abc.Mapping[str, Any], base: str) -> str:
        """Where a config has it, whose own section of the pack is at ``base``; where it is written, if it has none."""
        paths = self.left if side == "left" else (*self.right, *(self.before[1:] if self.before else ()))
        there = (path for path in paths[::-1] if isinstance(dig(config, _joined(base, path)), dict))
        return next(there, paths[0])


class PackedTable(ConfigTable, frozen=True):
    """The table of a config's own fields, and a table for each section that is a component's config."""

    sections: tuple[Section, ...] = ()

    def inverse(self) -> PackedTable:
        """The same tables, read from right to left."""
        turned = tuple(replace(section, table=section.table.inverse()) for section in self.sections)
        return replace(self, reverse=not self.reverse, sections=turned)

    def respelled(self, config: dict[str, Any], earlier: abc.Mapping[str, Any]) -> None:
        """Do so for the fields beside the sections, and for those of every section."""
        super().respelled(config, earlier)
        for section in self.sections:
            side: Which = "left" if self.reverse else "right"
            theirs = dig(config, _joined(self.written_at, section.found(side, config, self.written_at)))
            had = dig(earlier, _joined(self.target_at(earlier), section.found(side, earlier, self.target_at(earlier))))
            if isinstance(theirs, dict) and isinstance(had, dict):
                section.table.respelled(theirs, had)

    def placed(self, config: dict[str, Any], earlier: abc.Mapping[str, Any]) -> None:
        """Move every section to where it lies in an ``earlier`` config, unless its release decides that, and their own
        section likewise.
        """
        side: Which = "left" if self.reverse else "right"
        for section in self.sections:
            if section.before and side == "right":
                continue
            had = section.found(side, earlier, self.target_at(earlier))
            if had != (now := section.found(side, config, self.written_at)):
                path = _joined(self.written_at, now)
                moved = dig(config, path)
                uproot(config, path)
                plant(config, _joined(self.written_at, had), moved)
        super().placed(config, earlier)

    def kept(self, config: dict[str, Any], lost: abc.Mapping[str, Any]) -> None:
        """Do so for the fields of every section, and for those beside them."""
        side: Which = "left" if self.reverse else "right"
        at = self.target_at(config)
        found = deepcopy(dict(lost))
        for section in self.sections:
            path = _joined(at, section.found(side, config, at))
            if section.before and side == "right":
                _move(found, _joined(at, section.found(side, found, at)), path)
            theirs, gone = dig(config, path), dig(found, path)
            if isinstance(theirs, dict) and isinstance(gone, dict):
                section.table.kept(theirs, gone)
        super().kept(config, found)

    def convert(
        self, config: abc.Mapping[str, Any], facts: abc.Mapping[str, Any] | None = None, release: Release = ()
    ) -> Converted:
        """Convert every section by its own table, with its own names; then the fields beside the sections.

        What the pack's own rows read inside a section needn't be read by the component's table.

        Raises:
            ConfigError: as for one table; the field is named with its section.
        """
        facts = facts or {}
        scopes = tuple(f"{section.name}." for section in self.sections)
        known = {name: value for name, value in facts.items() if not name.startswith(scopes)}
        base = self.section_path(config)
        parts = []
        for section, scope in zip(self.sections, scopes, strict=True):
            own = {name.removeprefix(scope): value for name, value in facts.items() if name.startswith(scope)}
            path = section.found("right" if self.reverse else "left", config, base)
            with _named_with(path):
                parts.append((section, path, section.table.begun(_section(config, base, path), known | own, release)))
        names = {f"{part.name}.{name}": value for part, _, run in parts for name, value in run.names.items()}
        whole = self.begun(config, known | names, release)
        found = []
        for section, path, run in parts:
            at = f"{_joined(base, path)}."
            with _named_with(path):
                inside = {one.removeprefix(at) for one in whole.source.seen if one.startswith(at)}
                to = section.at("left" if self.reverse else "right", release)
                written = _joined(self.written_at, to)
                found.append(_Part(section.name, path, _joined(base, path), to, written, run.finish(inside)))
        for part in found:
            _plant_below(whole.target.section, part.to, part.converted.config)
        own_part = whole.finish({part.at for part in found})
        return _together(config, own_part, found)


class _Part(Struct, frozen=True):
    """A converted section called ``name``: ``path`` below the pack's section of the source, ``at`` in its whole config,
    and ``to`` and ``written`` in the target's.
    """

    name: str
    path: str
    at: str
    to: str
    written: str
    converted: Converted


def _together(config: abc.Mapping[str, Any], own: Converted, parts: abc.Iterable[_Part]) -> Converted:
    """The pack's own fields and those of its sections."""
    seen, defaults, warnings = set(own.seen), list(own.defaults), list(own.warnings)
    deviations, unknown, origins = list(own.deviations), list(own.unknown), dict(own.origins)
    claims, denied = dict(own.claims), set(own.denied)
    for part in parts:
        found = part.converted
        seen |= {_joined(part.at, field) for field in found.seen}
        defaults += [entry | {"name": _joined(part.path, entry["name"])} for entry in found.defaults]
        warnings += [f"{part.path}: {warning}" for warning in found.warnings]
        places = {"source": part.at, "target": part.written}
        deviations += [replace(one, field=_joined(places[one.side], one.field)) for one in found.deviations]
        unknown += [_joined(part.path, field) for field in found.unknown]
        for name, (path, value) in found.origins.items():
            origins[f"{part.name}.{name}"] = (_joined(part.path, path), value)
        facts = found.claims.keys() & found.names.keys()  # keys of leaves would need the component's prefix
        claims |= {f"{part.name}.{name}": _joined(part.path, found.claims[name]) for name in sorted(facts)}
        denied |= {f"{part.name}.{name}" for name in found.denied}
    return replace(
        own,
        defaults=tuple(defaults),
        lost=unseen(config, seen),
        warnings=tuple(warnings),
        seen=frozenset(seen),
        deviations=tuple(deviations),
        unknown=tuple(unknown),
        origins=origins,
        claims=claims,
        denied=frozenset(denied),
    )


def _section(config: abc.Mapping[str, Any], base: str, path: str) -> dict[str, Any]:
    section = dig(config, _joined(base, path))
    if not isinstance(section, dict):
        raise ConfigError("has no such section", remedy="add the component's config")
    return section


@contextmanager
def _named_with(path: str) -> Iterator[None]:
    """Name the field of an error with the section in which it lies."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(error.problem, key=_joined(path, error.key or ""), remedy=error.remedy) from None


def _move(config: dict[str, Any], path: str, to: str) -> None:
    """Put the section at a path, if there is one, into another place."""
    above, _, name = path.rpartition(".")
    if path != to and isinstance(dig(config, path), dict):
        plant(config, to, dig(config, above).pop(name))


def _plant_below(config: dict[str, Any], path: str, section: dict[str, Any]) -> None:
    """Put a section in its place, beside what the pack's own rows have written there."""
    there = dig(config, path)
    if isinstance(there, dict):
        merge(there, section)
    else:
        plant(config, path, section)


def _joined(*paths: str) -> str:
    return ".".join(filter(None, paths))
