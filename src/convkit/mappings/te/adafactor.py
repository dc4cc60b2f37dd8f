"""Adafactor's slots for kernels that T5X and TE fuse differently.

Facts: T5X dddbfca, ``adafactor.py``. Each parameter has ``m``, ``v``, ``v_row`` and ``v_col`` under its own path;
unused ones are ``[1]`` of zeros. A matrix is factored if both sides are long enough: ``v_row`` then has its shorter
side (the first of equal ones), ``v_col`` the other. Parameters that are stacked on an axis (``stack``) are factored
separately, with that axis as a batch axis: ``embed`` gives the rows, the other axes the columns.

So TE's joined axis is treated like T5X's own stacks, which is exact: every part keeps its statistics. If T5X's rows
aren't ``embed``, rows and columns swap names; they are symmetric, since both have the same mean::

    T5X  n kernels [e, h]    v_row [e], v_col [h]  where e <= h, else v_row [h], v_col [e]
    TE   one kernel [e,n,h]  v_row [e, n], v_col [n, h]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from convkit.config import Answer, Coupled
from convkit.mapping import AnyRule, Derived, Fact, Measure, Rule
from convkit.mappings.te.common import both_sides, where

STATE = "state.param_states."
SAME = "... -> ..."
#: side of a kernel other than ``e`` (embed) -> the declared name of its length, in attention and in the MLP
LENGTHS = {"h": "joined", "f": "mlp"}


def slots(rules: Iterable[AnyRule], when: str) -> tuple[AnyRule, ...]:
    """The rules for Adafactor's slots, made from those for the parameters."""
    found: list[AnyRule] = []
    for rule in where(when, [rule for rule in rules if isinstance(rule, Rule)]):
        if rule.pattern == (("", SAME),):
            found.append(_of(rule, "{slot:m?|v?|v_row?|v_col?}", "{slot:m?|v?|v_row?|v_col?}"))
        else:
            found += _joined(rule)
    return tuple(found)


def _joined(rule: Rule) -> Iterator[AnyRule]:
    """The rules for kernels that TE fuses: ``x`` is their other side, ``full_x`` means that they aren't factored."""
    x = next(axis for axis in LENGTHS if axis in rule.pattern[0][1].split())
    yield from where("momentum", [_of(rule, "m", "m")])
    yield from where(f"full_{x}", [_of(rule, "v", "v")])
    yield from where(f"!full_{x} & rows_{x}=e", [_of(rule, "v_row", "v_row", x), _of(rule, "v_col", "v_col", "e")])
    yield from where(f"!full_{x} & rows_{x}={x}", [_of(rule, "v_row", "v_col", "e"), _of(rule, "v_col", "v_row", x)])
    for slot, when in (("m", "!momentum"), ("v", f"!full_{x}"), ("{slot:v_row|v_col}", f"full_{x}")):
        yield from _unused(rule, slot, " & ".join(filter(None, (rule.when, "adafactor", when))))


def _of(rule: Rule, left: str, right: str, without: str = "") -> Rule:
    """The rule for a slot of a rule's leaves that lacks one side of the kernel."""
    ((_, pattern),) = rule.pattern
    kept = " ".join(axis for axis in pattern.split() if axis != without)
    return rule.changed(
        left=(f"{STATE}{rule.left[0]}.{left}",), right=(f"{STATE}{rule.right[0]}.{right}",), pattern=kept, optional=True
    )


def _unused(rule: Rule, slot: str, when: str) -> Iterator[AnyRule]:
    for (leaf,), n in ((rule.left, 0), (rule.right, 1)):
        unused = Derived(
            "left", f"{STATE}{leaf}.{slot}", "filled", {"value": 0.0}, (f"target.{leaf}",), (1,), "float32", when
        )
        yield both_sides(unused)[n]


STACK = "{s:encoder|decoder}.layers_{i}."
WI, WO = "mlp.{w:wi_0.kernel|wi.kernel|wi_kernel}", "mlp.{w:wo.kernel|wo_kernel}"
QUERY = "{a:attention|self_attention}.{n:query|qkv}.kernel"
FACT = Fact("adafactor", *[f"{STATE}{STACK}{WO}.v_row"] * 2)
#: present if a slot has both sides of the kernel
MEASURES = tuple(
    Measure(name, *[(f"{STATE}{STACK}{leaf}", -2)] * 2)
    for name, leaf in (("v_h", f"{QUERY}.v"), ("v_f", f"{WI}.v"), ("momentum_rows", f"{WO}.m"))
)


def _kinds(_: dict[str, Any], names: dict[str, Any]) -> Answer:
    kinds: dict[str, Any] = {"momentum": "momentum_rows" in names}
    for x, length in LENGTHS.items():
        kinds |= {
            f"full_{x}": f"v_{x}" in names,
            f"rows_{x}": "e" if names.get("embed", 0) <= names.get(length, 0) else x,
        }
    return Answer(names=kinds)


KINDS = Coupled((), (), _kinds, _kinds)
