"""A mapping meets a checkpoint: each rule finds its leaves, sizes are solved, shapes computed.

No tensor is read. The result is a list of steps, and the fate of every source leaf that a rule
claims; :mod:`convkit.plan` adds up both sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Dict
from dataclasses import replace
from typing import Any

from convkit.checkpoint import Leaf
from convkit.condition import holds
from convkit.errors import ConvkitError
from convkit.fold import Fold
from convkit.keys import Bindings, KeyTemplate, Placeholder
from convkit.mapping import (
    Derived,
    Fact,
    Folded,
    Layout,
    LeftBehind,
    Mapping,
    Measure,
    Refused,
    Rule,
    Variant,
    Verbatim,
)
from convkit.ops import EXACT, Cast, Elementwise, Exactness, Pad
from convkit.pattern import Axes, Pattern, PatternError, shape_of, solve
from convkit.steps import Bound, DerivedLeaf, Edge, Side, Step, cropped
from convkit.tensors import TensorSpec

Names = dict[str, Any]


class PlanError(ConvkitError):
    """A plan that isn't total, or a checkpoint that contradicts its config."""


# --- declared names that the keys give -----------------------------------------------------------------


def detect_variants(variants: Iterable[Variant], keys: Iterable[str], given: Dict[str, str]) -> dict[str, str]:
    """The source's choices: as seen in the keys, else as given, else the first.

    Raises:
        PlanError: a given choice doesn't exist.
    """
    keys = list(keys)
    names: dict[str, str] = {}
    for variant in variants:
        if variant.side == "left":
            seen = _seen_choice(variant, keys, names)
            names[variant.name] = _a_choice(
                variant, given.get(variant.name, variant.choices[0]) if seen is None else seen
            )
    return names


def choose_variants(variants: Iterable[Variant], given: Dict[str, str], declared: Names) -> dict[str, str]:
    """The target's choices: as given, else as a model with these declared names usually has them, else the first.

    Raises:
        PlanError: a given choice doesn't exist.
    """
    names: dict[str, str] = {}
    for variant in variants:
        if variant.side == "right":
            usual = variant.usual(declared) if variant.usual else variant.choices[0]
            if declared["headless"] and variant.headless is not None:
                usual = variant.headless
            names[variant.name] = _a_choice(variant, given.get(variant.name, usual))
    return names


def _a_choice(variant: Variant, choice: str) -> str:
    if choice not in variant.choices:
        raise PlanError(f"variant {variant.name} has no choice {choice!r}", remedy=f"choices: {variant.choices}")
    return choice


def _seen_choice(variant: Variant, keys: list[str], names: Dict[str, Any]) -> str | None:
    probe = KeyTemplate.parse(variant.probe)
    if not probe.text:
        return None
    for choice in variant.choices:
        known = {**names, variant.name: choice}
        if any(probe.match(key, known) is not None for key in keys):
            return choice
    return None


def detect_facts(facts: Iterable[Fact], keys: Iterable[str], names: Dict[str, Any]) -> dict[str, bool]:
    """Whether a leaf of each fact's form is there."""
    keys = list(keys)
    found = {}
    for fact in facts:
        probe = KeyTemplate.parse(fact.left)
        found[fact.name] = any(probe.match(key, names) is not None for key in keys)
    return found


# --- rules -----------------------------------------------------------------------------------------------


