"""Whether a checkpoint is complete: what else than its tensors says which leaves it has.

A mapping leaves some leaves open: the tensors decide whether there is a head, a bias, an optimizer's state. So an
incomplete checkpoint would pass for a smaller one. These say more, and each leaf that one of them misses is refused,
unless the user accepts that by name:

=================  ==========================================================================================
the config         a class with a head, untied embeddings, a flag of biases: ``Answer.claims`` of its table
other leaves       the rest of a head without its weight: what the rules would carry if a fact were true
the kin of a leaf  the parts of a mapping, and families of derived leaves (:mod:`convkit.plan.kin`)
the checkpoint     its own description of its leaves, such as Pax's metadata
=================  ==========================================================================================
"""

from __future__ import annotations

import fnmatch
from collections import abc
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from convkit.checkpoint import Leaf
from convkit.config.condition import Condition
from convkit.errors import ConfigError, IncompleteError, PlanError
from convkit.mapping import Fact, LeftBehind, Mapping, Rule
from convkit.mapping.keys import KeyTemplate
from convkit.plan.kin import missing_kin
from convkit.plan.match import MissingError, Placeholders, match
from convkit.plan.names import Known, Names

#: names known under other facts, and with or without a head: as :func:`convkit.plan.names.know` finds them
Supposed = Callable[[abc.Mapping[str, bool], bool], Known]
#: leaves that aren't there, and why they ought to be
Missing = dict[str, str]


class Evidence(Struct, frozen=True):
    """What shows which leaves a checkpoint has.

    Attributes:
        mapping: read from its left side.
        leaves: those that are there and that the user doesn't drop.
        described: those that the checkpoint's own description lists.
        suppose: what would be known under other facts.
    """

    mapping: Mapping
    leaves: abc.Mapping[str, Leaf]
    described: frozenset[str]
    suppose: Supposed


def given_up(
    evidence: Evidence, *, headless: bool, dropped: abc.Collection[str], allowed: Iterable[str]
) -> dict[str, str]:
    """The leaves that aren't there, as the user accepts, and why they ought to be: for the plan.

    Args:
        evidence: what shows which leaves there ought to be.
        headless: whether the user asks for a model without its head.
        dropped: leaves that the user drops.
        allowed: names and patterns of leaves that may be missing.

    Raises:
        IncompleteError: a leaf is missing that the user doesn't accept.
    """
    missing = _missing(evidence, headless=headless)
    accepted = _missing(evidence, headless=False) if headless else {}
    patterns = tuple(allowed)
    refused: Missing = {}
    for key, why in missing.items():
        if key in dropped or any(key == one or fnmatch.fnmatchcase(key, one) for one in patterns):
            accepted[key] = why
        else:
            refused[key] = why
    if refused:
        raise _refusal(evidence, refused, headless=headless)
    return {key: why for key, why in accepted.items() if key not in dropped}


def _refusal(evidence: Evidence, refused: Missing, *, headless: bool) -> IncompleteError:
    (first, why), *others = refused.items()
    more = f", as are {len(others)} more: {', '.join(key for key, _ in others[:5])}" if others else ""
    remedies = ["complete the checkpoint"]
    if not headless and not refused.keys() & _missing(evidence, headless=True).keys():
        tie = "tie_word_embeddings" in why or "share_embedding_weights" in why
        remedies += ["tie the embeddings in the config"] if tie else []
        remedies += ["convert the model without its head: --headless"]
    remedies.append(f"accept that it is missing: --allow-missing '{first}'{' ...' if others else ''}")
    return IncompleteError(
        f"is missing{more}{',' if others else ''} though {why}", key=first, remedy="; or ".join(remedies)
    )


def _missing(evidence: Evidence, *, headless: bool) -> Missing:
    """The leaves that aren't there though something says that they must be."""
    known = evidence.suppose({}, headless)
    found: Missing = {}
    for key, why in (*_claimed(evidence, known, headless=headless), *_begun(evidence, known, headless=headless)):
        found.setdefault(key, why)
    for kin in missing_kin(evidence.mapping, evidence.leaves.keys(), known.names):
        found.setdefault(kin.key, kin.why)
    for key in _described(evidence, known.names):
        found.setdefault(key, "the checkpoint's own description lists it")
    return found


