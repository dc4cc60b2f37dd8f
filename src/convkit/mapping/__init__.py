"""The notation of mappings: rules between two layouts, declared once and used in both directions."""

from convkit.mapping.algebra import Chain, Mapping, compose, for_slots, inverse, under
from convkit.mapping.components import Component, pack
from convkit.mapping.layout import Fact, Layout, Measure, Variant
from convkit.mapping.parts import Part
from convkit.mapping.rescaling import ASKED, Rescaling
from convkit.mapping.rules import AnyRule, Derived, Folded, LeftBehind, Refused, Restated, Rule, Verbatim
from convkit.mapping.upgrades import Upgrades, at_release, name_at, split_name

__all__ = [
    "ASKED",
    "AnyRule",
    "Chain",
    "Component",
    "Derived",
    "Fact",
    "Folded",
    "Layout",
    "LeftBehind",
    "Mapping",
    "Measure",
    "Part",
    "Refused",
    "Rescaling",
    "Restated",
    "Rule",
    "Upgrades",
    "Variant",
    "Verbatim",
    "at_release",
    "compose",
    "for_slots",
    "inverse",
    "name_at",
    "pack",
    "split_name",
    "under",
]
