"""A table of rows between two config classes, which converts a config of one side into a config of the other."""

from __future__ import annotations

from collections import abc
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from convkit.config.classes import Classes, Release, every
from convkit.config.conversion import Conversion, Converted
from convkit.config.rows import Constant, Row, Written
from convkit.config.sides import Source, Target, Which
from convkit.config.tree import MISSING, dig, merge, plant, uproot
from convkit.errors import ConfigError


class ConfigTable(Struct, frozen=True):
    """The table of one mapping.

    It is total for a side that has a class: every field of a config is read by a row, or has no effect, or the config
    is refused by the field's name; fields that the class doesn't know are listed. Without a class, what no row reads
    is only kept as complement.

    Attributes:
        rows: the rows, in their order: a row may use the names that earlier ones declare.
        left: the left class; or pairs of a condition on declared names and a class, of which the first that holds is
            taken.
        right: the same for the right side.
        left_at: the possible paths of the model's section on the left; the first one is written.
        right_at: the same for the right side.
        reverse: whether the right side is the source.
    """

    rows: tuple[Row, ...] = ()
    left: Classes = None
    right: Classes = None
    left_at: tuple[str, ...] = ("",)
    right_at: tuple[str, ...] = ("",)
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
            ConfigError: a required field is missing, a value has no counterpart, a constant contradicts, a field that
                no row reads has an effect.
        """
        return self.begun(config, facts or {}, release).finish()

    def begun(self, config: abc.Mapping[str, Any], facts: abc.Mapping[str, Any], release: Release) -> Conversion:
        """A conversion whose rows have been applied, and that only has to be finished.

        Raises:
            ConfigError: as for :meth:`convert`.
        """
        names = dict(facts)
        left: tuple[Which, Classes] = ("left", self.left)
        right: tuple[Which, Classes] = ("right", self.right)
        (here, its), (there, other) = (right, left) if self.reverse else (left, right)
        at = self.section_path(config)
        source = Source(which=here, at=at, classes=its, release=release, names=names, config=config)
        target = Target(which=there, at=self.written_at, classes=other, release=release, names=names)
        conversion = Conversion(source, target, names, release)
        conversion.run(self.rows)
        return conversion

    def respelled(self, config: dict[str, Any], earlier: abc.Mapping[str, Any]) -> None:
        """Give fields of a converted config, which is changed, the names that they have in an ``earlier`` one, and
        constants the value that they have there, if they may have several.
        """
        section, had = dig(config, self.target_at(config)), dig(earlier, self.target_at(earlier))
        written: Which = "left" if self.reverse else "right"
        for row in self.rows:
            if isinstance(row, Constant) and row.side == written and dig(had, row.field) in row.also:
                plant(section, row.field, dig(had, row.field))
        for cls in every(self.left if self.reverse else self.right):
            for name, field in cls.fields.items():
                value = dig(section, name)
                there = [one for one in field.also if value is not MISSING and dig(had, one) is not MISSING]
                for spelling in there:
                    plant(section, spelling, value)
                if there and name in section and name not in had:
                    del section[name]

    def placed(self, config: dict[str, Any], earlier: abc.Mapping[str, Any]) -> None:
        """Move the model's section of a converted config, which is changed, to where it lies in an ``earlier`` one."""
        here, had = self.target_at(config), self.target_at(earlier)
        if had != here:
            section = dig(config, here)
            uproot(config, here)
            plant(config, had, section)

    def kept(self, config: dict[str, Any], lost: abc.Mapping[str, Any]) -> None:
        """Fill a converted config, which is changed, with what an earlier conversion ``lost``. A field that is only
        written, whatever the source says, gets its own value again.
        """
        target = "left" if self.reverse else "right"
        for row in self.rows:
            if isinstance(row, Written) and row.side == target:
                path = ".".join(filter(None, (self.target_at(config), row.field)))
                if (value := dig(lost, path)) is not MISSING:
                    made = dig(config, path)
                    plant(config, path, made | value if isinstance(value, dict) and isinstance(made, dict) else value)
        merge(config, lost)

    def target_at(self, config: abc.Mapping[str, Any]) -> str:
        """Where a config of the target's side has the model's section; where it is written, if it has none."""
        places = self.left_at if self.reverse else self.right_at
        return next((path for path in places if isinstance(dig(config, path), dict)), self.written_at)

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

    @property
    def written_at(self) -> str:
        """Where the target's model section is written."""
        return (self.left_at if self.reverse else self.right_at)[0]
