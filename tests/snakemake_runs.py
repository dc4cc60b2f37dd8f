"""Snakemake, with what each run of the workflow imports and builds at first; for :mod:`warm`."""

from __future__ import annotations

from importlib import import_module

from snakemake.cli import get_argument_parser, main

from convkit.mappings import all_mappings

__all__ = ["main"]

for name in ("jsonschema", "smart_open", "snakemake.dag", "snakemake.executors.local", "snakemake.workflow"):
    import_module(name)
for name in ("claim", "convert", "plan"):
    import_module(f"convkit.cli.{name}")
get_argument_parser()
all_mappings()
