"""Make tiny models from a mapping's declarations alone: rules, conditions, variants, facts, measures, config table.

What the leaves show decides which rules apply, and the rules decide which leaves there are. So a model is guessed, its
leaves are made, the engine says which names they show, and that is repeated until both agree. Guesses that a config
table or a rule refuses are given up; of the models, those are kept that use something which no earlier one has used.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import numpy as np
from msgspec.structs import replace

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.checkpoint.tensors import carrier, value_dtype
from convkit.config.condition import Condition, Part
from convkit.errors import ConfigError, IncompleteError, PlanError
from convkit.execute.chain import Converted, links_of
from convkit.execute.recipes import OF_LEAVES, RECIPES, Read
from convkit.files.config_file import write_config
from convkit.formats import get_format
from convkit.mapping import Derived, Refused, Rule, inverse
from convkit.mapping import Mapping as LayoutMapping
from convkit.mapping.keys import Bindings, KeyTemplate
from convkit.mapping.pattern import PatternError
from convkit.plan import Options, Plan, Source, make_plan
from convkit.plan.names import choose_variants, know
from convkit.testing.arrays import Arrays
from convkit.testing.configs import COUNTS, SIZES, make_config, with_names
from convkit.testing.leaves import LeafMaker
from convkit.testing.made import Chances, Made
from convkit.testing.samples import bits

T = TypeVar("T")

#: failures after which a search ends
LIMIT = 3
#: guesses at names that are measured, for one config
GUESSES = 30
#: how often a guess may be corrected by what its leaves show
ROUNDS = 6


@dataclass(frozen=True)
class Model:
    """A tiny checkpoint of the left layout of a mapping, with its config and how to convert it."""

    mapping: LayoutMapping
    config: dict[str, Any]
    checkpoint: Arrays
    options: Options
    plan: Plan
    plan_back: Plan
    #: what of the declarations it uses
    uses: frozenset[str]

    @property
    def knows_bases(self) -> bool:
        """Whether its mapping converts models without their heads."""
        return knows_bases(self.mapping)

    @property
    def source(self) -> Source:
        """The model in memory, as plans take it."""
        return Source(self.checkpoint.path, self.checkpoint, self.config, None, {})

    def write(self, folder: Path) -> Path:
        """Write it in its layout's own format, with its config beside it, and return its path."""
        format, path = get_format(self.mapping.left.format), folder / "model"
        own = dict(self.config) if format.holds_config else None
        leaves = list(self.checkpoint.leaves.values())
        writer = format.create(path, leaves, WriteOptions(config=own))
        for leaf in leaves:
            writer.write(leaf.key, 0, self.checkpoint.data[leaf.key])
            writer.finish(leaf.key)
        writer.commit()
        writer.close()
        name = self.mapping.left.config_file
        if name and not format.holds_config:
            write_config(path / name if path.is_dir() else path.with_suffix(Path(name).suffix), self.config)
        return path


