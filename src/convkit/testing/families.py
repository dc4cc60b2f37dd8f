"""The laws of mappings.

A law takes a mapping, an empty folder and a random generator. It makes tiny models from the mapping's own declarations
(:mod:`convkit.testing.models`) and raises AssertionError, which names the mapping, its direction and the key::

    @pytest.mark.parametrize("law", FAMILY_LAWS, ids=lambda law: law.__name__)
    def test_my_family(law, tmp_path):
        law(MAPPING, tmp_path, Random(0))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from msgspec.structs import replace

from convkit.checkpoint import Checkpoint
from convkit.config.tree import missing_from
from convkit.errors import ConfigError, PlanError
from convkit.execute import convert
from convkit.mapping import Mapping, inverse
from convkit.plan import Options, Plan, make_plan, open_source
from convkit.testing.fates import check_config, check_fields, check_rows, plainer
from convkit.testing.formats import check_bits
from convkit.testing.missing import check_missing
from convkit.testing.models import Model, Search, carried_out, plan_back
from convkit.verify.roundtrip import roundtrip

FamilyLaw = Callable[[Mapping, Path, Random], None]

#: guesses without anything new after which a search for models ends
PATIENCE = 12
#: models of each side for the laws that would be slow with all of them
FEW = 2
#: models of both sides for those that are quick
MANY = 6
#: further searches where no model that was found converts for a release
SEARCHES = 3


@dataclass(frozen=True)
class Found:
    """The models of both sides of a mapping, and what the search for them has shown."""

    models: tuple[Model, ...]
    failures: tuple[str, ...]
    unused: tuple[str, ...]
    refused: tuple[str, ...]
    #: what only models use that are refused on the way back, and the refusal
    one_way: dict[str, str]

    def covering(self) -> list[Model]:
        """A few models that use all that all of them use, beside the releases."""
        chosen: list[Model] = []
        covered: set[tuple[str, str]] = set()
        for model in sorted(self.models, key=lambda model: -len(model.uses)):
            uses = {(model.mapping.name, use) for use in model.uses if not use.startswith(("release ", "when "))}
            if not uses <= covered:
                covered |= uses
                chosen.append(model)
        return chosen

    def few(self) -> list[Model]:
        """Some models of each side."""
        sides = {model.mapping.name for model in self.models}
        return [model for side in sorted(sides) for model in self.covering() if model.mapping.name == side][:FEW]


class _Same:
    """A mapping as a key of a cache: by identity."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping

    def __hash__(self) -> int:
        return id(self.mapping)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.mapping is other.mapping


def find_models(mapping: Mapping, random: Random) -> Found:
    """Search for models of both sides: what the models of one side become is an example for the other side."""
    return _found(_Same(mapping), random.randrange(2**32))


@lru_cache(maxsize=2)
def _found(same: _Same, seed: int) -> Found:
    random, mapping = Random(seed), same.mapping
    there, back = Search(mapping, random), Search(inverse(mapping), random)
    models: list[Model] = []
    for search, other in ((there, back), (back, there), (there, back)):
        if search.unused() or not search.used:
            found = list(search.models(PATIENCE))
            other.configs += [(model.plan.target_config, model.options.release) for model in found]
            models += found
    used = {rule for rule in mapping.rules if f"rule {rule}" in there.used or f"rule {rule.inverse()}" in back.used}
    unused = [str(rule) for rule in there.unused() if rule not in used]
    one_way = {
        f"{search.mapping.name}: {use}": refusal
        for search in (there, back)
        for use, refusal in search.unsettled().items()
    }
    failures, refused = (tuple(getattr(there, name) + getattr(back, name)) for name in ("failures", "refused"))
    return Found(tuple(models), failures, tuple(unused), refused, one_way)


# --- the laws ----------------------------------------------------------------------------------------------


def is_the_inverse_of_its_inverse(mapping: Mapping, folder: Path, random: Random) -> None:
    """Reading a mapping backwards twice changes nothing."""
    assert inverse(inverse(mapping)) == mapping, f"{mapping.name}: the inverse of its inverse is another mapping"


def gives_every_leaf_a_fate(mapping: Mapping, folder: Path, random: Random) -> None:
    """The plan of every model is total: each leaf has one fate, each leaf of the target one origin."""
    found = find_models(mapping, random)
    assert not found.failures, f"{mapping.name}: {found.failures[0]}"
    assert found.models, f"{mapping.name}: no model can be made from its declarations: {found.refused[-1:]}"
    for model in found.models:
        _check_total(model, model.plan)


