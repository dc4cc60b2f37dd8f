"""What becomes of the fields of a model's config."""

from __future__ import annotations

from collections import abc
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

from convkit.config import ConfigTable, Converted, Field, Flag, Release
from convkit.config.fates import fates
from convkit.config.sides import Which
from convkit.config.tree import dig, missing_from, plant, same
from convkit.errors import ConfigError
from convkit.mapping import Mapping, inverse
from convkit.mapping.components import PackedTable
from convkit.plan import Plan
from convkit.testing.configs import class_fields, some_values
from convkit.testing.models import Model


def facts_of(mapping: Mapping, plan: Plan) -> dict[str, Any]:
    """The declared names of a plan that don't come from the config of its source."""
    own = {fact.name for fact in mapping.facts} | {measure.name for measure in mapping.measures}
    own |= {variant.name for variant in mapping.variants if variant.side == "left"}
    return {name: value for name, value in plan.names.items() if name in own}


def check_config(model: Model, config: dict[str, Any], release: Release = ()) -> Converted:
    """Check that a config means the same after it has come back from what it becomes, and return what it becomes.

    Raises:
        ConfigError: it can't be converted.
        AssertionError: it doesn't come back, or as another one.
    """
    mapping, table, release = model.mapping, model.mapping.config, release or model.options.release
    facts = facts_of(mapping, model.plan) | {"headless": model.options.headless}
    there = table.convert(config, facts, release)
    theirs = facts_of(inverse(mapping), model.plan_back) | {"headless": there.names["headless"]}
    try:
        back = table.inverse().convert(there.config, theirs, release).config
        table.inverse().kept(back, missing_from(back, config))  # which conversions keep as complement
        again = table.convert(back, facts, release)
    except ConfigError as error:
        raise AssertionError(f"{mapping.name}: what a config becomes doesn't come back: {error}") from error
    if not there.deviations:
        for path in sorted(there.config.keys() | again.config.keys()):
            one, other = there.config.get(path), again.config.get(path)
            assert one == other or None in (one, other) or _one_thing(table, path, one, other), (
                f"{mapping.name}: {path} is {one!r}, and after there and back {other!r}"
            )
    return there


def _one_thing(table: ConfigTable, path: str, one: Any, other: Any) -> bool:
    """Whether two values of a field of the left are names of one thing: one value of the right stands for both."""
    named = (row.values for row in table.rows if isinstance(row, Field) and table.reverse and row.left == path)
    exact = [pair for values in named for pair in values if len(pair) == 2]
    first, second = ({str(right) for left, right in exact if same(left, value)} for value in (one, other))
    return bool(first & second)


def check_rows(mapping: Mapping) -> None:
    """Check that rows name fields of the classes, and that a field that no row reads has no effect by default.

    Raises:
        AssertionError: one doesn't.
    """
    wrong = {
        "unknown": "is named by a row, and the class has no such field",
        "refused": "has an effect by default, and no row reads it",
    }
    for table in _tables(mapping.config):
        for fate in fates(table):
            assert fate.what not in wrong, f"{mapping.name}: {fate.cls}: {fate.field} {wrong[fate.what]}"


def _tables(table: ConfigTable) -> Iterator[ConfigTable]:
    """A table and those of its sections."""
    yield table
    for section in table.sections if isinstance(table, PackedTable) else ():
        yield from _tables(section.table)


def check_fields(model: Model) -> None:
    """Check some values of each field of the classes of a model's side.

    Raises:
        AssertionError: a value isn't refused by name, doesn't come back, or is passed over in silence.
    """
    for table, section, path in _fields(model.mapping.config, model.config):
        field = class_fields(table, _source(table))[path]
        without = _without(model.config, section, path)
        silent = _said(model, without)
        for value in some_values(field):
            config = deepcopy(without)
            plant(config, f"{section}.{path}" if section else path, value)
            said = _said(model, config, f"{path} = {value!r}")
            row = _plain_rows(model.mapping.config).get(path)
            if said is not None and said == silent and row is not None:
                known = facts_of(model.mapping, model.plan) | _of_components(table, model.plan.names)
                conversion = table.begun(config, known, model.options.release)
                source = conversion.source
                its = source.cls.find(path) if source.cls else None
                if its is None or not source.applies(its) or its.is_neutral(value, source.release, source.names):
                    continue
                default = source.default(path)
                if default is None and isinstance(row, Field):
                    default = conversion.computed(row.null)
                assert same(value, default), f"{model.mapping.name}: {path} = {value!r} is passed over in silence"


def _of_components(table: ConfigTable, names: abc.Mapping[str, Any]) -> dict[str, Any]:
    """The declared names of a table's components, which its own rows use."""
    scopes = tuple(f"{part.name}." for part in table.sections) if isinstance(table, PackedTable) else ()
    return {name: value for name, value in names.items() if name.startswith(scopes)} if scopes else {}


def plainer(model: Model) -> Iterator[Model]:
    """The model with null in one of the fields that may be null, each in turn: a release may lack that field."""
    for table, section, path in _fields(model.mapping.config, model.config):
        place = f"{section}.{path}" if section else path
        if class_fields(table, _source(table))[path].kind.null and dig(model.config, place) is not None:
            config = deepcopy(model.config)
            plant(config, place, None)
            yield replace(model, config=config)


def _plain_rows(table: ConfigTable) -> dict[str, Field | Flag]:
    """The rows that carry one field each, which leave nothing to functions nor to tensors, by that field."""
    rows = [row for row in table.rows if isinstance(row, Flag) or (isinstance(row, Field) and not row.measured)]
    return {getattr(row, _source(table)): row for row in rows}


def _said(model: Model, config: dict[str, Any], what: str = "") -> Any:
    """All that a config says about the target; None if it is refused, which must be by name."""
    mapping = model.mapping
    try:
        there = check_config(model, config)
    except ConfigError as refusal:
        assert refusal.key or not what, f"{mapping.name}: {what} is refused, but not by name: {refusal}"
        return None
    except AssertionError as error:
        raise AssertionError(f"{error} (with {what})" if what else str(error)) from error
    except Exception as error:
        raise AssertionError(f"{mapping.name}: {what}: {type(error).__name__}: {error}") from error
    names = {name: value for name, value in there.names.items() if not callable(value)}
    return there.config, names, there.warnings, there.deviations


def _without(config: dict[str, Any], section: str, path: str) -> dict[str, Any]:
    """A config without one field."""
    found = deepcopy(config)
    *above, name = path.split(".")
    place = dig(found, ".".join(filter(None, (section, *above))))
    if isinstance(place, dict):
        place.pop(name, None)
    return found


def _source(table: ConfigTable) -> Which:
    return "right" if table.reverse else "left"


def _fields(table: ConfigTable, config: dict[str, Any], base: str = "") -> Iterator[tuple[ConfigTable, str, str]]:
    """Each field with its table and with the section in which it stands."""
    base = ".".join(filter(None, (base, table.section_path(dig(config, base)))))
    for path in class_fields(table, _source(table)):
        yield table, base, path
    for part in table.sections if isinstance(table, PackedTable) else ():
        inside = part.found(_source(table), config, base)
        yield from _fields(part.table, config, ".".join(filter(None, (base, inside))))
