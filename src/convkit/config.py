"""Configs convert by a table, declared once and read both ways, like the tensors.

Each row says where a value stands on the left and on the right, which name it has in rules, what
holds where a config leaves it out (the documented default of that framework's config class), and
how values correspond. Fields are dotted paths into nested dicts.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Dict
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from fnmatch import fnmatchcase
from typing import Any, Literal

from convkit.condition import holds
from convkit.errors import ConvkitError

Release = tuple[int, ...]
#: no default: the config must say it
REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "REQUIRED"})()
#: left out where the source leaves it out
ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "ABSENT"})()


class ConfigError(ConvkitError):
    """A config that can't be expressed on the other side, or contradicts the layout."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table.

    ``when`` is a condition on declared names (:mod:`convkit.condition`): without it the line isn't
    there. ``since`` and ``until`` bound the releases (inclusive, exclusive) for which right fields are
    written; they are read whatever the release.
    """

    when: str = ""
    since: Release = ()
    until: Release = ()


@dataclass(frozen=True)
class Field(Row):
    """A value that both sides have.

    ``values`` pairs left with right values where they differ; of several pairs that fit, the first
    counts. ``null`` is what None stands for, where it isn't a value like others. Both it and the
    defaults may be functions of the declared names.
    """

    left: str
    right: str
    name: str = ""
    left_default: Any = REQUIRED
    right_default: Any = REQUIRED
    values: tuple[tuple[Any, Any], ...] = ()
    null: Any = None


@dataclass(frozen=True)
class Constant(Row):
    """A field of one side whose value the layout fixes.

    As target it is written (unless ``write`` is false); as source it must have one of the values,
    and where it is left out, ``default`` (or what that function of the names gives) must be one of them.
    """

    side: Literal["left", "right"]
    field: str
    value: Any
    default: Any = ABSENT
    also: tuple[Any, ...] = ()
    write: bool = True


@dataclass(frozen=True)
class Written(Row):
    """A field of one side that is written (a value, or a function of the names) and never looked at."""

    side: Literal["left", "right"]
    field: str
    value: Any


@dataclass(frozen=True)
class Flag(Row):
    """A boolean that the tensors themselves answer: whether biases are there.

    ``fact`` is the name of a ``Fact`` of the mapping. Where the checkpoint's tensors are known they
    win, and a config that says otherwise is corrected with a warning.
    """

    left: str
    right: str
    fact: str
    left_default: bool = False
    right_default: bool = False


#: ``function(values, names)`` gets the fields of a group that are there and the declared names (with
#: ``release``), and returns fields of the other side. A field that comes back as ABSENT isn't written;
#: ``"=name"`` declares a name; ``"!"`` is a warning.
Together = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Coupled(Row):
    """Fields that correspond as a group, by a pair of functions that the mapping file states."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    to_right: Together
    to_left: Together


@dataclass(frozen=True)
class Refused(Row):
    """Fields of one side (a trailing ``*`` for any ending) that mean something the other side can't say.

    Refused when one is set to another value than the neutral one that stands beside it; None is always neutral.
    """

    side: Literal["left", "right"]
    fields: Dict[str, Any] = dataclass_field(hash=False)
    reason: str
    remedy: str


@dataclass(frozen=True)
class Rejected(Row):
    """Fields of one side that some release's class doesn't take, though others do: not written for it."""

    side: Literal["left", "right"]
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Name(Row):
    """A declared name that follows from others (``head_dim``)."""

    name: str
    compute: Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Converted:
    """A converted config with what is known from it.

    ``names`` holds left values under the rows' names. ``defaults`` lists what was left out and
    filled (name, value, source); ``lost`` is the part of the source without a counterpart,
    kept as complement.
    """

    config: dict[str, Any]
    names: dict[str, Any]
    defaults: tuple[dict[str, Any], ...]
    lost: dict[str, Any]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class ConfigTable:
    """The table of one mapping.

    ``left_at`` and ``right_at`` are the paths at which a side's model section may lie, the one to
    write first. ``left_source`` and ``right_source`` name where a side's defaults are documented.
    """

    rows: tuple[Row, ...] = ()
    left_at: tuple[str, ...] = ("",)
    right_at: tuple[str, ...] = ("",)
    left_source: str = ""
    right_source: str = ""
    reverse: bool = False

    def inverse(self) -> ConfigTable:
        """The same table, read from right to left."""
        return replace(self, reverse=not self.reverse)

    def convert(self, config: Dict[str, Any], facts: Dict[str, Any] | None = None, release: Release = ()) -> Converted:
        """The other side's config, and the declared names.

        ``facts`` are names known beforehand (from the tensors, variants); ``release`` is that of
        the side that has releases.

        Raises:
            ConfigError: a required field is missing, a value has no counterpart, a constant contradicts.
        """
        return _Conversion(self, config, dict(facts or {}), release).run()


