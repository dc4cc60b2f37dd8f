"""Configs convert by a table, declared once and read both ways, like the tensors.

Each row says where a value stands on the left and on the right, which name it has in rules, what
holds where a config leaves it out (the documented default of that framework's config class), and
how values correspond. Fields are dotted paths into nested dicts.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Dict
from dataclasses import dataclass, replace
from typing import Any, Literal

from convkit.errors import ConvkitError

Release = tuple[int, ...]
#: no default: the config must say it
REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "REQUIRED"})()
#: left out where the source leaves it out
ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "ABSENT"})()


class ConfigError(ConvkitError):
    """A config that can't be expressed on the other side, or contradicts the layout."""


@dataclass(frozen=True)
class Field:
    """A value that both sides have.

    ``values`` pairs left with right values where they differ. ``since``/``until`` bound the
    releases (inclusive, exclusive) of the side that has releases, in which the right field exists.
    """

    left: str
    right: str
    name: str = ""
    left_default: Any = REQUIRED
    right_default: Any = REQUIRED
    values: tuple[tuple[Any, Any], ...] = ()
    since: Release = ()
    until: Release = ()


@dataclass(frozen=True)
class Constant:
    """A field of one side whose value the layout fixes.

    As target it is written (unless ``write`` is false); as source it must have one of the values,
    and where it is left out, ``default`` must be one of them.
    """

    side: Literal["left", "right"]
    field: str
    value: Any
    default: Any = ABSENT
    also: tuple[Any, ...] = ()
    write: bool = True
    since: Release = ()
    until: Release = ()


@dataclass(frozen=True)
class Flag:
    """A boolean that the tensors themselves answer: whether biases are there.

    ``fact`` is the name of a ``Fact`` of the mapping. Where the checkpoint's tensors are known they
    win, and a config that says otherwise is corrected with a warning.
    """

    left: str
    right: str
    fact: str
    left_default: bool = False
    right_default: bool = False


@dataclass(frozen=True)
class Coupled:
    """Fields that correspond as a group, by a pair of functions that the mapping file states.

    ``to_right(values, names)`` gets the left fields that are there and the declared names, and
    returns right fields; ``to_left`` the reverse. A field that comes back as ABSENT isn't written.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    to_right: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
    to_left: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Refused:
    """Fields of one side that mean something convkit can't yet carry: refused when one is set."""

    side: Literal["left", "right"]
    fields: tuple[str, ...]
    reason: str
    remedy: str


@dataclass(frozen=True)
class Name:
    """A declared name that follows from others (``head_dim``), for rules only."""

    name: str
    compute: Callable[[dict[str, Any]], Any]


Row = Field | Constant | Flag | Coupled | Refused | Name


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
        other = self._translate(row, value)
        self.names[name] = value if self.source == "left" else other
        if self.target == "left" or self._released(row):
            plant(self.out, getattr(row, self.target), other)

    def _translate(self, row: Field, value: Any) -> Any:
        if not row.values:
            return value
        for left, right in row.values:
            here, there = (left, right) if self.source == "left" else (right, left)
            if here == value and type(here) is type(value):
                return there
        allowed = ", ".join(repr(pair[0 if self.source == "left" else 1]) for pair in row.values)
        field_name = getattr(row, self.source)
        raise ConfigError(f"{field_name} = {value!r} has no counterpart", key=field_name, remedy=f"known: {allowed}")

    def _constant(self, row: Constant) -> None:
        if row.side == self.target:
            if row.write and (self.target == "left" or self._released(row)):
                plant(self.out, row.field, row.value)
            return
        value = dig(self.section, row.field)
        self.seen.add(row.field)
        if value is MISSING:
            value = row.default
        if value is not ABSENT and value != row.value and value not in row.also:
            raise ConfigError(
                f"{row.field} is {value!r}, where this layout has {row.value!r}",
                key=row.field,
                remedy="name the layout that the checkpoint really has, or correct the config",
            )

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
        plant(self.out, there, true)

    def _coupled(self, row: Coupled) -> None:
        found = {path: dig(self.section, path) for path in getattr(row, self.source)}
        self.seen.update(found)
        present = {path: value for path, value in found.items() if value is not MISSING}
        convert = row.to_right if self.source == "left" else row.to_left
        for path, value in convert(present, self.names).items():
            if path.startswith("="):
                self.names[path[1:]] = value
            elif value is not ABSENT:
                plant(self.out, path, value)

    def _refused(self, row: Refused) -> None:
        if row.side != self.source:
            return
        for path in row.fields:
            self.seen.add(path)
            if dig(self.section, path) not in (MISSING, None):
                raise ConfigError(f"{path} is set: {row.reason}", key=path, remedy=row.remedy)

    def _name(self, row: Name) -> None:
        self.names[row.name] = row.compute(self.names)

    def _value(self, path: str, default: Any) -> Any:
        value = dig(self.section, path)
        self.seen.add(path)
        if value is not MISSING:
            return value
        if default is REQUIRED:
            raise ConfigError(f"{path} is missing", key=path, remedy="add it to the config: there is no default")
        if callable(default):
            default = default(self.names)
        if default is not ABSENT:
            source = self._of_table("source", self.source)
            self.defaults.append({"name": path, "value": default, "source": source})
        return default

    def _released(self, row: Field | Constant) -> bool:
        if not self.release:
            return True
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
        elif isinstance(value, dict) and isinstance(config[name], dict):
            if inner := missing_from(config[name], value):
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
