"""The rows of a config table, which is declared once and read both ways, like the tensors' rules.

Each row gives the fields of a value on the left and on the right, its name in rules, and how values correspond. What a
field may hold, its other spellings, its default where a config leaves it out, and the releases that have it are said by
the class of its side (:class:`convkit.config.classes.ConfigClass`), once for all mappings; a default in the row itself
goes before it.

Fields are dotted paths into nested dicts, below the model's section; a path that begins with ``/`` is of the whole
config. A row converts by :meth:`Row.convert`, whichever side is the source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from convkit.config.answer import Answer, Deviation
from convkit.config.classes import ABSENT, OF_CLASS, REQUIRED
from convkit.config.conversion import Conversion
from convkit.config.sides import Which
from convkit.config.tree import MISSING, dig, merge, same, unseen
from convkit.config.values import shown
from convkit.errors import ConfigError

#: a side, and a field of it
Place = tuple[Which, str]


def _places(left: Iterable[str], right: Iterable[str]) -> frozenset[Place]:
    return _on("left", left) | _on("right", right)


def _on(side: Which, fields: Iterable[str]) -> frozenset[Place]:
    return frozenset((side, path) for path in fields)


class Row(Struct, frozen=True, kw_only=True):
    """One line of a table. It applies only where ``when``, a condition on declared names
    (:mod:`convkit.config.condition`), holds.
    """

    when: str = ""

    def convert(self, run: Conversion) -> None:
        """Read the row's fields of the source, and write those of the target.

        Raises:
            ConfigError: a value can't be expressed.
        """
        raise NotImplementedError

    def places(self) -> frozenset[Place]:
        """The fields that the row concerns, each with its side.

        >>> sorted(Field("n_embd", "hidden_size").places())
        [('left', 'n_embd'), ('right', 'hidden_size')]
        """
        return frozenset()


class Field(Row, frozen=True):
    """A value that both sides have.

    Attributes:
        left: the left field.
        right: the right field.
        name: the name in rules that the left value gets; the left field, by default.
        left_default: stands in for the default of the left class: a value, or a function of the declared names.
        right_default: the same for the right class.
        values: pairs of left and right values where they differ; the first pair that fits wins. In a triple, the third
            says why the two are only nearly the same: a declared deviation. The exact pair that shares the target's
            value says what the source's value is taken as, and it wins on the way back.
        null: the value that None stands for, if None isn't an ordinary value; it may be a function of the names.
        measured: the name of a :class:`convkit.mapping.layout.Measure` that knows the value better than the config. If
            the tensors show another value, it is corrected with a warning.
    """

    left: str
    right: str
    name: str = ""
    left_default: Any = OF_CLASS
    right_default: Any = OF_CLASS
    values: tuple[tuple[Any, Any] | tuple[Any, Any, str], ...] = ()
    null: Any = None
    measured: str = ""

    def __post_init__(self) -> None:
        """Check that every near pair has an exact one beside it.

        Raises:
            ValueError: it hasn't, so there is nothing that its value could be taken as.
        """
        exact = [pair for pair in self.values if len(pair) == 2]
        for near in self.values:
            if len(near) > 2 and not any(same(pair[0], near[0]) or same(pair[1], near[1]) for pair in exact):
                raise ValueError(f"{self.left}, {self.right}: no exact pair says what {near[0]!r}, {near[1]!r} means")

    def places(self) -> frozenset[Place]:
        """Both fields."""
        return _places((self.left,), (self.right,))

    def convert(self, run: Conversion) -> None:
        """Translate the value; it declares the row's name, with the left value."""
        here, there = run.turned(self.left, self.right)
        value = self._read(run, here, run.turned(self.left_default, self.right_default)[0])
        name = self.name or self.left
        if value is ABSENT:
            run.names.setdefault(name, None)
            return
        if value is None:
            value = run.computed(self.null)
        other = self._translated(run, here, value)
        run.names[name] = run.turned(value, other)[0]
        if not self.measured or self.measured not in run.facts:
            run.origins[name] = (run.source.found(here)[0], value)
        run.carry(here, there, other)

    def _read(self, run: Conversion, path: str, default: Any) -> Any:
        true = run.facts.get(self.measured) if self.measured else None
        if true is None:
            return run.source.value(path, default)
        stated = run.source.read(path)
        if stated is not MISSING and not same(stated, true):
            run.warnings.append(f"the config says {path} = {shown(stated)}, the tensors have {true}: corrected")
        return true

    def _translated(self, run: Conversion, path: str, value: Any) -> Any:
        if not self.values:
            return value
        exact = [run.turned(*pair) for pair in self.values if len(pair) == 2]
        for one, other in exact:
            if same(one, value):
                return other
        for left, right, *reason in self.values:
            one, other = run.turned(left, right)
            if reason and same(one, value):
                meant = next(pair[0] for pair in exact if same(pair[1], other))
                run.deviate(Deviation(path, value, meant, reason[0]))
                return other
        known = dict.fromkeys(shown(run.turned(*pair[:2])[0]) for pair in self.values)
        raise ConfigError(f"{shown(value)} has no counterpart", key=path, remedy=f"known: {', '.join(known)}")