def bind(mapping: Mapping, leaves: Dict[str, Leaf], names: Names, dtype: str | None = None) -> Bound:
    """Let every rule of a mapping, read from left to right, find its leaves.

    ``dtype`` casts floating-point tensors.

    Raises:
        PlanError: a leaf is missing, claimed twice, or has a shape that the config contradicts.
    """
    bound = Bound()
    claimed: dict[str, str] = {}
    for rule in mapping.rules:
        if isinstance(rule, Rule) and holds(rule.when, names):
            steps = _RuleBinder(mapping, rule, leaves, names, dtype).steps()
            bound.steps.extend(steps)
            _claim(claimed, [key for step in steps for key in _source_keys(step)], str(rule))
            bound.left_behind |= {key: f"a copy beside {step.sources[0].key}" for step in steps for key in step.spare}
        elif isinstance(rule, Derived) and rule.side == "left" and holds(rule.when, names):
            for leaf, derived in _derived(rule, leaves, names):
                for key in derived.of:
                    if key not in leaves:
                        raise PlanError(f"{leaf.key} follows from it", key=key, remedy="the checkpoint is incomplete")
                bound.derived.append(derived)
                _claim(claimed, [leaf.key], str(rule))
    for rule in mapping.rules:
        if isinstance(rule, Folded) and rule.side == "left" and holds(rule.when, names):
            bound.left_behind |= _fold(rule, bound.steps, leaves, names)
    for rule in mapping.rules:
        if isinstance(rule, LeftBehind) and rule.side == "left" and holds(rule.when, names):
            keys = [key for key in _left_behind(rule, leaves, names) if key not in claimed]
            bound.left_behind |= dict.fromkeys(keys, rule.reason)
    for rule in mapping.rules:
        if isinstance(rule, Refused | Verbatim) and holds(rule.when, names):
            template = KeyTemplate.parse(rule.key)
            taken = claimed.keys() | bound.left_behind.keys()
            kept = [key for key in leaves if key not in taken and template.match(key, names) is not None]
            if isinstance(rule, Refused):
                if kept and rule.side == "left":
                    raise PlanError(rule.reason, key=kept[0], remedy=rule.remedy)
                continue
            bound.steps.extend(_verbatim(rule, leaves[key], dtype) for key in kept)
            _claim(claimed, kept, str(rule))
    place = {key: number for number, key in enumerate(leaves)}
    bound.steps.sort(key=lambda step: place[step.sources[0].key])
    return bound


def _fold(rule: Folded, steps: list[Step], leaves: Dict[str, Leaf], names: Names) -> dict[str, str]:
    """Have the steps of the leaves that a rule folds read them so; returns the leaves that it folds into them."""
    template, gone = KeyTemplate.parse(rule.key), {}
    for number, step in enumerate(steps):
        for side in step.sources:
            if (at := template.match(side.key, names)) is None:
                continue
            by = KeyTemplate.parse(rule.by).format(at, names)
            if by not in leaves:
                raise PlanError(f"is missing; it is folded into {side.key}", key=by, remedy="complete the checkpoint")
            arguments = {name: names[v] if isinstance(v, str) else v for name, v in rule.arguments.items()}
            # in float64 factors are no more exact than what they multiply: a few ulp of exp and log
            exactness = Exactness(4.0 if side.spec.dtype == "float64" else 0.5, side.spec.dtype)
            steps[number] = replace(step, folded=Fold("source", side.key, by, rule.recipe, arguments, exactness))
            gone[by] = f"folded into {side.key}"
    return gone


def _left_behind(rule: LeftBehind, leaves: Iterable[str], names: Names) -> Iterator[str]:
    template = KeyTemplate.parse(rule.key)
    unless = KeyTemplate.parse(rule.unless).format({}, names) if rule.unless else None
    for key in leaves:
        if template.match(key, names) is not None and (unless is None or not key.startswith(unless)):
            yield key


def _verbatim(rule: Verbatim, leaf: Leaf, dtype: str | None) -> Step:
    if leaf.spec is None:
        side = Side(leaf.key, Axes(()))
        return Step(str(rule), (side,), (side,), {}, value=True)
    kept = Rule(leaf.key, leaf.key)
    binder = _RuleBinder(Mapping(_NOWHERE, _NOWHERE, (kept,)), kept, {leaf.key: leaf}, {}, dtype)
    return replace(binder.steps()[0], rule=str(rule))


_NOWHERE = Layout("", "", "", "")


def measured(
    measures: Iterable[Measure], leaves: Dict[str, Leaf], names: Dict[str, Any], given: Dict[str, int]
) -> Names:
    """What the shapes of the left side say of declared names; what the user gave must agree.

    Raises:
        PlanError: a given size is not the checkpoint's.
    """
    found: Names = dict(given)
    for measure in measures:
        if measure.left is None:
            continue
        template, axis = KeyTemplate.parse(measure.left[0]), measure.left[1]
        if isinstance(axis, str):
            length: int | None = _run(template, axis, leaves, names)
            key, why = template.text, f"'{axis}' in the keys"
        else:
            alike = (leaf for key, leaf in leaves.items() if leaf.spec and template.match(key, names) is not None)
            leaf = next(alike, Leaf("", TensorSpec((), "bool")))
            shape = leaf.spec.shape if leaf.spec else ()
            length = shape[axis] if -len(shape) <= axis < len(shape) else None
            key, why = leaf.key, f"axis {axis} of {list(shape)}"
        if length is not None and found.setdefault(measure.name, length) != length:
            raise PlanError(
                f"says {measure.name} = {length} ({why}), not {found[measure.name]}",
                key=key,
                remedy="correct the size, or leave it out",
            )
    return found


