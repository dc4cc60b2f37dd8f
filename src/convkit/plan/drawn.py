"""What a source lacks, and what is drawn for it from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from pkgutil import resolve_name

from msgspec.structs import replace

from convkit.checkpoint import Leaf
from convkit.checkpoint.drawn import Drawn
from convkit.checkpoint.wrapping import Wrapping
from convkit.errors import PlanError, UsageError
from convkit.mapping import Layout
from convkit.mapping.layout import Lacking
from convkit.plan.source import Source


def completed(wrapping: Wrapping, source: Source, layout: Layout, seed: int | None) -> Wrapping:
    """The wrapping of a source of a layout, with the tensors that are drawn for it; without a seed, as it is.

    Raises:
        UsageError: there is a seed, and the source lacks nothing that could be drawn.
    """
    if seed is None:
        return wrapping
    found = _lacking(source, layout, {wrapping.plain(key): leaf for key, leaf in source.checkpoint.leaves.items()})
    if not found:
        what = "no tensor of it can be drawn" if layout.lacking is None else "it has all tensors that could be drawn"
        raise UsageError(f"--seed {seed}: {what}", path=source.path, remedy="leave --seed out")
    drawn = tuple(Drawn(key, shape, dtype, bound, seed) for key, (shape, dtype, bound) in found.items())
    return replace(wrapping, drawn=drawn)


def or_drawn(error: PlanError, source: Source, layout: Layout) -> PlanError:
    """The error of a missing leaf; where that could be drawn, with this remedy."""
    found = _lacking(source, layout, source.checkpoint.leaves)
    if error.key not in found:
        return error
    remedy = "take the checkpoint that has it, or draw it: --seed N"
    return type(error)(error.problem, path=error.path, key=error.key, remedy=remedy)


def drawn_in_words(drawn: Sequence[Drawn]) -> str:
    """What is drawn, in one line."""
    names = f"{drawn[0].key} ... {drawn[-1].key}"
    return f"the source lacks {len(drawn)} tensors, {names}: they are drawn from seed {drawn[0].seed}"


def _lacking(source: Source, layout: Layout, leaves: dict[str, Leaf]) -> Lacking:
    if layout.lacking is None or not source.config:
        return {}
    specs = {key: leaf.spec for key, leaf in leaves.items() if leaf.spec is not None}
    found: Lacking = resolve_name(layout.lacking)(source.config, specs)
    return found