def _claimed(evidence: Evidence, known: Known, *, headless: bool) -> Iterator[tuple[str, str]]:
    """Yield the leaves that the config claims, as if all the facts that it claims were true."""
    claims, names = known.converted.claims, known.names
    facts = {fact.name: fact for fact in evidence.mapping.facts}
    claimed = [facts[name] for name in claims if name in facts]
    for name, words in claims.items():
        if name not in facts and name not in evidence.leaves:
            yield name, f"the config says {words}"
    if claimed:
        supposed = _supposed(evidence, claimed, headless=headless)
        rules = _only_under(evidence.mapping, supposed.names, names) if supposed else []
        keys = _absent(rules, evidence, supposed.names) if supposed else []
        decided = {part.name for rule in evidence.mapping.rules for part in Condition.parse(rule.when).parts}
        keys += [_example(fact, names) for fact in claimed if supposed is None or fact.name not in decided]
        words = " and ".join(dict.fromkeys(claims[fact.name] for fact in claimed))
        yield from ((key, f"the config says {words}") for key in keys)


def _begun(evidence: Evidence, known: Known, *, headless: bool) -> Iterator[tuple[str, str]]:
    """Yield the leaves that would be carried if a fact were true, where others are there that would be so, too."""
    carried: set[str] | None = None
    for fact in evidence.mapping.facts:
        if fact.left and not known.names.get(fact.name):
            supposed = _supposed(evidence, [fact], headless=headless)
            if supposed is None:
                continue
            rules = _only_under(evidence.mapping, supposed.names, known.names)
            mine = [key for rule in rules for key in _matched(rule, evidence, supposed.names)]
            if fact.name in known.converted.denied:
                unused = _left_behind(evidence, known.names)
                mine = [key for key in mine if key not in unused]
            if mine and carried is None:
                carried = {
                    key
                    for rule in _rules(evidence.mapping, known.names)
                    for key in _matched(rule, evidence, known.names)
                }
            if there := next((key for key in mine if key not in (carried or ())), None):
                for key in _absent(rules, evidence, supposed.names):
                    yield key, f"{there} is there"


def _supposed(evidence: Evidence, facts: Iterable[Fact], *, headless: bool) -> Known | None:
    """What would be known if facts were true; None if the config contradicts them."""
    try:
        return evidence.suppose({fact.name: True for fact in facts}, headless)
    except (ConfigError, PlanError):
        return None


def _rules(mapping: Mapping, names: Names) -> list[Rule]:
    """The rules that carry leaves under these names."""
    return [rule for rule in mapping.rules if isinstance(rule, Rule) and Condition.parse(rule.when).holds(names)]


def _only_under(mapping: Mapping, names: Names, others: Names) -> list[Rule]:
    """The rules that need leaves under these names and not under others."""
    return [
        rule for rule in _rules(mapping, names) if not rule.optional and not Condition.parse(rule.when).holds(others)
    ]


def _matched(rule: Rule, evidence: Evidence, names: Names) -> Iterator[str]:
    for text in rule.left + rule.left_copies:
        yield from (key for key, _ in KeyTemplate.parse(text).matching(evidence.leaves.keys(), names))


def _left_behind(evidence: Evidence, names: Names) -> set[str]:
    """The leaves that stay behind under these names."""
    rules = [rule for rule in evidence.mapping.rules if isinstance(rule, LeftBehind) and rule.side == "left"]
    forms = [KeyTemplate.parse(rule.key) for rule in rules if Condition.parse(rule.when).holds(names)]
    return {key for form in forms for key, _ in form.matching(evidence.leaves.keys(), names)}


def _absent(rules: Iterable[Rule], evidence: Evidence, names: Names) -> list[str]:
    """The leaves that rules need and that aren't there."""
    found: dict[str, None] = {}
    for rule in rules:
        try:
            match(rule, Placeholders(rule, evidence.mapping.axes, names), evidence.leaves, names)
        except MissingError as error:
            found |= dict.fromkeys(error.keys or (KeyTemplate.parse(rule.left[0]).text,))
    return list(found)


def _example(fact: Fact, names: Names) -> str:
    """A leaf that would show a fact."""
    form = KeyTemplate.parse(fact.left)
    return form.format({name: one.choices[0] if one.choices else 0 for name, one in form.bound.items()}, names)


def _described(evidence: Evidence, names: Names) -> Iterator[str]:
    """Yield the leaves that the checkpoint's description lists and that aren't there.

    A description that another layout's leaves are described by is an older one, which its converter has copied.
    """
    lost = evidence.described - evidence.leaves.keys()
    forms = [KeyTemplate.parse(text) for text in evidence.mapping.left.keys]
    if lost and all(any(form.matching(evidence.described, {})) for form in forms):
        yield from sorted(lost)