def _run(template: KeyTemplate, name: str, keys: Iterable[str], names: Dict[str, Any]) -> int:
    """How far an integer placeholder runs in the keys, or over how many of its names."""
    seen = {bound[name] for key in keys if (bound := template.match(key, names)) is not None}
    return len(seen) if template.axes[name].choices else max((int(value) for value in seen), default=-1) + 1


def owed_derived(mapping: Mapping, keys: Iterable[str], names: Names) -> list[DerivedLeaf]:
    """Derived leaves of the right side that an earlier conversion's receipt says were there."""
    wanted = {key: Leaf(key, TensorSpec((), "bool")) for key in keys}
    found = []
    for rule in mapping.rules:
        if isinstance(rule, Derived) and rule.side == "right" and holds(rule.when, names):
            found += [leaf for _, leaf in _derived(rule, wanted, names)]
    return found


def made_derived(mapping: Mapping, leaves: Dict[str, TensorSpec], names: Names) -> list[DerivedLeaf]:
    """Derived leaves of the right side that are made beside the ``leaves`` that they follow from."""
    found = []
    for rule in mapping.rules:
        if isinstance(rule, Derived) and rule.side == "right" and rule.shape is not None and holds(rule.when, names):
            template, beside = KeyTemplate.parse(rule.key), KeyTemplate.parse(rule.of[0])
            own = {name: field.choices for name, field in template.axes.items() if name not in beside.axes}
            shape = tuple(names[length] if isinstance(length, str) else length for length in rule.shape)
            for key, spec in leaves.items():
                if (bound := beside.match(key, names)) is not None:
                    for choices in itertools.product(*own.values()):
                        at = bound | dict(zip(own, choices, strict=True))
                        made = TensorSpec(shape, rule.dtype or spec.dtype)
                        found.append(_derived_leaf(rule, template.format(at, names), made, at, names))
    return found


def _derived(rule: Derived, leaves: Dict[str, Leaf], names: Names) -> Iterator[tuple[Leaf, DerivedLeaf]]:
    template = KeyTemplate.parse(rule.key)
    for key, leaf in leaves.items():
        if leaf.spec is not None and (bound := template.match(key, names)) is not None:
            yield leaf, _derived_leaf(rule, key, leaf.spec, bound, names)


def _derived_leaf(rule: Derived, key: str, spec: TensorSpec, at: Bindings, names: Names) -> DerivedLeaf:
    arguments = {name: names[value] if isinstance(value, str) else value for name, value in rule.arguments.items()}
    of = tuple(KeyTemplate.parse(text).format(at, names) for text in rule.of)
    return DerivedLeaf(key, spec, rule.recipe, arguments, of, rule.proven)


def _source_keys(step: Step) -> list[str]:
    return [side.key for side in step.sources] + [name for name, _ in step.same] + list(step.spare)


def _claim(claimed: dict[str, str], keys: Iterable[str], rule: str) -> None:
    for key in keys:
        if key in claimed:
            raise PlanError(
                f"two rules claim it: {claimed[key]}; {rule}", key=key, remedy="the mapping is ambiguous: report it"
            )
        claimed[key] = rule


class _RuleBinder:
    """One rule over one checkpoint."""

    def __init__(self, mapping: Mapping, rule: Rule, leaves: Dict[str, Leaf], names: Names, dtype: str | None) -> None:
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
        self, placeholders: Dict[str, Placeholder], found: Dict[tuple[tuple[str, Any], ...], list[str]]
    ) -> list[Bindings]:
        """Every combination of values that some placeholders take."""
        ranges = [self._range(name, placeholder, found) for name, placeholder in placeholders.items()]
        return [dict(zip(placeholders, values, strict=True)) for values in itertools.product(*ranges)]

    def _names_at(
        self, found: Dict[tuple[tuple[str, Any], ...], list[str]], bound: Bindings, at: Bindings
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
    def _index(name: str, value: int | str, placeholders: Dict[str, Placeholder]) -> int:
        return value if isinstance(value, int) else placeholders[name].choices.index(value)
