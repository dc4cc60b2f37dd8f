"""Bind one rule to one checkpoint: match its leaves, solve sizes, and lay out the targets.

Only shapes and dtypes are read. The result is a list of steps, one for every value of the placeholders that
stand on both sides.
"""

from __future__ import annotations

import itertools
from collections import abc

from msgspec.structs import replace

from convkit.checkpoint import Leaf, TensorSpec
from convkit.errors import PlanError
from convkit.mapping import Rule
from convkit.mapping.keys import Bindings, KeyTemplate
from convkit.mapping.ops import EXACT, Cast, Elementwise, Exactness, Pad
from convkit.mapping.pattern import Axes, Pattern, PatternError
from convkit.mapping.sizes import ExtentError, shape_of, solve
from convkit.plan.contradiction import LengthError
from convkit.plan.match import Cell, Group, Placeholders, match
from convkit.plan.names import Names
from convkit.plan.step import Padding, Side, Step, cropped

CONTRADICTED = "the config contradicts the tensors, or the layout is another"
_DAMAGED = "the checkpoint is damaged, or of another layout"


class RuleBinder:
    """A rule of a mapping with these ``axes``, over the leaves of a checkpoint; ``dtype`` casts floats."""

    def __init__(
        self, rule: Rule, axes: abc.Mapping[str, str], leaves: abc.Mapping[str, Leaf], names: Names, dtype: str | None
    ) -> None:
        self.rule = rule
        self.leaves = leaves
        self.names = names
        self.dtype = dtype
        self.places = Placeholders(rule, axes, names)
        self.pads = {op.side: op for op in rule.ops if isinstance(op, Pad)}

    def steps(self) -> list[Step]:
        """Make a step for every group of leaves.

        Raises:
            PlanError: leaves are missing, or their shapes or dtypes contradict the rule.
        """
        return [self._checked(group) for group in match(self.rule, self.places, self.leaves, self.names)]

    def _checked(self, group: Group) -> Step:
        try:
            return self._step(group)
        except PatternError as error:
            raise PlanError(
                str(error),
                key=next((key for cell in group.cells for key in cell.keys), None),
                remedy=CONTRADICTED,
            ) from None

    def _step(self, group: Group) -> Step:
        pattern = self.rule.pattern_for(group.bound)
        sizes = self._sizes(group, pattern)
        sources = [self._source(group, cell, pattern) for cell in group.cells]
        tensors = [self.leaves[side.key].spec is not None for side in sources]
        if not all(tensors):
            return self._value_step(group, sources)
        dtype = self._one_dtype(sources)
        crop = self._solved(sources, sizes)
        ops = self._ops(dtype)
        result, exactness = _after(ops, dtype)
        bounds = self._bounds(group, sizes)
        ellipsis = _ellipsis(sources)
        targets = [self._target(bound, pattern, ellipsis, sizes, result) for bound in bounds]
        copies = self._further_names(bounds, self.rule.right_copies)
        return Step(
            str(self.rule),
            tuple(sources),
            tuple(replace(side, spec=self._padded(side.spec)) for side in targets),
            sizes,
            ops=ops,
            pad=self._pad(targets),
            crop=crop,
            same=tuple((key, cell.keys[0]) for cell in group.cells for key in cell.keys[1:]),
            unused=tuple(key for cell in group.cells for key in cell.copies),
            also=(*self._further_names(bounds, self.rule.right[1:]), *copies),
            copies=tuple(key for key, _ in copies),
            exactness=exactness,
        )

    def _value_step(self, group: Group, sources: list[Side]) -> Step:
        plain = dict(self.rule.pattern) == {"": "... -> ..."} and not (self.places.left or self.places.right)
        if not plain or self.rule.ops:
            raise PatternError(f"rule {self.rule}: rearranges tensors, but {sources[0].key} is a single value")
        target = Side(self._key(self.rule.right[0], group.bound), Axes(()))
        tied, copies = (
            self._further_names([group.bound], names) for names in (self.rule.right[1:], self.rule.right_copies)
        )
        return Step(
            str(self.rule),
            tuple(sources),
            (target,),
            {},
            also=(*tied, *copies),
            copies=tuple(key for key, _ in copies),
            value=True,
        )

    # --- sizes ------------------------------------------------------------------------------------------------

    def _sizes(self, group: Group, pattern: Pattern) -> dict[str, int]:
        """The declared sizes, and the lengths of axes that lie in keys, as far as the left side shows them."""
        listed = {name for name in self.places.declared if self.places.lists(name, self.names)}
        for name in self.places.declared.keys() - listed:
            self._size(name, self.places.declared[name])
        sizes = {name: self._size(name, value) for name, value in self.rule.sizes if name not in listed}
        stacked = {name: len(group.runs[name]) for name in self.places.left if pattern.left.stacks(name)}
        for name, placeholder in self.places.right.items():
            if pattern.right.stacks(name) and (placeholder.choices or name in self.places.numbers):
                stacked[name] = len(self.places.run(name, placeholder, ()))
        for name, length in stacked.items():
            if sizes.get(name, length) != length:
                raise PatternError(
                    f"rule {self.rule}: axis '{name}' should have length {sizes[name]}, "
                    f"there are {length} keys along it"
                )
        return sizes | stacked

    def _solved(self, sources: list[Side], sizes: dict[str, int]) -> Padding | None:
        """Add to ``sizes`` what the sources' shapes show; return what is cropped from the source, if it is padded."""
        crop = None
        for number, side in enumerate(sources):
            shape = list(side.spec.shape)
            if pad := self.pads.get("left"):
                kept = self._axis_length(side.axes, pad.axis, sizes)
                crop = replace(self._padding(pad, kept, shape[pad.axis]), kept_as=cropped(side.key))
                shape[pad.axis] = kept
            self._solve(side, shape, sizes, sources[:number])
        return crop

    def _solve(self, side: Side, shape: list[int], sizes: dict[str, int], before: list[Side]) -> None:
        """Add to ``sizes`` what one source's shape shows, after those ``before`` it.

        Raises:
            LengthError: it contradicts sizes that are known.
        """
        try:
            solve(side.axes, shape, sizes, str(self.rule))
        except ExtentError as error:
            sizes_of = {**self.places.declared, **dict(self.rule.sizes)}
            declared = [sizes_of.get(atom) for atom in error.atoms]
            fitting = f" where that makes {error.expected}" if len(declared) > 1 else " there"
            if error.expected is None:
                fitting = ", which that doesn't fit"
            names = tuple(name for name in declared if isinstance(name, str))
            raise LengthError(
                f"of shape {shape} has an axis of {error.length}, but {self._wanted(error, names, before)}",
                key=side.key,
                remedy=f"correct it: --size {names[0]}=N, or name the right layout" if names else _DAMAGED,
                sizes=names,
                found=f"{side.key} of shape {shape} has {error.length}{fitting}",
            ) from None

    def _wanted(self, error: ExtentError, names: tuple[str, ...], before: list[Side]) -> str:
        """What makes another length: declared names, a leaf that was read before, or the rule itself."""
        if names:
            said = " and ".join(f"{name} is {self.names[name]}" for name in names)
            if error.expected is None:
                return f"{said}, which that doesn't fit"
            return said if self.names[names[0]] == error.expected else f"{said}, which makes it {error.expected}"
        if error.expected is None:
            return "no size fits that"
        if before:
            return f"{before[0].key} of shape {list(before[0].spec.shape)} beside it has {error.expected}"
        return f"it should be {error.expected}"

    def _size(self, atom: str, value: int | str) -> int:
        size = self.names.get(value) if isinstance(value, str) else value
        if not isinstance(size, int) or isinstance(size, bool):
            raise PatternError(f"rule {self.rule}: size {atom or value}={value!r} isn't known")
        return size

    def _axis_length(self, axes: Axes, axis: int, sizes: dict[str, int]) -> int:
        try:
            return shape_of(Axes((axes.dims[axis],)), sizes)[0]
        except KeyError as unknown:
            raise PatternError(
                f"rule {self.rule}: axis '{axes.dims[axis]}' is padded: the size of {unknown} must be given"
            ) from None

    def _padding(self, pad: Pad, kept: int, length: int) -> Padding:
        """The padding of an axis of that length, where the first ``kept`` elements aren't padding."""
        declared = self._size("", pad.to)
        if length != declared or length < kept:
            raise PatternError(
                f"rule {self.rule}: axis {pad.axis} has length {length} with its padding, "
                f"where {pad.to}={declared} and {kept} are to be kept"
            )
        return Padding(pad.axis, kept, pad.fill)

    def _pad(self, targets: list[Side]) -> Padding | None:
        """The padding to add to the target, if it is padded."""
        if not (pad := self.pads.get("right")):
            return None
        (side,) = targets
        return self._padding(pad, side.spec.shape[pad.axis], self._size("", pad.to))

    def _padded(self, spec: TensorSpec) -> TensorSpec:
        pad = self.pads.get("right")
        return pad.padded(spec, self._size("", pad.to)) if pad else spec

    # --- sources and targets ----------------------------------------------------------------------------------

    def _source(self, group: Group, cell: Cell, pattern: Pattern) -> Side:
        leaf = self.leaves[cell.keys[0]]
        if leaf.spec is None:
            return Side(leaf.key, Axes(()))
        at = {name: group.runs[name][value] for name, value in cell.at.items() if pattern.left.stacks(name)}
        axes = pattern.left.axes(cell.at).without(tuple(at)).expand(len(leaf.spec.shape), str(self.rule))
        return Side(leaf.key, axes, tuple(at.items()), leaf.spec)

    def _one_dtype(self, sources: list[Side]) -> str:
        dtypes = sorted({side.spec.dtype for side in sources})
        if len(dtypes) > 1:
            raise PlanError(
                f"leaves of one rule have different dtypes: {', '.join(dtypes)}; rule {self.rule}",
                key=sources[0].key,
                remedy="give them one dtype first",
            )
        return dtypes[0]

    def _target(self, bound: Bindings, pattern: Pattern, ellipsis: int, sizes: dict[str, int], dtype: str) -> Side:
        """The target leaf whose placeholders have these values, as the pattern describes it: without padding."""
        cell = {name: bound[name] for name in self.places.right}
        at = {name: self._run(name, sizes).index(value) for name, value in cell.items() if pattern.right.stacks(name)}
        axes = pattern.right.axes(cell).with_ellipsis(ellipsis).without(tuple(at))
        spec = TensorSpec(shape_of(axes, sizes), dtype)
        return Side(self._key(self.rule.right[0], bound), axes, tuple(at.items()), spec)

    def _run(self, name: str, sizes: dict[str, int]) -> list[int | str]:
        """The values of a placeholder of only the right side."""
        placeholder = self.places.right[name]
        known = placeholder.choices or name in self.places.numbers
        return self.places.run(name, placeholder, ()) if known else list(range(sizes[name]))

    def _bounds(self, group: Group, sizes: dict[str, int]) -> list[Bindings]:
        """The values of all placeholders of the right side, for each target leaf."""
        runs = [self._run(name, sizes) for name in self.places.right]
        cells = (dict(zip(self.places.right, values, strict=True)) for values in itertools.product(*runs))
        return [group.bound | cell for cell in cells]

    def _further_names(self, bounds: list[Bindings], templates: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """Further names of the target leaves, each with the leaf's own name."""
        first = self.rule.right[0]
        return tuple((self._key(name, bound), self._key(first, bound)) for bound in bounds for name in templates)

    def _key(self, template: str, bound: Bindings) -> str:
        """Make the name of a target leaf.

        Raises:
            PatternError: the value of a wild placeholder can't be read back from the name.
        """
        parsed = KeyTemplate.parse(template)
        key = parsed.format(bound, self.names)
        if any(one.wild for one in self.places.shared.values()) and parsed.match(key, self.names) != bound:
            raise PatternError(f"rule {self.rule}: the name {key} can't be read back as it is made")
        return key

    def _ops(self, dtype: str) -> tuple[Elementwise, ...]:
        ops = [op for op in self.rule.ops if not isinstance(op, Pad)]
        if self.dtype and self.dtype != dtype and dtype.startswith(("float", "bfloat")):
            ops.append(Cast(dtype, self.dtype))
        return tuple(ops)


def _after(ops: tuple[Elementwise, ...], dtype: str) -> tuple[str, Exactness]:
    """Find the dtype after some ops, and how exact they are together."""
    exactness = EXACT
    for op in ops:
        exactness = exactness.then(op.exactness(dtype))
        dtype = op.dtype(dtype)
    return dtype, exactness


def _ellipsis(sources: list[Side]) -> int:
    """Count the axes that ``...`` stands for."""
    atoms = {atom.name for side in sources for atom in side.axes.atoms()}
    return sum(name.startswith("_") and name[1:].isdigit() for name in atoms)