class _Conversion:
    """One pass over the table."""

    def __init__(self, table: ConfigTable, config: Dict[str, Any], facts: dict[str, Any], release: Release) -> None:
        self.table = table
        self.source, self.target = ("right", "left") if table.reverse else ("left", "right")
        self.release = release
        self.facts = facts
        self.names = dict(facts)
        at = self._of_table("at", self.source)
        self.whole = config
        self.at = next((path for path in at if isinstance(dig(config, path), dict)), None)
        if self.at is None:
            raise ConfigError(f"has no section {' or '.join(at)}", remedy="check the file")
        self.section = dig(config, self.at)
        self.seen: set[str] = set()
        self.out: dict[str, Any] = {}
        self.defaults: list[dict[str, Any]] = []
        self.warnings: list[str] = []

    def run(self) -> Converted:
        for row in self.table.rows:
            if holds(row.when, self.names):
                getattr(self, f"_{type(row).__name__.lower()}")(row)
        lost = _unseen(self.whole, {f"{self.at}.{path}" if self.at else path for path in self.seen})
        config: dict[str, Any] = {}
        plant(config, self._of_table("at", self.target)[0], self.out)
        return Converted(config, self.names, tuple(self.defaults), lost, tuple(self.warnings))

    def _field(self, row: Field) -> None:
        value = self._value(getattr(row, self.source), getattr(row, f"{self.source}_default"))
        name = row.name or row.left
        if value is ABSENT:
            self.names.setdefault(name, None)
            return
        if value is None:
            value = self._computed(row.null)
        other = self._translate(row, value)
        self.names[name] = value if self.source == "left" else other
        self._write(row, getattr(row, self.target), other)

    def _translate(self, row: Field, value: Any) -> Any:
        if not row.values:
            return value
        for left, right in row.values:
            here, there = (left, right) if self.source == "left" else (right, left)
            if _same(here, value):
                return there
        known = dict.fromkeys(repr(pair[0 if self.source == "left" else 1]) for pair in row.values)
        raise ConfigError(
            f"{value!r} has no counterpart", key=getattr(row, self.source), remedy=f"known: {', '.join(known)}"
        )

    def _constant(self, row: Constant) -> None:
        if row.side == self.target:
            if row.write:
                self._write(row, row.field, row.value)
            return
        value = dig(self.section, row.field)
        self.seen.add(row.field)
        if value is MISSING:
            value = self._computed(row.default)
        if value is not ABSENT and value != row.value and value not in row.also:
            raise ConfigError(
                f"is {value!r}, where this layout has {row.value!r}",
                key=row.field,
                remedy="name the layout that the checkpoint really has, or correct the config",
            )

    def _written(self, row: Written) -> None:
        if row.side == self.target:
            self._write(row, row.field, self._computed(row.value))

    def _flag(self, row: Flag) -> None:
        path = getattr(row, self.source)
        said = self._value(path, getattr(row, f"{self.source}_default"))
        true = self.facts.get(row.fact)
        if true is None:
            true = bool(said)
        elif bool(said) != true:
            have = "has" if true else "has no"
            self.warnings.append(f"the config says {path} = {said}, the checkpoint {have} such tensors: corrected")
        self.names[row.fact] = true
        there = getattr(row, self.target)
        if dig(self.out, there) not in (MISSING, true):
            raise ConfigError(
                f"{there} would have to be both True and False: only some of its biases are there",
                key=path,
                remedy="this layout has one flag for them",
            )
        self._write(row, there, true)

    def _coupled(self, row: Coupled) -> None:
        found = {path: dig(self.section, path) for path in getattr(row, self.source)}
        self.seen.update(found)
        present = {path: value for path, value in found.items() if value is not MISSING}
        convert = row.to_right if self.source == "left" else row.to_left
        for path, value in convert(present, self.names | {"release": self.release}).items():
            if path.startswith("="):
                self.names[path[1:]] = value
            elif path == "!":
                self.warnings.append(value)
            elif value is not ABSENT:
                self._write(row, path, value)

    def _refused(self, row: Refused) -> None:
        if row.side != self.source:
            return
        for pattern, neutral in row.fields.items():
            for path in [name for name in self.section if fnmatchcase(name, pattern)]:
                self.seen.add(path)
                value = self.section[path]
                if value is not None and not _same(value, neutral):
                    raise ConfigError(f"is {value!r}: {row.reason}", key=path, remedy=row.remedy)

    def _rejected(self, row: Rejected) -> None:
        if row.side == self.target and self._released(row):
            self.out = {path: value for path, value in self.out.items() if path not in row.fields}

    def _name(self, row: Name) -> None:
        self.names[row.name] = row.compute(self.names)

    def _value(self, path: str, default: Any) -> Any:
        value = dig(self.section, path)
        self.seen.add(path)
        if value is not MISSING:
            return value
        if default is REQUIRED:
            raise ConfigError("is missing", key=path, remedy="add it to the config: there is no default")
        default = self._computed(default)
        if default is not ABSENT:
            source = self._of_table("source", self.source)
            self.defaults.append({"name": path, "value": default, "source": source})
        return default

    def _computed(self, value: Any) -> Any:
        return value(self.names) if callable(value) else value

    def _write(self, row: Row, path: str, value: Any) -> None:
        if self.target == "left" or self._released(row):
            plant(self.out, path, value)

    def _released(self, row: Row) -> bool:
        if not self.release:  # the current one
            return not row.until
        return (not row.since or self.release >= row.since) and (not row.until or self.release < row.until)

    def _of_table(self, what: str, side: str) -> Any:
        return getattr(self.table, f"{side}_{what}")


