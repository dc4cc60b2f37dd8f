"""Snakemake, with what each run of the workflow imports and builds at first; for :mod:`warm`."""

from __future__ import annotations

from importlib import import_module

from snakemake.cli import get_argument_parser, main

from convkit.formats import get_format, names
from convkit.mappings import all_mappings

__all__ = ["main"]

for name in ("jsonschema", "nbformat", "smart_open"):
    import_module(name)
for name in ("dag", "executors.local", "workflow"):
    import_module(f"snakemake.{name}")
for name in ("convert", "plan", "report"):
    import_module(f"convkit.cli.{name}")
for name in names():
    get_format(name)
get_argument_parser()
all_mappings()