@dataclass
class Search:
    """The search for models of the left layout of a mapping.

    ``configs`` are configs that are known to be sensible, each with its release; they are tried beside made-up ones.
    ``refused`` says why guesses were given up, ``failures`` what no rule or no config can explain. ``one_way`` holds
    what models use that convert, but are refused on the way back, and the refusal.
    """

    mapping: LayoutMapping
    random: Random
    configs: list[tuple[dict[str, Any], tuple[int, ...]]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    one_way: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    #: whether the last guess was refused before any leaf was made
    cheap: bool = True

    def models(self, patience: int) -> Iterator[Model]:
        """Yield models, each of which uses something that none before has used, until that gets rare."""
        idle = 0.0
        while idle < (patience if self.unused() or self.unsettled() else patience // 4) and len(self.failures) < LIMIT:
            self.cheap = True
            model = self.guess()
            idle += (0.05 if self.used else 0.005) if self.cheap else 1
            if model:
                self.used |= model.uses
                idle = 0
                yield model

    def guess(self) -> Model | None:
        """Guess a model; None if the guess isn't one, or if the mapping has no plan for it, which is a failure."""
        mapping, random = self.mapping, self.random
        chances = Chances(random)
        config, release = self._config()
        choices = {variant.name: random.choice(variant.choices) for variant in mapping.variants}
        facts = {fact.name: random.random() < 0.5 for fact in mapping.facts}
        parts: tuple[Part, ...] = ()
        if aim := self._aim():
            chances.aim, parts = str(aim), Condition.parse(aim.when).parts
            if f"rule {aim}" in self.one_way:  # nothing beside it, which the way back may refuse
                facts = dict.fromkeys(facts, False)
        wanted = {part.name: _meets(part) for part in parts}
        choices |= {name: value for name, value in wanted.items() if name in choices}
        facts |= {name: value for name, value in wanted.items() if name in facts}
        config = with_names(mapping.config, config, wanted)
        headless = wanted.get("headless", random.random() < 0.2)
        options = Options(
            release=release,
            choices=choices,
            restore=False,
            headless=knows_bases(self.mapping) and headless,
        )
        try:
            names, options = self._first_names(config, facts, wanted, options)
            if aim and not Condition.parse(aim.when).holds(names):
                return None
            self.cheap = False
            found = self._settled(config, names, options, chances)
        except (ConfigError, PlanError, PatternError, KeyError) as refusal:
            self.refused.append(f"{type(refusal).__name__}: {refusal}")
            return None
        return found and self._model(config, *found, options)

    def _aim(self) -> Rule | None:
        """A rule to be used by the next guess, if any."""
        unused = self.unused()
        return self.random.choice(unused) if unused and self.random.random() < 0.6 else None

    def unsettled(self) -> dict[str, str]:
        """What only models use that are refused on the way back, and the refusal."""
        rules = {f"rule {rule}" for rule in self.mapping.rules if isinstance(rule, Rule)} - self.used
        return {use: refusal for use, refusal in self.one_way.items() if use in rules}

    def unused(self) -> list[Rule]:
        """The rules that no model has used yet."""
        return [rule for rule in self.mapping.rules if isinstance(rule, Rule) and f"rule {rule}" not in self.used]

    def _settled(
        self, config: dict[str, Any], names: dict[str, Any], options: Options, chances: Chances
    ) -> tuple[Made, dict[str, Any]] | None:
        """Leaves, and the declared names that they show; None if that doesn't come to an end."""
        mapping = self.mapping
        for _ in range(ROUNDS):
            made = self._asked(names, lambda known: LeafMaker(mapping, known, chances).run())
            known = know(
                mapping,
                made.leaves,
                config,
                release=options.release,
                choices=options.choices,
                sizes=options.given,
                headless=options.headless,
            )
            if _plain(known.names) == _plain(names):
                return (made, names) if self._is_whole(made, names) else None
            names = known.names
        return None

    def _is_whole(self, made: Made, names: dict[str, Any]) -> bool:
        """Whether the leaves show the layout and the choices of its variants, as those of a real checkpoint do."""
        probes = [variant.probe for variant in self.mapping.variants if variant.side == "left" and variant.probe]
        forms = map(KeyTemplate.parse, (*self.mapping.left.keys, *probes))
        return all(any(form.match(key, names) is not None for key in made.specs) for form in forms)

    def _asked(self, names: dict[str, Any], work: Callable[[dict[str, Any]], T]) -> T:
        """Work with declared names; those that turn out to be missing are sizes."""
        while True:
            try:
                return work(names)
            except KeyError as missing:
                if missing.args[0] in names:
                    raise
                names[missing.args[0]] = self._size(missing.args[0])

    def _first_names(
        self, config: dict[str, Any], facts: dict[str, Any], wanted: dict[str, Any], options: Options
    ) -> tuple[dict[str, Any], Options]:
        """Guess the names that leaves show, until the config table takes them; and the sizes that the user gives.

        Raises:
            ConfigError: it takes none of them.
        """
        variants, choices, measures = self.mapping.variants, options.choices, self.mapping.measures
        shown = {measure.name for measure in measures if measure.left}
        hidden = {measure.name for measure in measures} - shown
        fixed = facts | {variant.name: choices[variant.name] for variant in variants if variant.side == "left"}
        fixed |= {name: value for name, value in wanted.items() if name in shown} | {"headless": options.headless}
        claimed: dict[str, Any] = {}
        for attempt in itertools.count(1):
            given = self._some(hidden)
            names = self._some(shown) | given | fixed
            try:
                converted = self._asked(
                    names, lambda known: self.mapping.config.convert(config, known, options.release)
                )
            except ConfigError:
                if attempt >= (GUESSES if measures or claimed else 1):
                    raise
            else:
                if claimed := {fact: True for fact in converted.claims if names.get(fact) is False}:
                    fixed |= claimed  # a complete model has what its config claims
                    continue
                names = converted.names | choose_variants(variants, choices, converted.names)
                return names, replace(options, given=given)
        raise AssertionError("unreachable")

    def _some(self, names: Iterable[str]) -> dict[str, Any]:
        """Small sizes for some names, or for all."""
        share = self.random.choice((0.4, 0.8, 1.0))
        return {name: self._size(name) for name in sorted(names) if self.random.random() < share}

    def _size(self, name: str) -> int:
        return self.random.choice(COUNTS if name in self.counted else SIZES)

    def _config(self) -> tuple[dict[str, Any], tuple[int, ...]]:
        if self.configs and self.random.random() < 0.6:
            return self.random.choice(self.configs)
        releases = self.mapping.right.releases or self.mapping.left.releases
        release = self.random.choice(releases) if releases else ()
        return make_config(self.mapping.config, self.random, self.counted), release

    @cached_property
    def counted(self) -> frozenset[str]:
        """The declared names that are numbers of leaves."""
        found = set(self.mapping.axes.values())
        found |= {
            measure.name
            for measure in self.mapping.measures
            for end in (measure.left,)
            if end and isinstance(end[1], str)
        }
        for rule in self.mapping.rules:
            if isinstance(rule, Rule):
                numbered = {name for text in rule.left + rule.right for name in KeyTemplate.parse(text).axes}
                found |= {size for name, size in rule.sizes if name in numbered and isinstance(size, str)}
        return frozenset(found)

    def _model(self, config: dict[str, Any], made: Made, names: dict[str, Any], options: Options) -> Model | None:
        mapping = self.mapping
        data = {key: bits(spec, self.random.randrange(2**32)) for key, spec in made.specs.items()}
        data |= {key: data[of] for key, of in made.names_of.items()}
        checkpoint = Arrays(made.specs, data, mapping.left.format)
        for key, (rule, at) in made.derived.items():
            if key not in made.specs and (array := _computed(rule, at, names, checkpoint)) is not None:
                checkpoint.leaves[key] = Leaf(key, TensorSpec(array.shape, array.dtype.name))
                data[key] = array.reshape(-1).view(carrier(array.dtype.name))
        source = Source(checkpoint.path, checkpoint, config, None, {})
        try:
            plan = make_plan(source, mapping, options=options)
            target = carried_out(plan, source)
        except (PlanError, ConfigError, ValueError, IndexError) as refusal:
            self._give_up(refusal, made.spare)
            return None
        uses = frozenset(_uses(mapping, plan))
        if uses <= self.used:
            return None
        try:
            back = plan_back(plan, target)
            carried_out(back, target)
        except (ValueError, IndexError) as refusal:
            self.refused.append(str(refusal))
            return None
        except (ConfigError, PlanError) as refusal:
            if isinstance(refusal, ConfigError | IncompleteError) or refusal.problem in _refusals(mapping, "right"):
                self.one_way |= {use: str(refusal) for use in uses if use.startswith("rule ")}
            else:
                self.failures.append(f"{mapping.name}, on the way back: {refusal}")
            return None
        return Model(mapping, config, checkpoint, options, plan, back, uses)

    def _give_up(self, refusal: Exception, spare: Set[str]) -> None:
        """Note why there is no plan: the mapping says so, or leaves were made up wrongly; or it is a failure."""
        known = isinstance(refusal, IncompleteError) or getattr(refusal, "key", None) in spare
        if isinstance(refusal, PlanError) and not known and refusal.problem not in _refusals(self.mapping, "left"):
            self.failures.append(f"{self.mapping.name}: {refusal}")
        else:
            self.refused.append(str(refusal))


def knows_bases(mapping: LayoutMapping) -> bool:
    """Whether a mapping converts models without their heads."""
    conditions = " ".join(rule.when for rule in mapping.rules)
    return "headless" in conditions or any(variant.headless is not None for variant in mapping.variants)


def carried_out(plan: Plan, source: Source) -> Source:
    """What a plan makes of a checkpoint, in memory.

    Raises:
        ValueError, IndexError: a leaf that a recipe reads has a shape that it can't take.
    """
    target = Converted(links_of(plan, source.checkpoint, None)[-1])
    for leaf in plan.to_compute:
        target.read(leaf.key)
    return Source(source.path, target, plan.target_config, None, {})


def plan_back(plan: Plan, target: Source) -> Plan:
    """The plan that undoes another one on its target, with what the receipt would say.

    Raises:
        ConfigError: the config is refused.
        PlanError: there is no plan.
    """
    assert isinstance(plan.mapping, LayoutMapping)
    back = inverse(plan.mapping)
    sizes = {one.name: plan.names[one.name] for one in back.measures if one.left is None and one.name in plan.names}
    headless = bool(plan.names.get("headless"))
    options = Options(release=plan.release, choices=plan.variant, given=sizes, headless=headless, restore=False)
    return make_plan(target, back, options=options)


def _computed(rule: Derived, at: Bindings, names: Mapping[str, Any], checkpoint: Arrays) -> np.ndarray | None:
    """What a recipe makes; None if the leaves that it needs aren't there, or have shapes that no rule gives them."""
    arguments = {name: names[value] if isinstance(value, str) else value for name, value in rule.arguments.items()}
    if rule.recipe in RECIPES:
        return np.asarray(RECIPES[rule.recipe](**arguments))
    of = [KeyTemplate.parse(text).format(at, names) for text in rule.of]
    if rule.shape is None or not all(one in checkpoint.leaves for one in of):
        return None
    shape = tuple(names[length] if isinstance(length, str) else length for length in rule.shape)
    spec = TensorSpec(shape, rule.dtype or checkpoint.spec(of[0]).dtype)
    try:
        array = np.asarray(OF_LEAVES[rule.recipe](spec, [Read(checkpoint, one) for one in of], **arguments))
    except ValueError:
        return None
    return array.astype(value_dtype(spec.dtype))


def _refusals(mapping: LayoutMapping, side: str) -> set[str]:
    """What a mapping says of the leaves that it refuses."""
    return {rule.reason for rule in mapping.rules if isinstance(rule, Refused) and rule.side == side}


def _meets(part: Part) -> Any:
    """A value with which a comparison holds."""
    if part.sign in ("<", ">"):
        return int(part.value) + (1 if part.sign == ">" else -1)
    return part.value if part.sign else not part.negated


def _plain(names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in names.items() if not callable(value)}


def _uses(mapping: LayoutMapping, plan: Plan) -> Iterator[str]:
    """What of the declarations a model uses."""
    names = plan.names
    yield from (f"rule {step.rule}" for step in plan.bound.steps)
    yield from (f"computed {leaf.recipe}" for leaf in plan.bound.derived)
    yield from (f"behind {reason}" for reason in plan.bound.left_behind.values())
    for variant in mapping.variants:
        yield f"variant {variant.name}={names[variant.name]}"
    for fact in mapping.facts:
        yield f"fact {fact.name}={names[fact.name]}"
    yield f"headless {names['headless']}"
