"""Check whether two checkpoints are the same model: run both on the same input, a stage at a time.

Each side runs through an oracle that reads its layout and shares no code with any mapping. What each stage of the
target gives must agree with what the source's gives, on the same input; so the models are the same function. Then the
same comparison is made with faults planted in the target, to show that it can fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from msgspec import structs

from convkit.oracles.devices import use_threads
from convkit.verify.equivalence.beyond import look_beyond
from convkit.verify.equivalence.journal import Journal
from convkit.verify.equivalence.judging import REMEDY, judge
from convkit.verify.equivalence.lanes import Inputs, Models
from convkit.verify.equivalence.models import inputs_of, models_of
from convkit.verify.equivalence.probe import SEED
from convkit.verify.equivalence.recorded import hold
from convkit.verify.equivalence.sides import Sides, opened
from convkit.verify.equivalence.walk import Choices, Steps, Walk
from convkit.verify.judged import Check
from convkit.verify.verdict import Verdict


def equivalence(
    source: Path,
    target: Path,
    *,
    from_layout: str | None = None,
    to_layout: str | None = None,
    source_config: Path | None = None,
    target_config: Path | None = None,
    source_format: str | None = None,
    probe_length: int | None = None,
    seed: int = SEED,
    threads: int | None = None,
    device: str = "cpu",
    choices: Choices | None = None,
    steps: Steps | None = None,
    recorded: Mapping[str, Path] | None = None,
) -> Verdict:
    """Run both checkpoints in float32 on the same input and compare, a stage at a time.

    Layouts and formats are taken from the arguments, otherwise from the receipt beside ``target``, otherwise detected.
    Models that compute long inputs in another way (longrope) are compared on a short input too. The source's tensors
    may correct the bias flags in its config, as they do in a conversion; the target's config is
    trusted. If the receipt says that a cast was requested, or one side stores scales of norms minus one, the source is
    rounded in the same way, and ``measured["cast_max_rel"]`` is the error of the rounding itself. If the receipt
    declares deviations, the models are compared under them, ``measured["deviation_max_rel"]`` is how far they are apart
    as they are, and the verdict's ``deviations`` give the size of each (:mod:`.deviations`). Logits that a framework
    ``recorded`` for its own checkpoint, by the side's name, show whether that side's oracle is right
    (:mod:`.recorded`).

    ``measured`` gives the worst figures, ``stages`` those of each stage, ``faults`` the planted faults, and
    ``details["parted"]`` where the models first differ.

    Raises:
        ConvkitError: a side can't be read, has a layout that no oracle runs, or contradicts its config.
        UsageError: a probe of fewer than two positions, or no such device.
    """
    check = Check("equivalence", source, target, remedy=REMEDY)
    choices = choices or Choices()
    use_threads(threads)
    with opened(
        source,
        target,
        from_layout=from_layout,
        to_layout=to_layout,
        source_config=source_config,
        target_config=target_config,
        source_format=source_format,
        device=device,
    ) as sides:
        held = hold(sides.named, recorded or {}, steps)
        inputs = inputs_of(sides, probe_length, seed)
        models = models_of(sides, inputs)
        journal = Journal(target, _question(sides, inputs, choices), sides.named)
        walk = Walk(models, inputs, choices, journal.resume(models.lanes), steps)
        for _ in walk.run():
            journal.keep(walk.record, models.lanes)
        journal.remove()
        beyond = look_beyond(models, walk.record, walk.rows, probe_length)
        probe = _probe(models, seed)
        return judge(check, sides, walk, probe=probe, held=held, beyond=beyond)


def _probe(models: Models, seed: int) -> dict[str, Any]:
    """What the input was: its positions, and of a model of images their channels, height and width."""
    image = models.source.oracle.facts.image
    return {"positions": models.lengths[0], "seed": seed} | ({"image": list(image)} if image else {})


def _question(sides: Sides, inputs: Sequence[Inputs], choices: Choices) -> dict[str, Any]:
    """All that decides what a walk computes, apart from the tensors."""
    described = {
        name: {"path": str(side.path.resolve()), "layout": side.layout, "config": side.fields, "dtypes": side.dtypes}
        for name, side in sides.named.items()
    }
    given = [{name: value.tolist() for name, value in one.items()} for one in inputs]
    deviations = [structs.asdict(one) for one in sides.basis.taken]
    devices = {name: side.tensors.device for name, side in sides.named.items()}
    asked = {"inputs": given, "choices": asdict(choices), "devices": devices}
    return {**described, "deviations": deviations, **asked}
