"""All cases, by the modules that have them."""

from __future__ import annotations

from importlib import import_module

from benchmarks.case import Case

#: in the order in which they run; the cases of a module share a folder
MODULES = (
    "start",
    "copies",
    "arrays",
    "orbax",
    "peers",
    "curves",
    "equivalence",
    "huge",
    "campaign",
    "corpora",
    "slurm",
    "stores",
)


def cases() -> dict[str, list[Case]]:
    """The cases of each module."""
    return {name: [*import_module(f"benchmarks.{name}").CASES] for name in MODULES}