def uses_every_rule(mapping: Mapping, folder: Path, random: Random) -> None:
    """Every rule carries leaves of some model."""
    found = find_models(mapping, random)
    problem = f"no model can be made that uses this rule; the last guess was refused: {found.refused[-1:]}"
    assert not found.unused, f"{mapping.name}: {found.unused[0]}: {problem}"


def comes_back_bit_by_bit(mapping: Mapping, folder: Path, random: Random) -> None:
    """Every model comes back from the other side as it was: tied or not, with every prefix, headless or not."""
    found = find_models(mapping, random)
    for use, refusal in found.one_way.items():
        raise AssertionError(f"{use}: every model with it is refused on the way back: {refusal}")
    # a model that loses its head, or converts only with a warning, comes back as another one
    models = [model for model in found.covering() if not model.options.headless]
    plain = [model for model in models if not model.plan.warnings] or models
    for model in plain[:: max(1, len(plain) // MANY)]:
        _check_values(model)
    for model in plain[:: max(1, len(plain) // FEW)]:
        with TemporaryDirectory(dir=folder) as inner:
            _check_return(model, Path(inner))


def base_models_come_back(mapping: Mapping, folder: Path, random: Random) -> None:
    """A model with a head can be converted to one without, which converts back and there to the same one."""
    for model in find_models(mapping, random).covering():
        if model.options.headless or (model.knows_bases and not model.plan.names["headless"]):
            _check_base(model)


def every_release_has_a_plan(mapping: Mapping, folder: Path, random: Random) -> None:
    """For each release of the layouts there is a model that converts and whose config comes back."""
    found = find_models(mapping, random)
    for release in mapping.right.releases or mapping.left.releases:
        for side in sorted({model.mapping.name for model in found.models}):
            problem = _problem_in(found, side, release)
            for _ in range(SEARCHES):  # what only later releases have may be in all of these models
                if problem is None:
                    break
                problem = _problem_in(find_models(mapping, random), side, release)
            assert problem is None, f"{side}: release {release}: no model converts: {problem}"


def config_comes_back(mapping: Mapping, folder: Path, random: Random) -> None:
    """Each field of a config comes back, or stays behind as complement, and means the same."""
    for model in find_models(mapping, random).models:
        if not model.options.headless:  # a model that loses its head is another one when it comes back
            check_config(model, model.config)


def every_field_has_a_fate(mapping: Mapping, folder: Path, random: Random) -> None:
    """Whatever value a field of a class has: it says something and comes back, has no effect, or is refused by name."""
    check_rows(mapping)
    for model in find_models(mapping, random).few()[::FEW]:
        check_fields(model)


def each_missing_leaf_is_noticed(mapping: Mapping, folder: Path, random: Random) -> None:
    """A model without one of its leaves is refused, or the mapping says why there may be such a model."""
    for model in find_models(mapping, random).few():
        check_missing(model, random)


def sees_planted_faults(mapping: Mapping, folder: Path, random: Random) -> None:
    """The round trip of a conversion passes, and finds every fault that is planted in it."""
    for model in find_models(mapping, random).few():
        with TemporaryDirectory(dir=folder) as inner:
            _check_faults(model, Path(inner))


FAMILY_LAWS: tuple[FamilyLaw, ...] = (
    is_the_inverse_of_its_inverse,
    gives_every_leaf_a_fate,
    uses_every_rule,
    comes_back_bit_by_bit,
    base_models_come_back,
    every_release_has_a_plan,
    config_comes_back,
    every_field_has_a_fate,
    each_missing_leaf_is_noticed,
    sees_planted_faults,
)

# --- what the laws check -----------------------------------------------------------------------------------


def _check_total(model: Model, plan: Plan) -> None:
    fates, origins = plan.fates(), plan.origins()
    for key in plan.source_leaves:
        assert key in fates, f"{model.mapping.name}: {key} has no fate"
    for key in plan.target_leaves:
        assert key in origins, f"{model.mapping.name}: {key} of the target comes from nowhere"


def _converted(source: Path, target: Path, mapping: Mapping, options: Options) -> dict[str, Any]:
    with open_source(source, format=mapping.left.format) as opened:
        return convert(opened, make_plan(opened, mapping, options=options), target, threads=1)


def _check_faults(model: Model, folder: Path) -> None:
    """Check the round trip of a conversion on disk."""
    source, target = model.write(folder), folder / "target"
    receipt = _converted(source, target, model.mapping, model.options)
    verdict = roundtrip(source, target, receipt["plan"], receipt=receipt)
    assert verdict.passed, f"{model.mapping.name}: {verdict.problems[0]}"
    assert verdict.faults, f"{model.mapping.name}: no fault could be planted"


def _check_base(model: Model) -> None:
    """Convert a model to one without a head, that one back and there, and compare both."""
    mapping, options = model.mapping, replace(model.options, headless=True)
    try:
        plan = make_plan(model.source, mapping, options=options)
        _check_total(model, plan)
        base = carried_out(plan, model.source)
        again = carried_out(plan_back(plan, base), base)
        plan = make_plan(again, mapping, options=replace(options, choices=plan.variant))
        twice = carried_out(plan, again)
    except (ConfigError, PlanError) as error:
        raise AssertionError(f"{mapping.name}, without its head: {error}") from error
    _check_same(mapping, twice.checkpoint, base.checkpoint, exact=plan.exact)


def _check_same(mapping: Mapping, found: Checkpoint, expected: Checkpoint, *, exact: bool = True) -> None:
    """Compare the leaves of two checkpoints."""
    for key in sorted(found.leaves.keys() ^ expected.leaves.keys()):
        raise AssertionError(f"{mapping.name}: {key} {'is added' if key in found.leaves else 'is lost'}")
    for key, leaf in expected.leaves.items():
        assert found.leaves[key].spec == leaf.spec, f"{mapping.name}: {key} comes back as {found.leaves[key].spec}"
        if exact:
            check_bits(found.read(key), expected.read(key), f"{mapping.name}: {key}")


def _check_values(model: Model) -> None:
    """Compare a model with what comes back in memory, without a complement."""
    back = carried_out(model.plan_back, carried_out(model.plan, model.source)).checkpoint
    fates, name = model.plan.fates(), model.mapping.name
    for key, leaf in model.checkpoint.leaves.items():
        if key not in back.leaves:
            assert fates[key]["fate"] != "moved", f"{name}: {key} is lost"
        elif fates[key]["fate"] in ("moved", "tied"):
            assert back.leaves[key].spec == leaf.spec, f"{name}: {key} comes back as {back.leaves[key].spec}"
            if model.plan.exact and model.plan_back.exact:
                check_bits(back.read(key), model.checkpoint.read(key), f"{name}: {key}")


def _check_return(model: Model, folder: Path) -> None:
    """Convert a model and back, and compare what comes back with the model."""
    mapping, back, options = model.mapping, inverse(model.mapping), model.options
    try:
        source, target = model.write(folder), folder / "target"
        _converted(source, target, mapping, options)
        _converted(target, folder / "back", back, Options(release=options.release))
    except (ConfigError, PlanError) as error:
        raise AssertionError(f"{mapping.name}: a model doesn't come back: {error}") from error
    with open_source(folder / "back", format=mapping.left.format) as opened:
        _check_same(mapping, opened.checkpoint, model.checkpoint)
        config = opened.config or {}
    if lost := missing_from(config, model.config):
        raise AssertionError(f"{mapping.name}: {next(iter(lost))} of the config doesn't come back")


def _problem_in(found: Found, side: str, release: tuple[int, ...]) -> str | None:
    """Why no model of one side converts for a release, not even without what it needn't have; None if one does."""
    mine = [model for model in found.models if model.mapping.name == side]
    problems = [_problem_of(model, release) for model in mine]
    if None not in problems:
        problems += [_problem_of(plain, release) for model in mine for plain in plainer(model)]
    return None if None in problems else next(iter(problems), "no model was found")


def _problem_of(model: Model, release: tuple[int, ...]) -> str | None:
    """Why a model doesn't convert for a release; None if it does."""
    try:
        plan = make_plan(model.source, model.mapping, options=replace(model.options, release=release))
        _check_total(model, plan)
        check_config(model, model.config, release)
    except (ConfigError, PlanError, AssertionError) as error:
        return str(error)
    return None
