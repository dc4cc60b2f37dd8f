"""``convkit diff`` compares structure and values of two checkpoints, whatever their formats.

Both are streamed in blocks, so memory doesn't grow with their size. Bits are compared first; only elements whose bits
differ are compared as numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convkit.checkpoint import Checkpoint, Leaf, Opaque, TensorSpec, UnknownObject
from convkit.checkpoint.progress import Meter, Progress, unmeasured
from convkit.formats import OTHERS, open_checkpoint
from convkit.verify.blocks import spans
from convkit.verify.judged import Check
from convkit.verify.ulps import Tally
from convkit.verify.verdict import Verdict

#: Elements compared at a time: with a dozen temporaries of eight bytes an element that is far below 128 MiB.
BLOCK = 1 << 18

#: Keys that a message names before it counts the rest.
_SHOWN = 3


@dataclass
class Difference:
    """A leaf that both checkpoints have and that differs."""

    key: str
    #: its description on each side, if these differ
    kinds: tuple[str, str] | None = None
    tally: Tally | None = None


@dataclass
class Findings:
    """What the comparison has found."""

    close: tuple[float, float] | None = None
    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    #: over all common leaves of a dtype, by dtype
    tallies: dict[str, Tally] = field(default_factory=dict)
    #: over common leaves whose dtypes disagree
    mixed: Tally = field(default_factory=lambda: Tally("", ""))


def diff(
    a: Path,
    b: Path,
    *,
    a_format: str | None = None,
    b_format: str | None = None,
    close: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Compare two checkpoints. They pass if they have the same leaves with the same shapes, dtypes and bits.

    With ``close``, two elements may differ by as much as its first number times the second element's absolute value,
    and its second number beside that.

    ``measured`` counts the leaves that only one has and the leaves that differ. Over all common tensors it gives the
    number of elements that differ, their largest absolute difference, their largest relative difference (to the
    larger of the two), and their largest distance in ulps. ``details`` lists the keys and the leaves that differ, with
    a histogram of ulps for each dtype. ``progress`` is called with the bytes read so far, of both, and in all.

    Raises:
        ConvkitError: one of them can't be read.
    """
    check = Check("diff", a, b)
    with open_checkpoint(a, a_format) as ours, open_checkpoint(b, b_format) as theirs:
        for checkpoint in (ours, theirs):
            checkpoint.check_sums()
        only_a = [key for key in ours.leaves if key not in theirs.leaves]
        only_b = [key for key in theirs.leaves if key not in ours.leaves]
        findings = Findings(close=close)
        common = [key for key in ours.leaves if key in theirs.leaves]
        pairs = (_elements(ours.leaves[key], theirs.leaves[key]) for key in common)
        advance = Meter(sum(spec.nbytes for pair in pairs for spec in pair), progress)
        for key in common:
            _compare_leaf(key, ours, theirs, findings, advance)
        formats = {"source": ours.format, "target": theirs.format}
    total = Tally.of([*findings.tallies.values(), findings.mixed])
    measured: dict[str, Any] = {
        "only_in_source": len(only_a),
        "only_in_target": len(only_b),
        "differing_leaves": len(findings.differences),
        **total.to_json(),
    }
    bound = {"only_in_source": 0, "only_in_target": 0, "differing_leaves": 0}
    return check.judged(
        _problems(only_a, only_b, findings.differences),
        measured=measured,
        bound=bound,
        plugins=[OTHERS.plugin(name) for name in formats.values()],
        details={
            "formats": formats,
            "compared_leaves": findings.compared,
            "only_in_source": only_a,
            "only_in_target": only_b,
            "prefix": _prefix(only_a, only_b),
            "leaves": [_describe(difference) for difference in findings.differences],
            "ulps": {dtype: tally.histogram() for dtype, tally in findings.tallies.items() if tally.elements},
        },
    )


def _elements(one: Leaf, other: Leaf) -> tuple[TensorSpec, ...]:
    """The tensors of two leaves if their elements can be compared; else none."""
    return (one.spec, other.spec) if one.spec and other.spec and one.spec.shape == other.spec.shape else ()


