"""Make the leaves of a tiny checkpoint from the rules of a mapping, for declared names that are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from convkit.checkpoint import TensorSpec
from convkit.config.condition import Condition
from convkit.mapping import AnyRule, Derived, Fact, Folded, LeftBehind, Measure, Rule, Verbatim
from convkit.mapping import Mapping as LayoutMapping
from convkit.mapping.keys import Bindings, KeyTemplate, Placeholder
from convkit.mapping.ops import Pad
from convkit.mapping.pattern import ELLIPSIS, Axes, Pattern, Sum
from convkit.mapping.sizes import shape_of, solve
from convkit.plan.kin import UNKNOWN, missing_kin
from convkit.testing.made import Chances, Made
from convkit.testing.wholes import Wholes

#: what ``{rest:*}`` stands for in leaves that are made up, with the placeholder's name
SPARE = "spare_{}"
#: lengths of axes that no declared name gives
LENGTHS = (2, 3, 4)
#: the pattern of leaves that stay as they are
PLAIN = (("", "... -> ..."),)
#: recipes that read single numbers
OF_NUMBERS = ("repeated",)
#: how often what is there may ask for more
COMPLETIONS = 4
#: more leaves of a rule are too many for a tiny model, which has then few choices of each placeholder
MOST = 21


class LeafMaker:
    """Makes the leaves of the left side of a mapping.

    Args:
        mapping: whose rules say which leaves there are.
        names: every declared name.
        chances: decide about what is optional, and about lengths that nothing gives.
    """

    def __init__(self, mapping: LayoutMapping, names: Mapping[str, Any], chances: Chances) -> None:
        self.mapping = mapping
        self.names = names
        self.chances = chances
        self.made = Made()
        self.extra = 0
        self._extra_of: dict[str, int] = {}
        self._extra_sizes: dict[str, int] = {}
        self._sizes: dict[str, dict[str, int]] = {}
        self._measured: dict[str, list[Measure]] = {}
        self.wholes = Wholes(mapping, names)
        self.dtype = chances.pick("dtype", ("float32", "float32", "bfloat16"))

    def run(self) -> Made:
        """Make them.

        Raises:
            PatternError: a size that a rule needs contradicts another one.
        """
        rules = [rule for rule in self.mapping.rules if self._applies(rule)]
        carrying = [rule for rule in rules if isinstance(rule, Rule)]
        for one in carrying:
            if str(one) == self.chances.aim:
                self._decide(one)
        needed = [least for rule in carrying if (least := self._least_extra(rule)) is not None]
        self.extra = max(needed) if needed else self.chances.pick("...", (0, 1, 1, 2))
        for one in carrying:
            self._name_extra(one)
        for one in carrying:
            self._carried(one)
        for fact in self.mapping.facts:
            if fact.left and self.names.get(fact.name) and not self._matching(fact.left):
                self._extra(fact)
        self._complete(carrying)
        for rule in rules:
            if isinstance(rule, Folded) and rule.by:
                self._factors(rule)
            elif isinstance(rule, Derived):
                self._computed(rule)
            elif isinstance(rule, LeftBehind | Verbatim) and self.chances.says(str(rule)):
                self._spare(rule)
        self._complete(carrying)
        return self.made

    def _complete(self, carrying: list[Rule]) -> None:
        """Add what parts of the mapping ask for beside the leaves that there are."""
        for _ in range(COMPLETIONS):
            missing = [kin.key for kin in missing_kin(self.mapping, self.made.specs.keys(), self.names)]
            for key in (key.replace(UNKNOWN, SPARE.format("any")) for key in missing):
                if self._is_computed(key) or not self.wholes.ask_for(key):
                    continue
                rule = next((one for one in carrying if self._at(one, key) is not None), None)
                if rule:
                    self._add_one(rule, key)
                else:
                    self.made.specs[key] = TensorSpec((2,), self.dtype)
                    self.made.spare.add(key)
            if not missing:
                return

    def _is_computed(self, key: str) -> bool:
        """Whether a recipe makes the leaf."""
        computed = (rule for rule in self.mapping.rules if isinstance(rule, Derived) and self._applies(rule))
        return any(KeyTemplate.parse(rule.key).match(key, self.names) is not None for rule in computed)

    def _at(self, rule: Rule, key: str) -> Bindings | None:
        found = (KeyTemplate.parse(text).match(key, self.names) for text in rule.left)
        return next((cell for cell in found if cell is not None), None)

    def _add_one(self, rule: Rule, key: str) -> None:
        """Add one leaf of a rule, under this one of its names at least."""
        cell = self._at(rule, key) or {}
        left, right = (KeyTemplate.parse(side[0]).bound for side in (rule.left, rule.right))
        declared = {**self.mapping.axes, **dict(rule.sizes)}
        runs = {name: self._run(one, declared.get(name), rule) for name, one in (left | right).items()}
        names = [KeyTemplate.parse(text).format(cell, self.names) for text in rule.left]
        if not self.made.specs.keys() & set(names):
            self._add(rule, cell, {name: value for name, value in cell.items() if name not in right}, runs)
        holder = next(name for name in names if name in self.made.specs)
        if key not in self.made.specs:
            self.made.specs[key] = self.made.specs[holder]
            self.made.names_of[key] = self.made.names_of.get(holder, holder)

    def _decide(self, rule: Rule) -> None:
        """Make up the parts to which the leaves of a rule belong."""
        for text in rule.left:
            for key, _ in self._formatted(KeyTemplate.parse(text)):
                for part in self.wholes.of(key):
                    self.chances.says(part.keys, 1.0)

    def _applies(self, rule: AnyRule) -> bool:
        return getattr(rule, "side", "left") == "left" and Condition.parse(rule.when).holds(self.names)

    # --- leaves that rules carry ------------------------------------------------------------------------

    def _carried(self, rule: Rule) -> None:
        """Add the leaves of a rule, under some or all of their names."""
        first = KeyTemplate.parse(rule.left[0])
        right = KeyTemplate.parse(rule.right[0]).bound
        declared = {**self.mapping.axes, **dict(rule.sizes)}
        runs = {name: self._run(one, declared.get(name), rule) for name, one in (first.bound | right).items()}
        own = [name for name in first.bound if name not in right]
        shared = [name for name in first.bound if name in right]
        share = min(0.5, 3 / min(_choices(rule), MOST))
        for bound in _products({name: runs[name] for name in shared}):
            cells = [bound | at for at in _products({name: runs[name] for name in own})]
            if not self._wanted(rule, first, bound, cells, share):
                continue
            for cell in cells:
                self._add(rule, cell, {name: cell[name] for name in own}, runs)

    def _run(self, one: Placeholder, length: int | str | None, rule: Rule) -> list[Any]:
        """The values of a placeholder."""
        if one.choices:
            optional = len(one.optional) == len(one.choices)
            return self.chances.few(one.choices) if optional and _choices(rule) > MOST else list(one.choices)
        if one.wild:
            return ["0" if one.digits else SPARE.format(one.name)]
        known = self.names.get(length) if isinstance(length, str) else length
        if isinstance(known, list | tuple):
            return list(known)
        if not isinstance(known, int):
            known = self.chances.pick((str(rule), one.name), LENGTHS)
        return list(range(known))

    def _wanted(self, rule: Rule, first: KeyTemplate, bound: Bindings, cells: list[Bindings], share: float) -> bool:
        """Whether optional leaves are there: all with the same names, whatever their numbers."""
        named = {name: bound[name] for name, one in first.bound.items() if one.choices and name in bound}
        optional = any(bound[name] in first.bound[name].optional for name in named)
        if not (rule.optional or optional):
            return True
        keys = [first.format(cell, self.names) for cell in cells]
        return self._shown(keys, (str(rule), tuple(named.items())), 1.0 if str(rule) == self.chances.aim else share)

    def _shown(self, keys: list[str], question: Any, share: float = 0.5) -> bool:
        """Decide whether leaves are there, as facts and measures say, else by chance."""
        for key in keys:
            if any(KeyTemplate.parse(form).match(key, self.names) is not None for form in self.mapping.left.keys):
                return True
            for fact in self.mapping.facts:
                if fact.left and KeyTemplate.parse(fact.left).match(key, self.names) is not None:
                    return bool(self.names[fact.name])
            for measure in self._measures(key):
                if not self.names.get(measure.name):
                    return False
        for part in (part for key in keys for part in self.wholes.of(key)):
            for fact in self.mapping.facts:
                if fact.left and any(self._belongs(fact, form) for form in part.keys):
                    return bool(self.names[fact.name])
            return self.chances.says(part.keys, share)
        return self.chances.says(question, share)

    def _belongs(self, fact: Fact, form: str) -> bool:
        """Whether a fact's leaves are of a form."""
        key = next((key for key, _ in self._formatted(KeyTemplate.parse(fact.left))), "")
        return KeyTemplate.parse(form).match(key, self.names) is not None

    def _add(self, rule: Rule, cell: Bindings, at: Bindings, runs: Mapping[str, list[Any]]) -> None:
        templates = [KeyTemplate.parse(text) for text in rule.left]
        keys = [template.format(cell, self.names) for template in templates]
        present = [
            key
            for key, template in zip(keys, rule.left, strict=True)
            if len(keys) == 1 or self._shown([key], (str(rule), template))
        ]
        keys = present or keys[:1]
        spec = TensorSpec(self._shape(rule, keys[0], cell, at, runs), self.dtype)
        self._extra_of[keys[0]] = self._extra_axes(rule, keys[0])
        for key in keys:
            self.made.specs[key] = spec
            self.made.names_of[key] = keys[0]
        for text in rule.left_copies:
            if self.chances.says((str(rule), text)):
                self.made.specs[KeyTemplate.parse(text).format(cell, self.names)] = spec

    # --- shapes ----------------------------------------------------------------------------------------

    def _shape(
        self, rule: Rule, key: str, cell: Bindings, at: Bindings, runs: Mapping[str, list[Any]]
    ) -> tuple[int, ...]:
        pattern = rule.pattern_for(cell)
        stacked = tuple(name for name in at if pattern.left.stacks(name))
        axes = pattern.left.axes(at).with_ellipsis(self._extra_axes(rule, key)).without(stacked)
        sizes = self._sizes.setdefault(str(rule), {})  # one size for all leaves of the rule
        sizes |= {name: size for name, value in rule.sizes if isinstance(size := self._size(value), int)}
        sizes |= {name: len(run) for name, run in runs.items() if name not in sizes}
        self._solve_measured(axes, key, sizes, str(rule))
        plain = rule.pattern == PLAIN
        for atom in axes.atoms():
            if atom.name in self._extra_sizes and not plain:
                sizes[atom.name] = self._extra_sizes[atom.name]
            if atom.name not in sizes:  # what "..." stands for is the same in all rules that say more than that
                question = ("...", atom.name) if atom.name.startswith("_") and not plain else (str(rule), atom.name)
                sizes[atom.name] = self.chances.pick(question, LENGTHS)
        shape = list(shape_of(axes, sizes))
        for op in rule.ops:
            if isinstance(op, Pad) and op.side == "left":
                shape[op.axis] = max(shape[op.axis], self._size(op.to) or 0)
        return tuple(shape)

    def _extra_axes(self, rule: Rule, key: str) -> int:
        """The number of axes that "..." stands for: one for all rules, except where it is all of the leaf."""
        if rule.pattern != PLAIN:
            return self.extra
        if any(isinstance(one, Derived) and one.recipe in OF_NUMBERS and {*one.of} & {*rule.left, *rule.right}
               for one in self.mapping.rules):  # fmt: skip
            return 0
        found: int = self.chances.pick((str(rule), "..."), (0, 1, 1, 2))
        places = [measure.left[1] for measure in self._measures(key) if measure.left and measure.name in self.names]
        return max([found, *(place + 1 if place >= 0 else -place for place in places if isinstance(place, int))])

    def _measured_axes(self, rule: Rule) -> tuple[Axes, Bindings, set[tuple[str, int]]]:
        """The axes of a rule's leaf, and which of them measures take."""
        template = KeyTemplate.parse(rule.left[0])
        at: Bindings = {name: one.choices[0] if one.choices else 0 for name, one in template.bound.items()}
        axes = Pattern.parse(rule.pattern[0][1]).left.axes(at) if rule.pattern != PLAIN else Axes(())
        measures = self._measures(template.format(at, self.names))
        return axes, at, {(one.name, one.left[1]) for one in measures if one.left and isinstance(one.left[1], int)}

    def _name_extra(self, rule: Rule) -> None:
        """Note the lengths that measures give to what "..." stands for, at the beginning of a leaf's axes."""
        axes, _, taken = self._measured_axes(rule)
        if axes.dims[:1] == (ELLIPSIS,):
            for name, place in taken:
                if 0 <= place < self.extra and isinstance(self.names.get(name), int):
                    self._extra_sizes[f"_{place}"] = self.names[name]

    def _least_extra(self, rule: Rule) -> int | None:
        """As many axes for "..." as keep the axes that measures take from a leaf apart; None if they take none."""
        axes, at, taken = self._measured_axes(rule)
        if ELLIPSIS not in axes.dims:
            return None
        rank = len([dim for dim in axes.dims if dim != ELLIPSIS and str(dim) not in at])
        for extra in range(3) if taken else ():
            places = {(name, place % (rank + extra)) for name, place in taken if -rank - extra <= place < rank + extra}
            if len({place for _, place in places}) == len(places):
                return extra
        return None

    def _solve_measured(self, axes: Axes, key: str, sizes: dict[str, int], rule: str) -> None:
        """Add the sizes that follow from the lengths which measures give to the leaf's axes."""
        for measure in self._measures(key):
            assert measure.left
            place, length = measure.left[1], self.names.get(measure.name)
            if isinstance(place, int) and isinstance(length, int) and -len(axes.dims) <= place < len(axes.dims):
                dim = axes.dims[place]
                unknown = {atom.name for atom in dim.atoms if atom.name not in sizes} if isinstance(dim, Sum) else ()
                if len(unknown) == 1:
                    solve(Axes((dim,)), (length,), sizes, rule)

    def _measures(self, key: str) -> list[Measure]:
        """The measures that are taken from this leaf."""
        if key not in self._measured:
            self._measured[key] = [
                measure
                for measure in self.mapping.measures
                if measure.left and KeyTemplate.parse(measure.left[0]).match(key, self.names) is not None
            ]
        return self._measured[key]

    def _size(self, value: int | str) -> int | None:
        size = self.names.get(value) if isinstance(value, str) else value
        return size if isinstance(size, int) and not isinstance(size, bool) else None

    # --- other leaves ----------------------------------------------------------------------------------

    def _extra(self, fact: Fact) -> None:
        """Add leaves that no rule carries, whose presence is a fact: one name, with all numbers."""
        template = KeyTemplate.parse(fact.left)
        keys: dict[tuple[Any, ...], list[str]] = {}
        for key, at in self._formatted(template):
            keys.setdefault(tuple(at[name] for name, one in template.bound.items() if one.choices), []).append(key)
        for key in keys[self.chances.pick(fact.name, keys)]:
            self.made.specs[key] = TensorSpec((2,), self.dtype)
            self.made.spare.add(key)

    def _factors(self, rule: Folded) -> None:
        """Add a leaf of factors for each leaf that it multiplies: one factor for each element of the last axis."""
        template = KeyTemplate.parse(rule.key)
        for key, spec in list(self.made.specs.items()):
            if (bound := template.match(key, self.names)) is not None:
                by = KeyTemplate.parse(rule.by).format(bound, self.names)
                self.made.specs[by] = TensorSpec((*spec.shape[: self._extra_of[key]], *spec.shape[-1:]), spec.dtype)

    def _computed(self, rule: Derived) -> None:
        """Add leaves that recipes compute from what is there."""
        template = KeyTemplate.parse(rule.key)
        beside = KeyTemplate.parse(rule.of[0]) if rule.of else None
        if beside and rule.shape is None:
            return
        own = {name: one for name, one in template.bound.items() if beside is None or name not in beside.bound}
        starts = [{}] if beside is None else [found for _, found in self._matching(beside.text)]
        for start in starts:
            for key, at in self._formatted(template, start, own):
                named = tuple((name, at[name]) for name, one in own.items() if one.choices)
                if rule.shape is not None or self.chances.says((str(rule), named)):
                    self.made.derived[key] = (rule, at)

    def _spare(self, rule: LeftBehind | Verbatim) -> None:
        """Add a leaf that stays behind, or that keeps its name."""
        unless = rule.unless if isinstance(rule, LeftBehind) else ""
        for key, _ in self._formatted(KeyTemplate.parse(rule.key)):
            excluded = unless and key.startswith(KeyTemplate.parse(unless).format({}, self.names))
            if key not in self.made.specs and not excluded:
                self.made.specs[key] = TensorSpec((2,), self.dtype)
                self.made.spare.add(key)
                break

    def _matching(self, template: str) -> list[tuple[str, Bindings]]:
        return list(KeyTemplate.parse(template).matching(self.made.specs, self.names))

    def _formatted(
        self, template: KeyTemplate, start: Bindings | None = None, own: Mapping[str, Placeholder] | None = None
    ) -> Iterator[tuple[str, Bindings]]:
        """Yield keys of a form; numbers run as far as the mapping's axes say, or stay at 0."""
        runs: dict[str, list[Any]] = {}
        for name, one in (template.bound if own is None else own).items():
            length = self._size(self.mapping.axes[name]) if name in self.mapping.axes else 1
            runs[name] = list(one.choices) or (
                ["0" if one.digits else SPARE.format(name)]
                if one.wild
                else list(range(1 if length is None else length))
            )
        for at in _products(runs):
            bound = (start or {}) | at
            yield template.format(bound, self.names), bound


def _choices(rule: Rule) -> int:
    """How many leaves a rule has at most, beside the numbers."""
    return math.prod(len(one.choices) or 1 for one in KeyTemplate.parse(rule.left[0]).bound.values())


def _products(runs: Mapping[str, list[Any]]) -> list[Bindings]:
    """Every combination of some placeholders' values."""
    return [dict(zip(runs, values, strict=True)) for values in itertools.product(*runs.values())]
