"""Open the two checkpoints of a check, as the receipt beside the target describes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convkit.checkpoint.wrapping import PLAIN
from convkit.files.receipt import CONVERSION, read_receipt
from convkit.oracles.cerebras.releases import split_layout
from convkit.oracles.opening import Opened, open_model
from convkit.verify.configs import other_config
from convkit.verify.documents import Described, Side, read_plan
from convkit.verify.equivalence.deviations import Basis, basis_of
from convkit.verify.equivalence.recorded_digests import algorithm_of


@dataclass(frozen=True)
class Sides:
    """Source and target, open.

    Attributes:
        ours: the source.
        theirs: the target.
        basis: the models to compare, under the deviations that the receipt declares.
        receipt: of the conversion; None where another program made the target.
        cast: whether the conversion was to cast.
        headless: whether it was to leave a head behind.
        planned: the dtype that the plan gives to each tensor of the target.
        reconfigured: where the target's config isn't what the receipt records, and leaves that the source lacked.
    """

    ours: Opened
    theirs: Opened
    basis: Basis
    receipt: dict[str, Any] | None
    cast: bool
    headless: bool
    planned: Mapping[str, str]
    reconfigured: tuple[str, ...]

    @property
    def named(self) -> dict[str, Opened]:
        """Both, by name."""
        return {"source": self.ours, "target": self.theirs}


def _lacking(plan: Described) -> list[str]:
    """What the source lacked, a line each."""
    drawn = [f"the source has no {one.key}: the target is compared with what is drawn from seed {one.seed}"
             for one in plan.source.wrapped.drawn or ()]  # fmt: skip
    return [*(f"the source has no {key}, though {why}: accepted" for key, why in plan.missing.items()), *drawn]


def _layout(said: str | None, recorded: Side | None) -> str | None:
    """The layout of a side: what is said, with the release that the receipt records of it."""
    known = recorded.layout if recorded else None
    return known if known and said in (None, split_layout(known)[0]) else said


@contextmanager
def opened(
    source: Path,
    target: Path,
    *,
    from_layout: str | None,
    to_layout: str | None,
    source_config: Path | None,
    target_config: Path | None,
    source_format: str | None,
    device: str,
) -> Iterator[Sides]:
    """Open both. What is None comes from the receipt beside ``target``, otherwise it is detected.

    Raises:
        ConvkitError: a side can't be read, has a layout that no oracle runs, or contradicts its config.
        UsageError: there is no such device.
    """
    receipt = read_receipt(target, CONVERSION)
    plan = read_plan(Described, receipt["plan"], target) if receipt else None
    algorithm = algorithm_of(receipt)
    with (
        open_model(
            source,
            layout=_layout(from_layout, plan.source if plan else None),
            config=source_config,
            format=source_format or (plan.source.format if plan else None),
            lenient=True,
            without={key for key, leaf in (plan.source_leaves if plan else {}).items() if leaf.fate == "dropped"},
            wrapping=plan.source.wrapped if plan else PLAIN,
            algorithm=algorithm,
            device=device,
        ) as ours,
        open_model(
            target,
            layout=_layout(to_layout, plan.target if plan else None),
            config=target_config,
            algorithm=algorithm,
            device=device,
        ) as theirs,
    ):
        basis = basis_of(ours, theirs, receipt, plan, target_config)
        headless = bool(plan and plan.names.get("headless"))
        yield Sides(
            ours,
            theirs,
            basis,
            receipt,
            cast=bool(plan and plan.dtype),
            headless=headless,
            planned={key: leaf.dtype for key, leaf in (plan.target_leaves if plan else {}).items() if leaf.dtype},
            reconfigured=(*other_config(target, plan.target, target_config), *_lacking(plan)) if plan else (),
        )
