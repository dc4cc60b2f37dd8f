"""What the laws check of models without one of their leaves."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from convkit.errors import ConfigError, PlanError
from convkit.mapping import Verbatim
from convkit.mapping.keys import KeyTemplate
from convkit.plan import make_plan
from convkit.testing.models import Model

#: leaves of a model that are left out, each in turn
MOST = 24


def check_missing(model: Model, random: Random, most: int = MOST) -> None:
    """Leave out leaves in turn: the plan refuses, the target loses nothing, or the mapping says why it may be so.

    Args:
        model: a complete one.
        random: decides which leaves are left out.
        most: how many.

    Raises:
        AssertionError: a leaf is lost without a word.
    """
    keys = list(model.checkpoint.leaves)
    whole = dict(model.checkpoint.leaves)
    for key in random.sample(keys, min(most, len(keys))):
        model.checkpoint.leaves = {name: leaf for name, leaf in whole.items() if name != key}
        try:
            made = make_plan(model.source, model.mapping, options=replace(model.options, allow_missing=()))
        except (ConfigError, PlanError):
            continue
        finally:
            model.checkpoint.leaves = whole
        lost = model.plan.target_leaves.keys() - made.target_leaves.keys()
        if lost and not _said(model, key):
            raise AssertionError(f"{model.mapping.name}: {key} is left out, and {min(lost)} is lost without a word")


def _said(model: Model, key: str) -> bool:
    """Whether the mapping says why a model may be without the leaf."""
    mapping, names = model.mapping, model.plan.names
    forms = [fact.left for fact in mapping.facts if fact.lack]
    forms += [form for part in mapping.parts if part.side == "left" and part.lack for form in part.keys]
    # which leaves such a rule keeps, only the checkpoint's own description says
    forms += [rule.key for rule in mapping.rules if isinstance(rule, Verbatim)]
    return any(form and KeyTemplate.parse(form).match(key, names) is not None for form in forms)
