"""Several checkpoints in one: each component below its own prefix, with names and a config of its own.

A pack is a mapping like any other. Component ``text_model``'s keys begin with ``text_model.`` on both
sides, its config is the section ``text_model`` of both configs, and what it declares as ``layers`` is
called ``text_model.layers``, so that two components may declare the same.
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass, fields, replace
from typing import Any

from convkit.config import ConfigTable, Converted, Release
from convkit.errors import ConfigError
from convkit.mapping.algebra import Mapping
from convkit.mapping.layout import Layout


def pack(
    left: Layout, right: Layout, components: abc.Mapping[str, Mapping], config: ConfigTable | None = None
) -> Mapping:
    """The mapping of a checkpoint that consists of others; ``config`` is the table of what stands beside them."""
    own = config or ConfigTable()
    tables = tuple((name, mapping.config) for name, mapping in components.items())
    parts = [(f"{name}.", mapping) for name, mapping in components.items()]
    return Mapping(
        left=left,
        right=right,
        rules=tuple(
            rule.sized(mapping.axes).scoped(at).under(at, at) for at, mapping in parts for rule in mapping.rules
        ),
        config=PackedTable(**{part.name: getattr(own, part.name) for part in fields(own)}, components=tables),
        variants=tuple(variant.scoped(at).under(at, at) for at, mapping in parts for variant in mapping.variants),
        facts=tuple(fact.scoped(at).under(at, at) for at, mapping in parts for fact in mapping.facts),
        measures=tuple(measure.scoped(at).under(at, at) for at, mapping in parts for measure in mapping.measures),
    )


@dataclass(frozen=True)
class PackedTable(ConfigTable):
    """A table of a config's own fields, and one for each section that is a component's config."""

    components: tuple[tuple[str, ConfigTable], ...] = ()

    def inverse(self) -> PackedTable:
        """The same tables, read from right to left."""
        turned = tuple((name, table.inverse()) for name, table in self.components)
        return replace(self, reverse=not self.reverse, components=turned)

    def convert(
        self, config: abc.Mapping[str, Any], facts: abc.Mapping[str, Any] | None = None, release: Release = ()
    ) -> Converted:
        """Convert every section by its own table, with its own names.

        Raises:
            ConfigError: as for one table; the field is named with its section.
        """
        sections = dict(self.components)
        known = {name: value for name, value in (facts or {}).items() if name.split(".")[0] not in sections}
        whole = super().convert({key: value for key, value in config.items() if key not in sections}, known, release)
        for section, table in self.components:
            at = f"{section}."
            own = {name.removeprefix(at): value for name, value in (facts or {}).items() if name.startswith(at)}
            try:
                if not isinstance(config.get(section), dict):
                    raise ConfigError("has no such section", key=section, remedy="add the component's config")
                found = table.convert(config[section], known | own, release)
            except ConfigError as error:
                key = error.key if error.key == section else at + (error.key or "")
                raise ConfigError(error.problem, key=key, remedy=error.remedy) from None
            whole = Converted(
                whole.config | {section: found.config},
                whole.names | {at + name: value for name, value in found.names.items()},
                whole.defaults + tuple(entry | {"name": at + entry["name"]} for entry in found.defaults),
                whole.lost | ({section: found.lost} if found.lost else {}),
                whole.warnings + tuple(f"{section}: {warning}" for warning in found.warnings),
            )
        return whole
