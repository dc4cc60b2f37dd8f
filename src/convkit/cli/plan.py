"""``convkit plan``."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from convkit.checkpoint.digests import digest_value
from convkit.cli.output import emit, say, table
from convkit.cli.planning import conversion_options, opened, planned
from convkit.files.stores import place
from convkit.plan import Source
from convkit.report.text import deviation, size


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("source", metavar="SRC", type=place, help="the checkpoint: a file or a folder")
    conversion_options(parser)


def run(args: argparse.Namespace) -> int:
    """Make a plan, and show it."""
    if args.to is None:
        from convkit.cli import migrate

        return migrate.plan(args)
    with opened(args) as source:
        described = planned(args, source).document()  # the plan itself is gone before its JSON is made
        document = described.to_json()
        del described
        document["digest"] = digest_value("sha256", document)
    if args.json:
        from convkit.verify.documents import Described, read_plan
        from convkit.verify.equivalence.need import foreseen

        emit(document | {"equivalence": foreseen(read_plan(Described, document))})
    else:
        _show(document, source)
    return 0


def _show(plan: dict[str, Any], source: Source) -> None:
    summary = plan["summary"]
    table(
        [
            ("mapping", plan["mapping"]),
            *([("config", source.config_path)] if source.config_path else []),
            ("formats", f"{plan['source']['format']} -> {plan['target']['format']}"),
            ("variant", ", ".join(f"{name}={value!r}" for name, value in plan["variant"].items()) or "-"),
            ("exactness", "exact" if plan["exact"] else "bounded"),
            ("source", _side(plan, "source", "fate", summary["bytes_read"])),
            ("target", _side(plan, "target", "origin", summary["bytes_written"])),
            ("memory", f"{size(summary['peak_bytes'])} at most"),
            ("digest", plan["digest"]),
        ]
    )
    stages = plan.get("through") or [plan]
    rules = Counter(step["rule"] for stage in stages for step in stage["steps"])
    say("")
    table([(f"{count} x", rule) for rule, count in rules.items()])
    for default in plan["defaults"]:
        say(f"default: {default['name']} = {default['value']!r} ({default['source']})")
    for declared in plan.get("deviations", []):
        say(f"deviation: {deviation(declared)}")
    for path in plan.get("unknown", []):
        say(f"unknown: {path} (not a field of the source's config class; kept in the complement)")
    for key, leaf in plan["source_leaves"].items():
        if leaf["fate"] in ("left behind", "dropped"):
            say(f"{leaf['fate']}: {key} ({leaf['reason']})")
    for key, why in plan.get("missing", {}).items():
        say(f"missing: {key} (accepted, though {why})")
    if plan["square"]:
        say(f"note: {len(plan['square'])} transposed tensors are square, so their shape can't show their orientation")
    for warning in [*plan["warnings"], *source.warnings]:
        say(f"warning: {warning}")


def _side(plan: dict[str, Any], side: str, what: str, nbytes: int) -> str:
    leaves = plan[f"{side}_leaves"].values()
    counts = Counter(leaf[what] for leaf in leaves)
    return f"{len(leaves)} leaves, {size(nbytes)}: " + ", ".join(f"{count} {word}" for word, count in counts.items())