#: what :func:`dig` returns where there is nothing
MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()


def dig(config: Dict[str, Any], path: str) -> Any:
    """The value at a dotted path (the whole for an empty one); MISSING where there is none."""
    value: Any = config
    for part in path.split(".") if path else ():
        if not isinstance(value, dict) or part not in value:
            return MISSING
        value = value[part]
    return value


def plant(config: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path, making the sections on the way (merging for an empty path)."""
    if not path:
        config.update(value)
        return
    *sections, last = path.split(".")
    for part in sections:
        config = config.setdefault(part, {})
    config[last] = value


def _same(one: Any, other: Any) -> bool:
    return one == other and (type(one) is bool) == (type(other) is bool)


def merge(config: dict[str, Any], other: Dict[str, Any]) -> None:
    """Put into ``config`` what it doesn't say itself, section by section."""
    for name, value in other.items():
        if isinstance(value, dict) and isinstance(config.get(name), dict):
            merge(config[name], value)
        else:
            config.setdefault(name, value)


def missing_from(config: Dict[str, Any], other: Dict[str, Any]) -> dict[str, Any]:
    """The part of ``other`` whose fields ``config`` doesn't have."""
    left: dict[str, Any] = {}
    for name, value in other.items():
        if name not in config:
            left[name] = value
        elif (
            isinstance(value, dict) and isinstance(config[name], dict) and (inner := missing_from(config[name], value))
        ):
            left[name] = inner
    return left


def _unseen(config: Dict[str, Any], seen: set[str], prefix: str = "") -> dict[str, Any]:
    """The part of a config that no row has looked at."""
    left: dict[str, Any] = {}
    for name, value in config.items():
        path = f"{prefix}{name}"
        if path in seen:
            continue
        if isinstance(value, dict) and value:
            if inner := _unseen(value, seen, f"{path}."):
                left[name] = inner
        else:
            left[name] = value
    return left
