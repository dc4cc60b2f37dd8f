"""Several checkpoints in one: each component below its own prefix, with names and a config of its own.

A pack is a mapping like any other. Component ``text_model``'s keys begin with ``text_model.`` on both
sides, its config is the section ``text_model`` of both configs, and what it declares as ``layers`` is
called ``text_model.layers``, so that two components may declare the same.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from convkit.config import ConfigTable, Converted, Release
from convkit.errors import ConfigError
from convkit.mapping.algebra import Mapping
from convkit.mapping.keys import KeyTemplate
from convkit.mapping.layout import Layout, Variant
from convkit.mapping.ops import Elementwise, Pad
from convkit.mapping.rules import AnyRule, Derived, Folded, LeftBehind, Rule


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
        rules=tuple(rule.under(at, at) for at, mapping in parts for rule in _rules(mapping, at)),
        config=PackedTable(**{part.name: getattr(own, part.name) for part in fields(own)}, components=tables),
        variants=tuple(_variant(variant, at).under(at, at) for at, mapping in parts for variant in mapping.variants),
        facts=tuple(
            replace(fact, name=at + fact.name, left=_template(fact.left, at), right=_template(fact.right, at)).under(
                at, at
            )
            for at, mapping in parts
            for fact in mapping.facts
        ),
        measures=tuple(
            replace(
                measure,
                name=at + measure.name,
                left=measure.left and (_template(measure.left[0], at), measure.left[1]),
                right=measure.right and (_template(measure.right[0], at), measure.right[1]),
            ).under(at, at)
            for at, mapping in parts
            for measure in mapping.measures
        ),
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


@dataclass(frozen=True)
class _Scoped:
    """A function of a component's declared names, given those of the pack."""

    function: Callable[[dict[str, Any]], Any]
    at: str

    def __call__(self, names: dict[str, Any]) -> Any:
        own = {name.removeprefix(self.at): value for name, value in names.items() if name.startswith(self.at)}
        return self.function(names | own)


def _arguments(arguments: abc.Mapping[str, int | float | str], at: str) -> dict[str, int | float | str]:
    """A recipe's arguments, the declared names among them those of a part."""
    return {name: at + value if isinstance(value, str) else value for name, value in arguments.items()}


def _rules(mapping: Mapping, at: str) -> Iterator[AnyRule]:
    for rule in mapping.rules:
        if isinstance(rule, Rule):
            yield _rule(rule, mapping.axes, at)
        elif isinstance(rule, Derived):
            yield replace(
                rule,
                key=_template(rule.key, at),
                arguments=_arguments(rule.arguments, at),
                of=tuple(_template(text, at) for text in rule.of),
                shape=rule.shape and tuple(at + size if isinstance(size, str) else size for size in rule.shape),
                when=_condition(rule.when, at),
            )
        elif isinstance(rule, Folded):
            yield replace(
                rule,
                key=_template(rule.key, at),
                by=_template(rule.by, at),
                arguments=_arguments(rule.arguments, at),
                when=_condition(rule.when, at),
            )
        else:
            moved = replace(rule, key=_template(rule.key, at), when=_condition(rule.when, at))
            yield replace(moved, unless=_template(moved.unless, at)) if isinstance(moved, LeftBehind) else moved


def _rule(rule: Rule, axes: abc.Mapping[str, str], at: str) -> Rule:
    """The rule with its component's names; what the mapping says of a placeholder's length, the rule says itself."""
    placeholders = {name for text in rule.left + rule.right for name in KeyTemplate.parse(text).axes}
    sizes = {name: axes[name] for name in placeholders if name in axes} | dict(rule.sizes)
    return rule.changed(
        left=tuple(_template(text, at) for text in rule.left),
        right=tuple(_template(text, at) for text in rule.right),
        when=_condition(rule.when, at),
        ops=tuple(_op(op, at) for op in rule.ops),
        sizes={name: at + size if isinstance(size, str) else size for name, size in sizes.items()},
    )


def _op(op: Elementwise | Pad, at: str) -> Elementwise | Pad:
    return replace(op, to=at + op.to) if isinstance(op, Pad) else op


def _variant(variant: Variant, at: str) -> Variant:
    usual = variant.usual and _Scoped(variant.usual, at)
    return replace(variant, name=at + variant.name, probe=_template(variant.probe, at), usual=usual)


def _template(text: str, at: str) -> str:
    return text.replace("{=", "{=" + at)


def _condition(condition: str, at: str) -> str:
    parts = [part.strip() for part in condition.split("&")] if condition else []
    return " & ".join(f"!{at}{part[1:].strip()}" if part.startswith("!") else at + part for part in parts)