def _compare_leaf(key: str, ours: Checkpoint, theirs: Checkpoint, findings: Findings, advance: Meter) -> None:
    findings.compared += 1
    a, b = ours.leaves[key], theirs.leaves[key]
    kinds = (_kind(a), _kind(b))
    unread = isinstance(a.value, UnknownObject)  # equal kinds don't show that the contents are equal
    difference = Difference(key, kinds if kinds[0] != kinds[1] or unread else None)
    if specs := _elements(a, b):
        one, other = specs
        difference.tally = tally = distance(key, ours, theirs, findings.close, advance)
        agree = one.dtype == other.dtype
        total = findings.tallies.setdefault(one.dtype, Tally("", "")) if agree else findings.mixed
        total.merge(tally)
    if difference.kinds or (difference.tally and difference.tally.apart):
        findings.differences.append(difference)


def distance(
    key: str,
    ours: Checkpoint,
    theirs: Checkpoint,
    close: tuple[float, float] | None = None,
    advance: Callable[[int], object] = unmeasured,
) -> Tally:
    """How far two tensors of one shape and name are apart, read block by block.

    Raises:
        ConvkitError: one of them can't be read.
    """
    one, other = (side.leaves[key].spec for side in (ours, theirs))
    assert one is not None
    assert other is not None
    tally = Tally(one.dtype, other.dtype, close)
    for start, stop in spans(one.size, BLOCK):
        tally.add(ours.read(key, start, stop), theirs.read(key, start, stop))
        advance((stop - start) * (one.itemsize + other.itemsize))
    return tally


def _kind(leaf: Leaf) -> str:
    """Describe a leaf, without a tensor's elements. Values that aren't tensors are equal if this is equal."""
    if leaf.spec is not None:
        return f"{leaf.spec.dtype} {list(leaf.spec.shape)}"
    if isinstance(leaf.value, Opaque):
        return f"{leaf.value.kind}, {len(leaf.value.data)} bytes {leaf.value.data[:16].hex()}"
    if isinstance(leaf.value, UnknownObject):
        return f"{leaf.value.kind}, whose content isn't read"
    return f"{type(leaf.value).__name__} {leaf.value!r}"


def _describe(difference: Difference) -> dict[str, Any]:
    described: dict[str, Any] = {"key": difference.key}
    if difference.kinds:
        described |= {"source": difference.kinds[0], "target": difference.kinds[1]}
    if difference.tally:
        described |= difference.tally.to_json() | {"first": difference.tally.first}
    return described


def _prefix(only_a: Sequence[str], only_b: Sequence[str]) -> dict[str, str] | None:
    """Find a prefix that one side puts before all keys of the other: the side and the prefix; None if neither does."""
    for side, longer, shorter in (("source", only_a, only_b), ("target", only_b, only_a)):
        if len(longer) == len(shorter) and shorter and longer[0].endswith(tail := shorter[0]):
            prefix = longer[0][: -len(tail)]
            if {prefix + key for key in shorter} == set(longer):
                return {"side": side, "prefix": prefix}
    return None


def _problems(only_a: Sequence[str], only_b: Sequence[str], differences: Sequence[Difference]) -> Iterator[str]:
    for side, keys in (("source", only_a), ("target", only_b)):
        if keys:
            yield f"only the {side} has {_some(keys)}"
    kinds = [f"{d.key} ({d.kinds[0]}, {d.kinds[1]})" for d in differences if d.kinds and d.kinds[0] != d.kinds[1]]
    if kinds:
        yield f"of different kinds: {_some(kinds)}"
    unread = [f"{d.key} ({d.kinds[0]})" for d in differences if d.kinds and d.kinds[0] == d.kinds[1]]
    if unread:
        yield f"can't be compared: {_some(unread)}"
    bits = [d.key for d in differences if not d.kinds]
    if bits:
        yield f"of different elements: {_some(bits)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
