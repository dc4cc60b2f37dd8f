"""Which environment of ``envs/`` serves a stage of a row: the smallest one, by what its commands import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import convkit_claims as claims

#: what runs the models of a framework
_RUNS = {"hf": "torch", "cerebras": "torch", "t5x": "jax", "te": "jax", "pax": "jax"}
#: what makes generated checkpoints, of those that aren't models of transformers
_MAKES = {"t5x": "core", "pax": "core", "cerebras-old": "core", "orbax-v0": "orbax"}


def serving(stage: str, row: Mapping[str, str], known: Mapping[str, Any]) -> str:
    """The name of the environment; one with everything, where a package of somebody else decides what is needed."""
    if stage == "fetch":
        return _making(row["source"], known)
    kind = claims.kind_of(row, dict(known))
    if kind == "migration":
        return "orbax" if stage in ("convert", "equivalence") else "core"
    return (
        "core"
        if kind == "repair"
        else _running(row["to"].partition("/")[0], known)
        if stage == "equivalence"
        else "core"
    )


def _making(source: str, known: Mapping[str, Any]) -> str:
    """What brings a source."""
    parts = urlsplit(source)
    if parts.scheme.lower() != "generated":
        return "core"
    layout = known["generated"].get(parts.netloc, {}).get("layout") or ""
    return _MAKES.get(parts.netloc, "torch" if layout.startswith("hf/") else "all")


def _running(framework: str, known: Mapping[str, Any]) -> str:
    """What runs the models of a framework, and of those from which mappings lead into it."""
    pairs = [{name.partition("/")[0] for name in mapping} for mapping in known["mappings"]]
    together, before = {framework}, set()
    while together != before:
        before = set(together)
        together |= {name for pair in pairs if pair & before for name in pair}
    sides = {_RUNS.get(name, "all") for name in together}
    return sides.pop() if len(sides) == 1 else "all"
