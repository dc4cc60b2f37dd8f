"""One pass over a table: its rows read the source and write the target, then the rest of the source is judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from convkit.config.answer import Deviation
from convkit.config.classes import Release, computed
from convkit.config.condition import Condition
from convkit.config.sides import Source, Target
from convkit.config.totality import judge
from convkit.config.tree import unseen
from convkit.config.values import shown
from convkit.errors import ConfigError

if TYPE_CHECKING:
    from convkit.config.rows import Row

T = TypeVar("T")


class Converted(Struct, frozen=True):
    """A converted config.

    Attributes:
        config: the target's config.
        names: left values under the rows' names.
        defaults: the fields that were left out and filled (name, value, source).
        lost: the part of the source without a counterpart, kept as complement.
        warnings: remarks, one sentence each.
        seen: paths of the source that were read.
        deviations: values that the target says only nearly.
        unknown: fields of the model's section that the source's class doesn't know.
        origins: the field of the source that states a declared name, and the value that stands for it there.
        claims: facts and leaves that the config says the checkpoint has, with the config's words.
        denied: facts that the config says aren't true.
    """

    config: dict[str, Any]
    names: dict[str, Any]
    defaults: tuple[dict[str, Any], ...]
    lost: dict[str, Any]
    warnings: tuple[str, ...]
    seen: frozenset[str] = frozenset()
    deviations: tuple[Deviation, ...] = ()
    unknown: tuple[str, ...] = ()
    origins: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()


class Conversion:
    """One pass over a table. Rows use ``source``, ``target``, ``names`` (declared so far) and ``facts`` (known before
    the pass, from the tensors and the user).
    """

    def __init__(self, source: Source, target: Target, names: dict[str, Any], release: Release) -> None:
        self.source = source
        self.target = target
        self.names = names
        self.facts = dict(names)
        self.release = release
        self.warnings = source.warnings
        self.deviations: list[Deviation] = []
        self.origins: dict[str, tuple[str, Any]] = {}
        self.claims: dict[str, str] = {}
        self.denied: frozenset[str] = frozenset()

    def run(self, rows: Iterable[Row]) -> None:
        """Apply the rows.

        Raises:
            ConfigError: a value can't be read or expressed, or a default of a field that the config leaves out.
        """
        for row in rows:
            if not row.when or Condition.parse(row.when).holds(self.names):
                try:
                    row.convert(self)
                except ConfigError as error:
                    raise self._of_default(error) from None

    def _of_default(self, error: ConfigError) -> ConfigError:
        """The same error, which says where the value is a default that the config doesn't have."""
        default = next((entry for entry in self.source.defaults if entry["name"] == error.key), None)
        if default is None:
            return error
        problem = f"{error.problem}; the config leaves it out, and {shown(default['value'])} is its default"
        return ConfigError(problem, key=error.key, remedy=error.remedy)

    def finish(self, elsewhere: AbstractSet[str] = frozenset()) -> Converted:
        """Judge what no row has read, neither here nor ``elsewhere`` (paths in the whole config).

        Raises:
            ConfigError: a field that no row reads has an effect.
        """
        unknown = judge(self.source, self.target, self.source.seen | elsewhere)
        return Converted(
            config=self.target.config(),
            names=self.names,
            defaults=tuple(self.source.defaults),
            lost=unseen(self.source.config, self.source.seen),
            warnings=tuple(dict.fromkeys(self.warnings)),
            seen=frozenset(self.source.seen),
            deviations=tuple(self.deviations),
            unknown=unknown,
            origins=self.origins,
            claims=self.claims,
            denied=self.denied,
        )

    def turned(self, left: T, right: T) -> tuple[T, T]:
        """A left and a right thing as the source's and the target's."""
        return (left, right) if self.source.which == "left" else (right, left)

    def computed(self, value: Any) -> Any:
        """A value that may be a function of the declared names."""
        return computed(value, self.names)

    def carry(self, here: str, there: str, value: Any) -> None:
        """Write a value that the source has at ``here``.

        Raises:
            ConfigError: the target's field can't hold it.
        """
        field = self.target.declared(there)
        try:
            if field:
                field.kind.read(value)
        except ValueError:
            problem = f"is {shown(value)}, which {there} can't be"
            raise ConfigError(problem, key=here, remedy=f"it must be {field.kind if field else ''}") from None
        self.target.write(there, value)

    def deviate(self, deviation: Deviation) -> None:
        """Note a deviation, whose field is a path in its side's section."""
        if deviation.side == "source":
            spelling, _ = self.source.found(deviation.field)
            path = self.source.whole(spelling)
        else:
            path = self.target.whole(deviation.field)
        self.deviations.append(replace(deviation, field=path))
