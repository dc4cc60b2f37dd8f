"""One rule over one checkpoint: its leaves, their sizes and shapes."""

from __future__ import annotations

import itertools
from collections import abc
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from convkit.checkpoint import Leaf, TensorSpec
from convkit.errors import PlanError
from convkit.mapping import (
    Mapping,
    Rule,
)
from convkit.mapping.keys import Bindings, KeyTemplate, Placeholder
from convkit.mapping.ops import EXACT, Cast, Elementwise, Pad
from convkit.mapping.pattern import Axes, Pattern, PatternError
from convkit.mapping.sizes import shape_of, solve
from convkit.plan.names import Names
from convkit.plan.step import Edge, Side, Step, cropped


class RuleBinder:
    """One rule over one checkpoint."""

    def __init__(
        self, mapping: Mapping, rule: Rule, leaves: abc.Mapping[str, Leaf], names: Names, dtype: str | None
    ) -> None:
        self.rule = rule
        self.leaves = leaves
        self.names = names
        self.dtype = dtype
        self.lefts = [KeyTemplate.parse(text) for text in rule.left]
        self.rights = [KeyTemplate.parse(text) for text in rule.right]
        left, right = self.lefts[0].axes, self.rights[0].axes
        self.shared = {name: placeholder for name, placeholder in left.items() if name in right}
        self.only_left = {name: placeholder for name, placeholder in left.items() if name not in right}
        self.only_right = {name: placeholder for name, placeholder in right.items() if name not in left}
        placeholders = self.shared | self.only_left | self.only_right
        declared = {**mapping.axes, **dict(rule.sizes)}
        self.declared = {name: declared[name] for name in placeholders if name in declared}
        known = {name: names.get(value) if isinstance(value, str) else value for name, value in self.declared.items()}
        self.lengths = {name: length for name, length in known.items() if isinstance(length, int)}

    def steps(self) -> list[Step]:
        """A step for every value of the shared placeholders."""
        found = self._match()
        self.cells = self._products(self.only_left, found)
        groups = self._products(self.shared, found)
        present = [bound for bound in groups if any(self._names_at(found, bound, at) for at in self.cells)]
        if not present:
            if self.rule.optional or 0 in (self.lengths.get(name) for name in self.shared | self.only_left):
                return []
            raise self._missing([self._key(bound, at) for bound in groups for at in self.cells])
        self._check_complete(groups, present, found)
        return [self._step(bound, found) for bound in present]

    def _match(self) -> dict[tuple[tuple[str, Any], ...], list[str]]:
        """Keys by the values of all placeholders, in the order of the rule's names."""
        found: dict[tuple[tuple[str, Any], ...], list[str]] = {}
        for template in self.lefts:
            for key in self.leaves:
                bound = template.match(key, self.names)
                if bound is not None:
                    found.setdefault(tuple(sorted(bound.items())), []).append(key)
        return found

    def _range(self, name: str, placeholder: Placeholder, found: Iterable[tuple[tuple[str, Any], ...]]) -> list[Any]:
        if placeholder.choices:
            return list(placeholder.choices)
        if name in self.lengths:
            return list(range(self.lengths[name]))
        seen = [value for bound in found for key, value in bound if key == name]
        return list(range(max(seen, default=-1) + 1))

    def _products(
        self, placeholders: abc.Mapping[str, Placeholder], found: abc.Mapping[tuple[tuple[str, Any], ...], list[str]]
    ) -> list[Bindings]:
        """Every combination of values that some placeholders take."""
        ranges = [self._range(name, placeholder, found) for name, placeholder in placeholders.items()]
        return [dict(zip(placeholders, values, strict=True)) for values in itertools.product(*ranges)]

    def _names_at(
        self, found: abc.Mapping[tuple[tuple[str, Any], ...], list[str]], bound: Bindings, at: Bindings
    ) -> list[str]:
        return found.get(tuple(sorted({**bound, **at}.items())), [])

    def _key(self, bound: Bindings, at: Bindings) -> str:
        return self.lefts[0].format({**bound, **at}, self.names)

    def _check_complete(self, groups: list[Bindings], present: list[Bindings], found: Any) -> None:
        """Missing leaves: within a group always; whole groups unless that choice is optional throughout."""
        choices = [name for name, placeholder in self.shared.items() if placeholder.choices]
        alike = {tuple(bound[name] for name in choices) for bound in present}
        there = {tuple(bound.values()) for bound in present}
        absent = [
            self._key(bound, at) for bound in present for at in self.cells if not self._names_at(found, bound, at)
        ]
        for bound in groups:
            optional = self.rule.optional or any(bound[n] in p.optional for n, p in self.shared.items())
            needed = not optional or tuple(bound[name] for name in choices) in alike
            if needed and tuple(bound.values()) not in there:
                absent.extend(self._key(bound, at) for at in self.cells)
        if absent:
            raise self._missing(absent)

    def _missing(self, keys: list[str]) -> PlanError:
        more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
        return PlanError(
            f"is missing{more}; rule {self.rule}",
            key=keys[0] if keys else str(self.lefts[0]),
            remedy="the checkpoint is incomplete, or of another layout than the one named",
        )

    def _step(self, bound: Bindings, found: Any) -> Step:
        rule = self.rule
        try:
            pattern = rule.pattern_for(bound)
            for name, value in self.declared.items():
                self._size(name, value)
            sizes = {name: self._size(name, value) for name, value in rule.sizes}
            sizes |= self._stacked_sizes(pattern, found, sizes)
            same: list[tuple[str, str]] = []
            spare: list[str] = []
            sources: list[Side] = []
            dtypes: set[str] = set()
            values = False
            for cell in self.cells:
                names = self._names_at(found, bound, cell)
                leaf = self.leaves[names[0]]
                if rule.copied:
                    spare += names[1:]
                else:
                    same += [(name, names[0]) for name in names[1:]]
                if leaf.spec is None:
                    values = True
                    sources.append(Side(leaf.key, Axes(())))
                    continue
                dtypes.add(leaf.spec.dtype)
                axes = pattern.left.axes(cell)
                stacked = {n: self._index(n, v, self.only_left) for n, v in cell.items() if pattern.left.stacks(n)}
                axes = axes.without(stacked).expand(len(leaf.spec.shape), str(rule))
                sources.append(Side(leaf.key, axes, tuple(stacked.items()), leaf.spec))
            if values:
                return self._value_step(bound, sources)
            if len(dtypes) > 1:
                raise PlanError(
                    f"leaves of one rule have different dtypes: {', '.join(sorted(dtypes))}; rule {rule}",
                    key=sources[0].key,
                    remedy="give them one dtype first",
                )
            step = self._tensor_step(bound, pattern, sources, sizes, dtypes.pop())
            return replace(step, same=tuple(same), spare=tuple(spare))
        except PatternError as error:
            key = next((name for cell in self.cells for name in self._names_at(found, bound, cell)), None)
            raise PlanError(
                str(error), key=key, remedy="the config contradicts the tensors, or the layout is another"
            ) from None

    def _stacked_sizes(self, pattern: Pattern, found: Any, named: dict[str, int]) -> dict[str, int]:
        """Lengths of the axes that lie in keys, but for those that only the other side's tensor can tell."""
        sizes = {}
        for side, placeholders in ((pattern.left, self.only_left), (pattern.right, self.only_right)):
            for name, placeholder in placeholders.items():
                if side.stacks(name) and (side is pattern.left or placeholder.choices or name in self.lengths):
                    sizes[name] = len(self._range(name, placeholder, found))
                    if named.get(name, sizes[name]) != sizes[name]:
                        raise PatternError(
                            f"rule {self.rule}: axis '{name}' should have length {named[name]}, "
                            f"there are {sizes[name]} keys along it"
                        )
        return sizes

    def _tensor_step(
        self, bound: Bindings, pattern: Any, sources: list[Side], sizes: dict[str, int], dtype: str
    ) -> Step:
        rule = self.rule
        pads = [op for op in rule.ops if isinstance(op, Pad)]
        crop = pad = None
        for side in sources:
            shape = list(side.spec.shape)
            if pads and pads[0].side == "left":
                axis = pads[0].axis
                keep = self._axis_length(side.axes, axis, sizes)
                self._check_padding(pads[0], keep, shape[axis])
                shape[axis] = keep
                crop = Edge(axis, keep, pads[0].fill, cropped(side.key))
            solve(side.axes, shape, sizes, str(rule))
        targets: list[Side] = []
        also: list[tuple[str, str]] = []
        ops = self._ops(dtype)
        result = dtype
        exactness = EXACT
        for op in ops:
            exactness = exactness.then(op.exactness(result))
            result = op.dtype(result)
        ranges: list[Any] = [p.choices or range(sizes[name]) for name, p in self.only_right.items()]
        ellipsis = self._ellipsis(sources, pattern)
        for values in itertools.product(*ranges):
            cell: Bindings = dict(zip(self.only_right, values, strict=True))
            stacked = {n: self._index(n, v, self.only_right) for n, v in cell.items() if pattern.right.stacks(n)}
            axes = pattern.right.axes(cell).with_ellipsis(ellipsis).without(stacked)
            spec = TensorSpec(shape_of(axes, sizes), result)
            if pads and pads[0].side == "right":
                keep = spec.shape[pads[0].axis]
                length = self._size("", pads[0].to)
                self._check_padding(pads[0], keep, length)
                spec = pads[0].padded(spec, length)
                pad = Edge(pads[0].axis, keep, pads[0].fill)
            keys = [template.format({**bound, **cell}, self.names) for template in self.rights]
            targets.append(Side(keys[0], axes, tuple(stacked.items()), spec))
            also += [(key, keys[0]) for key in keys[1:]]
        return Step(
            str(rule),
            tuple(sources),
            tuple(targets),
            sizes,
            ops=ops,
            pad=pad,
            crop=crop,
            also=tuple(also),
            copied=rule.copied,
            exactness=exactness,
        )

    def _value_step(self, bound: Bindings, sources: list[Side]) -> Step:
        if dict(self.rule.pattern) != {"": "... -> ..."} or self.only_left or self.only_right or self.rule.ops:
            raise PatternError(f"rule {self.rule}: rearranges tensors, and {sources[0].key} is a single value")
        keys = [template.format(bound, self.names) for template in self.rights]
        also = tuple((key, keys[0]) for key in keys[1:])
        return Step(str(self.rule), tuple(sources), (Side(keys[0], Axes(())),), {}, also=also, value=True)

    def _ops(self, dtype: str) -> tuple[Elementwise, ...]:
        ops = [op for op in self.rule.ops if not isinstance(op, Pad)]
        if self.dtype and self.dtype != dtype and dtype.startswith(("float", "bfloat")):
            ops.append(Cast(dtype, self.dtype))
        return tuple(ops)

    def _axis_length(self, axes: Axes, axis: int, sizes: dict[str, int]) -> int:
        try:
            return shape_of(Axes((axes.dims[axis],)), sizes)[0]
        except KeyError as unknown:
            raise PatternError(
                f"rule {self.rule}: axis '{axes.dims[axis]}' is padded: the size of {unknown} must be named"
            ) from None

    def _check_padding(self, pad: Pad, kept: int, length: int) -> None:
        declared = self._size("", pad.to)
        if length != declared or length < kept:
            raise PatternError(
                f"rule {self.rule}: axis {pad.axis} has length {length} with its padding, "
                f"where {pad.to}={declared} and {kept} are to be kept"
            )

    def _ellipsis(self, sources: list[Side], pattern: Any) -> int:
        atoms = {atom.name for side in sources for atom in side.axes.atoms()}
        return sum(name.startswith("_") and name[1:].isdigit() for name in atoms)

    def _size(self, atom: str, value: int | str) -> int:
        size = self.names.get(value) if isinstance(value, str) else value
        if not isinstance(size, int) or isinstance(size, bool):
            raise PatternError(f"rule {self.rule}: size {atom or value}={value!r} isn't known")
        return size

    @staticmethod
    def _index(name: str, value: int | str, placeholders: abc.Mapping[str, Placeholder]) -> int:
        return value if isinstance(value, int) else placeholders[name].choices.index(value)
