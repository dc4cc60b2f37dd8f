"""Put several checkpoints into one: each component has its own prefix, declared names and config.

A pack is a mapping like any other. By default, the keys of component ``text`` begin with ``text.`` on both sides, and
its config is the section ``text`` of both configs. The name that it declares as ``layers`` is called
``text.layers``, so that two components may declare the same name.
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass, field, fields, replace
from typing import Any

from convkit.config import ConfigTable, Converted, Release, Row
from convkit.config.tree import dig, merge, plant, unseen
from convkit.errors import ConfigError
from convkit.mapping import algebra
from convkit.mapping.algebra import Mapping
from convkit.mapping.layout import Layout, Variant
from convkit.mapping.pattern import PatternError
from convkit.mapping.rules import AnyRule


@dataclass(frozen=True)
class Component:
    """A mapping as a part of a pack.

    ``left`` and ``right`` are the prefixes (templates) of its keys, ``left_section`` and ``right_section`` the paths
    of its config below the pack's own section; ``models.0.encoder`` lies in a list. The paths at which its table looks
    for a model section when it stands alone don't apply here. ``choices`` fixes its variants in this pack.
    ``rows`` replace the rows of its table that concern the same fields.
    """

    mapping: Mapping
    left: str | None = None
    right: str | None = None
    left_section: str | None = None
    right_section: str | None = None
    choices: abc.Mapping[str, str] = field(default_factory=dict, hash=False)
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
        )
        return algebra.under(
            scope if self.left is None else self.left, scope if self.right is None else self.right, mapping
        )

    def section(self, name: str) -> Section:
        """The section that is its config in the pack."""
        left, right = (name if path is None else path for path in (self.left_section, self.right_section))
        places = frozenset(place for row in self.rows for place in row.places())
        rows = tuple(row for row in self.mapping.config.rows if not row.places() or row.places() - places)
        table = replace(self.mapping.config, rows=(*rows, *self.rows), left_at=("",), right_at=("",))
        return Section(name, left, right, table)

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
        config=PackedTable(**{part.name: getattr(own, part.name) for part in fields(own)}, sections=sections),
        variants=tuple(variant for mapping in placed for variant in mapping.variants),
        facts=tuple(fact for mapping in placed for fact in mapping.facts),
        measures=tuple(measure for mapping in placed for measure in mapping.measures),
    )
    whole = algebra.under(*under, whole)
    return replace(whole, rules=(*whole.rules, *rules), variants=(*variants, *whole.variants))


@dataclass(frozen=True)
class Section:
    """A component's config in that of a pack: where it lies on each side, and its table."""

    name: str
    left: str
    right: str
    table: ConfigTable

    def convert(self, path: str, config: Any, facts: abc.Mapping[str, Any], release: Release) -> Converted:
        """Convert the component's config, which is the section at ``path`` of the pack's ``config``.

        Raises:
            ConfigError: as for one table; the field is named with its section.
        """
        section, at = dig(config, path), f"{path}." if path else ""
        if not isinstance(section, dict):
            raise ConfigError("has no such section", key=path, remedy="add the component's config")
        try:
            return self.table.convert(section, facts, release)
        except ConfigError as error:
            raise ConfigError(error.problem, key=at + (error.key or ""), remedy=error.remedy) from None


@dataclass(frozen=True)
class PackedTable(ConfigTable):
    """The table of a config's own fields, and a table for each section that is a component's config."""

    sections: tuple[Section, ...] = ()

    def inverse(self) -> PackedTable:
        """The same tables, read from right to left."""
        turned = tuple(replace(section, table=section.table.inverse()) for section in self.sections)
        return replace(self, reverse=not self.reverse, sections=turned)

    def convert(
        self, config: abc.Mapping[str, Any], facts: abc.Mapping[str, Any] | None = None, release: Release = ()
    ) -> Converted:
        """Convert every section by its own table, with its own names; then the fields beside the sections.

        Raises:
            ConfigError: as for one table; the field is named with its section.
        """
        facts = facts or {}
        scopes = tuple(f"{section.name}." for section in self.sections)
        known = {name: value for name, value in facts.items() if not name.startswith(scopes)}
        source, target = ("right", "left") if self.reverse else ("left", "right")
        base = self.section_path(config)
        found = []
        for section, scope in zip(self.sections, scopes, strict=True):
            own = {name.removeprefix(scope): value for name, value in facts.items() if name.startswith(scope)}
            path = getattr(section, source)
            found.append((section, path, section.convert(path, dig(config, base), known | own, release)))
        names = {f"{part.name}.{name}": value for part, _, one in found for name, value in one.names.items()}
        whole = super().convert(config, known | names, release)
        seen, defaults, warnings = set(whole.seen), list(whole.defaults), list(whole.warnings)
        for section, path, one in found:
            _plant_below(whole.config, _joined(getattr(self, f"{target}_at")[0], getattr(section, target)), one.config)
            seen |= {_joined(base, path, field) for field in one.seen}
            defaults += [entry | {"name": _joined(path, entry["name"])} for entry in one.defaults]
            warnings += [f"{path}: {warning}" for warning in one.warnings]
        lost = unseen(config, seen)
        return Converted(whole.config, whole.names, tuple(defaults), lost, tuple(warnings), frozenset(seen))


def _plant_below(config: dict[str, Any], path: str, section: dict[str, Any]) -> None:
    """Put a section in its place, beside what the pack's own rows have written there."""
    there = dig(config, path)
    if isinstance(there, dict):
        merge(there, section)
    else:
        plant(config, path, section)


def _joined(*paths: str) -> str:
    return ".".join(filter(None, paths))
