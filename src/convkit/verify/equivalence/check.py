"""Check whether two checkpoints are the same model: run both on the same input, a stage at a time.

Each side runs through an oracle that reads its layout and shares no code with any mapping. What each stage of the
target gives must agree with what the source's gives, on the same input; so the models are the same function. Then the
same comparison is made with faults planted in the target, to show that it can fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from convkit.oracles.devices import use_threads
from convkit.verify.equivalence.beyond import Beyond, compare_rows, look_beyond
from convkit.verify.equivalence.both import Asked, compared
from convkit.verify.equivalence.journal import Journal
from convkit.verify.equivalence.judging import REMEDY, judge
from convkit.verify.equivalence.recorded import hold
from convkit.verify.equivalence.walk import Choices, Steps, Walk
from convkit.verify.judged import Check
from convkit.verify.verdict import Verdict

#: how the name of the journal ends, beside the target
_JOURNAL = ".equivalence-journal"


def equivalence(
    source: Path,
    target: Path,
    *,
    threads: int | None = None,
    choices: Choices | None = None,
    steps: Steps | None = None,
    recorded: Mapping[str, Path] | None = None,
    **asked: Unpack[Asked],
) -> Verdict:
    """Run both checkpoints in float32 on the same input and compare, a stage at a time.

    What is ``asked`` (:class:`~convkit.verify.equivalence.both.Asked`) says how the two are opened.
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
    with compared(source, target, **asked) as both:
        held = hold(both.sides.named, recorded or {}, steps)
        paths = [str(path.resolve()) for path in (source, target)]
        question = {"paths": paths, **both.question(choices)}
        journal = Journal(target.with_name(target.name + _JOURNAL), question, both.sides.named)
        walk = Walk(both.models, both.inputs, choices, journal.resume(both.models.lanes), steps=steps)
        for _ in walk.run():
            journal.keep(walk.record, both.models.lanes)
        journal.remove()
        beyond = Beyond()
        look_beyond(both.models, walk.record, asked.get("probe_length"), beyond)
        compare_rows(both.models, walk.rows, beyond)
        return judge(check, both.sides, walk, probe=both.probe, held=held, beyond=beyond)
