"""The two sides of a config while it is converted: the one that is read and the one that is written.

Both know the class of their side. The source reads each field by its kind and under every spelling, takes defaults from
the class of the release, and remembers what was read. The target writes only what the class of the release has.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal

from msgspec import Struct, field

from convkit.config.classes import (
    ABSENT,
    OF_CLASS,
    REQUIRED,
    Classes,
    ClassField,
    ConfigClass,
    Release,
    chosen,
    computed,
    every,
)
from convkit.config.tree import MISSING, dig, plant, same
from convkit.config.values import KindError, shown
from convkit.errors import ConfigError

Which = Literal["left", "right"]


class Side(Struct, kw_only=True):
    """One side: its class or classes, in a release. ``names`` are the declared names, which grow."""

    which: Which
    at: str
    classes: Classes
    release: Release
    names: Mapping[str, Any]

    @property
    def cls(self) -> ConfigClass | None:
        """The class, as soon as the declared names choose it."""
        return chosen(self.classes, self.names)

    def declared(self, path: str) -> ClassField | None:
        """The class's field at a path; before the class is chosen, that of any class that has it."""
        if (decided := self.cls) is not None:
            return decided.find(path)
        return next((found for one in every(self.classes) if (found := one.find(path)) is not None), None)

    def whole(self, path: str) -> str:
        """The path in the whole config, of a path in the model's section or of one that begins with ``/``."""
        if path.startswith("/"):
            return path[1:]
        return f"{self.at}.{path}" if self.at and path else self.at or path


class Source(Side, kw_only=True):
    """The config that is read. ``seen`` are the paths in the whole config that were read; ``defaults`` and ``warnings``
    are noted for the plan.
    """

    config: Mapping[str, Any]
    seen: set[str] = field(default_factory=set)
    defaults: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def section(self) -> Mapping[str, Any]:
        """The model's section."""
        found: Mapping[str, Any] = dig(self.config, self.at)
        return found

    def read(self, path: str) -> Any:
        """The value at a path, in its exact form, or MISSING.

        Raises:
            ConfigError: it can't be a value of the field, or two of its spellings differ.
        """
        spelling, value = self.found(path)
        return value if value is MISSING else self.exact(spelling, value)

    def found(self, path: str) -> tuple[str, Any]:
        """The spelling under which a field stands in the config, and what stands there."""
        field = self.declared(path)
        spellings = dict.fromkeys((path, *(field.also if field else ())))
        self.seen.update(map(self.whole, spellings))
        there = [(one, value) for one in spellings if (value := dig(self.config, self.whole(one))) is not MISSING]
        for other, value in there[1:]:
            if not same(self.exact(other, value), self.exact(*there[0])):
                raise ConfigError(
                    f"is {shown(there[0][1])}, but {other}, another name of the same field, is {shown(value)}",
                    key=there[0][0],
                    remedy="remove the one that is wrong",
                )
        return there[0] if there else (path, MISSING)

    def applies(self, field: ClassField) -> bool:
        """Whether a field has an effect at all, by the other field that decides it."""
        if not field.beside:
            return True
        other, *values = field.beside
        value = self._glimpse(other)
        return any(same(value, one) for one in values) if values else value not in (None, ABSENT, REQUIRED)

    def _glimpse(self, path: str) -> Any:
        """The value of a field, which doesn't count as read; its default where the config leaves it out."""
        field = self.declared(path)
        found = (dig(self.section, one) for one in (path, *(field.also if field else ())))
        value = next((value for value in found if value is not MISSING), MISSING)
        return self.default(path) if value is MISSING else self.exact(path, value)

    def exact(self, path: str, value: Any) -> Any:
        """What a value of the config stands for.

        Raises:
            ConfigError: nothing that the field may hold.
        """
        field = self.declared(path)
        if field is None:
            return value
        try:
            return field.kind.read(value)
        except KindError as error:
            where = f"{path}.{error.where}" if error.where else path
            raise ConfigError(str(error), key=where, remedy=f"it must be {error.kind}") from None

    def value(self, path: str, default: Any = OF_CLASS) -> Any:
        """The value at a path; if it was left out, the default (ABSENT, if nothing stands for it), which is noted.

        Raises:
            ConfigError: there is no value and no default.
        """
        value = self.read(path)
        if value is not MISSING:
            return value
        default = self.default(path, default)
        if default is REQUIRED:
            raise ConfigError("is missing", key=path, remedy="add it to the config: there is no default")
        if default is not ABSENT:
            self.note_default(path, default)
        return default

    def default(self, path: str, default: Any = OF_CLASS) -> Any:
        """A default for a path, computed; the class's own if none is given."""
        if default is OF_CLASS:
            field = self.declared(path)
            default = field.default_in(self.release) if field else REQUIRED
        return computed(default, self.names)

    def note_default(self, path: str, value: Any) -> None:
        """Note that a field was left out."""
        cls, field = self.cls, self.declared(path)
        self.defaults.append({"name": path, "value": value, "source": cls.source if cls else ""})
        if field and field.told:
            of = f" of {cls.name}" if cls else ""
            self.warnings.append(
                f"{path} isn't in the config, and no tensor can show it: its default{of} is taken, {shown(value)}"
            )


class Target(Side, kw_only=True):
    """The config that is written: the model's section, and fields ``beside`` it by their paths."""

    section: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)

    def write(self, path: str, value: Any) -> None:
        """Set a field, unless it is ABSENT, or the class of the release hasn't the field and doesn't need it.

        Raises:
            ConfigError: the class of the release hasn't the field, and the value has an effect.
        """
        if value is ABSENT:
            return
        field = self.declared(path) or self.declared(path.partition(".")[0])
        if field is None or field.in_release(self.release):
            self._put(path, value)
        elif not field.is_neutral(value, self.release, self.names):
            release = ".".join(map(str, self.release)) or "the current one"
            since = f"since {'.'.join(map(str, field.since))}" if field.since else ""
            until = f"until {'.'.join(map(str, field.until))}" if field.until else ""
            raise ConfigError(
                f"would have to be {shown(value)}, but release {release} doesn't have it",
                key=path,
                remedy=f"another --release: it exists {' and '.join(filter(None, (since, until)))}",
            )

    def _put(self, path: str, value: Any) -> None:
        value = deepcopy(value)  # a row's own, or the source's: who changes this config changes neither
        if path.startswith("/"):
            self.beside[path[1:]] = value
        else:
            plant(self.section, path, value)

    def config(self) -> dict[str, Any]:
        """The whole config."""
        config: dict[str, Any] = {}
        plant(config, self.at, self.section)
        for path, value in self.beside.items():
            plant(config, path, value)
        return config
