"""Find leaves in the source, and make leaves for the target, that are computed from the config or other leaves."""

from __future__ import annotations

import itertools
from collections import abc
from collections.abc import Iterable, Iterator

from convkit.checkpoint import Leaf, TensorSpec
from convkit.config.condition import Condition
from convkit.mapping import (
    Derived,
    Mapping,
)
from convkit.mapping.keys import Bindings, KeyTemplate
from convkit.plan.names import Names
from convkit.plan.step import DerivedLeaf


def recorded_derived(mapping: Mapping, keys: Iterable[str], names: Names) -> list[DerivedLeaf]:
    """Derived leaves of the right side that an earlier conversion's receipt says were there."""
    wanted = {key: Leaf(key, TensorSpec((), "bool")) for key in keys}
    found = []
    for rule in mapping.rules:
        if isinstance(rule, Derived) and rule.side == "right" and Condition.parse(rule.when).holds(names):
            found += [leaf for _, leaf in found_derived(rule, wanted, names)]
    return found


def made_derived(mapping: Mapping, leaves: abc.Mapping[str, TensorSpec], names: Names) -> list[DerivedLeaf]:
    """List the derived leaves of the right side to make beside the ``leaves`` that they are computed from."""
    found = []
    for rule in mapping.rules:
        if (
            isinstance(rule, Derived)
            and rule.side == "right"
            and rule.shape is not None
            and Condition.parse(rule.when).holds(names)
        ):
            template, beside = KeyTemplate.parse(rule.key), KeyTemplate.parse(rule.of[0])
            own = {name: field.choices for name, field in template.axes.items() if name not in beside.axes}
            shape = tuple(names[length] if isinstance(length, str) else length for length in rule.shape)
            for key, bound in beside.matching(leaves, names):
                for choices in itertools.product(*own.values()):
                    at = bound | dict(zip(own, choices, strict=True))
                    made = TensorSpec(shape, rule.dtype or leaves[key].dtype)
                    found.append(_derived_leaf(rule, template.format(at, names), made, at, names))
    return found


def found_derived(rule: Derived, leaves: abc.Mapping[str, Leaf], names: Names) -> Iterator[tuple[Leaf, DerivedLeaf]]:
    """Yield the leaves that a rule derives, as they are stored and as its recipe describes them."""
    template = KeyTemplate.parse(rule.key)
    for key, bound in template.matching(leaves, names):
        if (leaf := leaves[key]).spec is not None:
            yield leaf, _derived_leaf(rule, key, leaf.spec, bound, names)


def _derived_leaf(rule: Derived, key: str, spec: TensorSpec, at: Bindings, names: Names) -> DerivedLeaf:
    arguments = {name: names[value] if isinstance(value, str) else value for name, value in rule.arguments.items()}
    of = tuple(KeyTemplate.parse(text).format(at, names) for text in rule.of)
    return DerivedLeaf(key, spec, rule.recipe, arguments, of, rule.proven)