class Constant(Row, frozen=True):
    """A field of one side whose value the layout fixes (a value, or a function of the names). In a target it is
    written. In a source it must have this value or one of ``also``; if it is left out, the default of the class (or
    ``default``: a value, or a function of the names) must be one of them. ``near`` are values that the other side has
    only nearly, each with the reason: declared deviations.
    """

    side: Which
    field: str
    value: Any
    default: Any = OF_CLASS
    also: tuple[Any, ...] = ()
    near: tuple[tuple[Any, str], ...] = ()

    def places(self) -> frozenset[Place]:
        """The field of its side."""
        return _on(self.side, (self.field,))

    def convert(self, run: Conversion) -> None:
        """Write the value, or check it."""
        fixed = run.computed(self.value)
        if self.side == run.target.which:
            run.target.write(self.field, fixed)
            return
        value = run.source.read(self.field)
        if value is MISSING:
            value = self._left_out(run)
        if value is ABSENT or same(value, fixed):
            return
        if why := next((why for one, why in self.near if same(value, one)), ""):
            run.deviate(Deviation(self.field, value, fixed, why))
        elif not any(same(value, one) for one in self.also):
            raise ConfigError(
                f"is {shown(value)}, but this layout has {shown(fixed)}",
                key=self.field,
                remedy="name the layout that the checkpoint really has, or correct the config",
            )

    def _left_out(self, run: Conversion) -> Any:
        """What the field's absence says; a field without a default says nothing."""
        value = run.source.default(self.field, self.default)
        return ABSENT if value is REQUIRED else value


class Written(Row, frozen=True):
    """A field of one side that is written (a value, or a function of the names) and never read."""

    side: Which
    field: str
    value: Any

    def places(self) -> frozenset[Place]:
        """The field of its side."""
        return _on(self.side, (self.field,))

    def convert(self, run: Conversion) -> None:
        """Write it."""
        if self.side == run.target.which:
            run.target.write(self.field, run.computed(self.value))


