"""What a plan's steps do, in words: how axes and values change, and how far a value may move."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

#: axes that a rule leaves as they are, by the names that a plan gives them
_UNNAMED_AXIS = re.compile(r"_\d+( _\d+)*")


def steps_of(plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The steps of a plan; if the conversion goes through other layouts, those of all its mappings."""
    parts = [plan] if plan.get("steps") else plan.get("through", [])
    return (step for part in parts for step in part.get("steps", []))


def change(step: Mapping[str, Any]) -> str:
    """``(h two r) … -> (h r two) …``, and what else was done; empty for leaves moved as they are."""
    before, after = (
        ", ".join(dict.fromkeys(_UNNAMED_AXIS.sub("…", side.get("axes", "")) for side in step.get(end, [])))
        for end in ("sources", "targets")
    )
    done = [] if before == after else [f"{before} -> {after}"]
    done += [" ".join(str(value) for value in op.values()) for op in step.get("ops", [])]
    done += [f"{edge} to {step[edge]['keep']}" for edge in ("pad", "crop") if edge in step]
    return "; ".join(done)


def in_words(exactness: Any) -> str:
    """How far a value may change: ``exact``, or ``within 0.5 ulp of bfloat16``.

    >>> in_words("exact"), in_words({"ulp": 0.5, "dtype": "bfloat16"})
    ('exact', 'within 0.5 ulp of bfloat16')
    """
    if not isinstance(exactness, dict):
        return str(exactness)
    return f"within {exactness['ulp']:g} ulp of {exactness['dtype']}"
