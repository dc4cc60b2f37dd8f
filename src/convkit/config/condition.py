"""Conditions on declared names: what ``when=`` says in a rule or in a row of a config table.

>>> holds("tied & !headless", {"tied": True, "headless": False})
True
>>> holds("hf=model.", {"hf": "model."})
True
>>> holds("activations>1", {"activations": 2})
True
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def holds(condition: str, names: Mapping[str, Any]) -> bool:
    """Whether every part of a condition holds: ``tied``, ``!tied``, ``hf=model.``, ``n>1``, ``n<2``, joined by ``&``.

    Raises:
        KeyError: a name that isn't declared.
    """
    return all(_part_holds(part.strip(), names) for part in condition.split("&")) if condition else True


def _part_holds(part: str, names: Mapping[str, Any]) -> bool:
    if "=" in part:
        name, _, value = part.partition("=")
        return str(names[name.strip()]) == value.strip()
    for sign, below in (("<", True), (">", False)):
        if sign in part:
            name, _, bound = part.partition(sign)
            return names[name.strip()] < int(bound) if below else names[name.strip()] > int(bound)
    return bool(names[part.removeprefix("!").strip()]) != part.startswith("!")