class Flag(Row, frozen=True):
    """A boolean that the tensors themselves decide, such as whether there are biases. ``fact`` is the name of a
    ``Fact`` of the mapping. If the checkpoint's tensors are known they win, and a config that denies them is corrected
    with a warning. One that claims tensors which aren't there is refused by the plan, unless the user accepts it.
    ``loose`` is a side some of whose configs leave the field out where there are no such tensors, whatever its default.
    """

    left: str
    right: str
    fact: str
    left_default: Any = OF_CLASS
    right_default: Any = OF_CLASS
    loose: Which | None = None

    def places(self) -> frozenset[Place]:
        """Both fields."""
        return _places((self.left,), (self.right,))

    def convert(self, run: Conversion) -> None:
        """Write the tensors' answer, or the config's if there are no tensors."""
        here, there = run.turned(self.left, self.right)
        default = run.turned(self.left_default, self.right_default)[0]
        unsaid = default is OF_CLASS and run.source.declared(here) is None
        stated = run.source.value(here, False if unsaid else default)
        true = run.facts.get(self.fact)
        if self.loose == run.source.which and run.source.read(here) is MISSING:
            true = bool(true)
            if bool(stated) != true:
                run.warnings.append(f"the config doesn't say {here}: it is taken as {true}")
        elif true is None:
            true = bool(stated)
        elif bool(stated) != true:
            have = "has" if true else "has no"
            run.warnings.append(f"the config says {here} = {stated}, the checkpoint {have} such tensors: corrected")
            if not true:
                run.claims[self.fact] = f"{here} = {stated}"
        run.names[self.fact] = true
        if dig(run.target.section, there) not in (MISSING, true):
            raise ConfigError(
                f"{there} would have to be both True and False: only some of its biases exist",
                key=here,
                remedy="this layout has one flag for them",
            )
        run.target.write(there, true)


#: ``function(values, names)`` gets the fields of a group that are present, in their exact form, and the declared names
#: (with ``release``). It answers with fields of the other side (one that is ABSENT isn't written), names and remarks.
Together = Callable[[dict[str, Any], dict[str, Any]], Answer]


def _stated(names: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """The names whose value stands in a field as it is, with field and value."""
    parts = [(path, value) for path, value in fields.items() if not isinstance(value, dict)]
    parts += [
        (f"{path}.{part}", value)
        for path, section in fields.items()
        if isinstance(section, dict)
        for part, value in section.items()
    ]
    return {name: (path, value) for name, value in names.items() for path, one in parts[::-1] if same(value, one)}


class Coupled(Row, frozen=True):
    """Fields that correspond as a group, by a pair of functions in the mapping's file."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    to_right: Together
    to_left: Together

    def places(self) -> frozenset[Place]:
        """The fields of both groups."""
        return _places(self.left, self.right)

    def convert(self, run: Conversion) -> None:
        """Ask the function, and write what it answers."""
        here, _ = run.turned(self.left, self.right)
        there, _ = run.turned(self.to_right, self.to_left)
        found = {path: run.source.read(path) for path in here}
        present = {path: value for path, value in found.items() if value is not MISSING}
        answer = there(present, run.names | {"release": run.release})
        run.names |= answer.names
        run.origins |= _stated(answer.names, {**answer.defaults, **present})
        run.warnings += answer.warnings
        run.claims |= answer.claims
        run.denied |= answer.denied
        for path, value in answer.defaults.items():
            if path not in present:
                run.source.note_default(path, value)
        for deviation in answer.deviations:
            run.deviate(deviation)
        for path, value in answer.fields.items():
            run.target.write(path, value)


class Rest(Row, frozen=True):
    """What no row before has looked at keeps its place and its value, except the fields ``left_out``. For a mapping
    whose sides are of one framework; it stands last.
    """

    left_out: tuple[str, ...] = ()

    def convert(self, run: Conversion) -> None:
        """Copy what is left of the source's section."""
        source, target = run.source, run.target
        source.seen.update(map(source.whole, self.left_out))
        for name, value in unseen(source.section, source.seen, f"{source.at}." if source.at else "").items():
            there = target.section.get(name)
            if isinstance(there, dict | list):
                merge(target.section, {name: value})
            elif there is None:
                target.write(name, value)
            source.seen.add(source.whole(name))


class Name(Row, frozen=True):
    """A declared name that follows from others (``head_dim``).

    Attributes:
        name: the name.
        compute: its value, from the names before it.
        of: the name of which it is a part or a multiple: errors show that one's field.
    """

    name: str
    compute: Callable[[dict[str, Any]], Any]
    of: str = ""

    def convert(self, run: Conversion) -> None:
        """Declare it."""
        run.names[self.name] = self.compute(run.names)
        if self.of in run.origins:
            run.origins[self.name] = run.origins[self.of]
