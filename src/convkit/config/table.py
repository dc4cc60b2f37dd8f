"""A table of rows, and the pass over it that converts a config of one side into a config of the other."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from convkit.config.condition import Condition
from convkit.config.rows import (
    ABSENT,
    REQUIRED,
    Constant,
    Coupled,
    Field,
    Flag,
    Name,
    Refused,
    Rejected,
    Release,
    Row,
    Written,
)
from convkit.config.tree import MISSING, dig, plant, same, unseen
from convkit.errors import ConfigError


@dataclass(frozen=True)
class Converted:
    """A converted config. ``names`` holds left values under the rows' names. ``defaults`` lists the fields that were
    left out and filled (name, value, source); ``lost`` is the part of the source without a counterpart, kept as
    complement.
    """

    config: dict[str, Any]
    names: dict[str, Any]
    defaults: tuple[dict[str, Any], ...]
    lost: dict[str, Any]
    warnings: tuple[str, ...]
    #: paths of the source that were read
    seen: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ConfigTable:
    """The table of one mapping.

    ``left_at`` and ``right_at`` are the possible paths of a side's model section; the first one is written.
    ``left_source`` and ``right_source`` name where a side's defaults are documented.
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

    def convert(
        self, config: abc.Mapping[str, Any], facts: abc.Mapping[str, Any] | None = None, release: Release = ()
    ) -> Converted:
        """Convert a config to the other side. ``facts`` are names known beforehand (from tensors and variants);
        ``release`` is the release of the side that has releases.

        Raises:
            ConfigError: a required field is missing, a value has no counterpart, a constant contradicts.
        """
        return _Conversion(self, config, dict(facts or {}), release).run()

    def section_path(self, config: abc.Mapping[str, Any]) -> str:
        """Where the source's model section lies.

        Raises:
            ConfigError: nowhere.
        """
        at = self.right_at if self.reverse else self.left_at
        found = next((path for path in at if isinstance(dig(config, path), dict)), None)
        if found is None:
            raise ConfigError(f"has no section {' or '.join(at)}", remedy="check the file")
        return found


class _Conversion:
    """One pass over the table."""

    def __init__(
        self, table: ConfigTable, config: abc.Mapping[str, Any], facts: dict[str, Any], release: Release
    ) -> None:
        self.table = table
        self.source, self.target = ("right", "left") if table.reverse else ("left", "right")
        self.release = release
        self.facts = facts
        self.names = dict(facts)
        self.whole = config
        self.at = table.section_path(config)
        self.section = dig(config, self.at)
        self.seen: set[str] = set()
        self.out: dict[str, Any] = {}
        self.defaults: list[dict[str, Any]] = []
        self.warnings: list[str] = []

    def run(self) -> Converted:
        for row in self.table.rows:
            if Condition.parse(row.when).holds(self.names):
                getattr(self, f"_{type(row).__name__.lower()}")(row)
        seen = {f"{self.at}.{path}" if self.at else path for path in self.seen}
        lost = unseen(self.whole, seen)
        config: dict[str, Any] = {}
        plant(config, self._of_table("at", self.target)[0], self.out)
        return Converted(config, self.names, tuple(self.defaults), lost, tuple(self.warnings), frozenset(seen))

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
            if same(here, value):
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
                f"is {value!r}, but this layout has {row.value!r}",
                key=row.field,
                remedy="name the layout that the checkpoint really has, or correct the config",
            )

    def _written(self, row: Written) -> None:
        if row.side == self.target:
            self._write(row, row.field, self._computed(row.value))

    def _flag(self, row: Flag) -> None:
        path = getattr(row, self.source)
        stated = self._value(path, getattr(row, f"{self.source}_default"))
        true = self.facts.get(row.fact)
        if true is None:
            true = bool(stated)
        elif bool(stated) != true:
            have = "has" if true else "has no"
            self.warnings.append(f"the config says {path} = {stated}, the checkpoint {have} such tensors: corrected")
        self.names[row.fact] = true
        there = getattr(row, self.target)
        if dig(self.out, there) not in (MISSING, true):
            raise ConfigError(
                f"{there} would have to be both True and False: only some of its biases exist",
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
                if value is not None and not same(value, neutral):
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
