"""What changes in a training's state from release to release, beside the names of leaves.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/base_converter.py``, which sets the step of the outermost
scheduler only, and forgets that an optimizer names its parameters.
"""

from __future__ import annotations

from convkit.config.classes import Release
from convkit.mapping import AnyRule, Restated

#: the first release that takes a scheduler's own step as the training's
_STEPS_COUNT = (2, 0)
#: texts that may be names of parameters
_NAMES = {"keys": "optimizer.{rest:*}"}


def restated(low: Release, high: Release) -> tuple[AnyRule, ...]:
    """The rules of values between two releases, from the earlier to the later one."""
    record = Restated("record", _entry(high), _entry(low))
    names = Restated("names", _NAMES, _NAMES)
    steps = Restated("steps", {} if low < _STEPS_COUNT else None, None)
    return (record, names, steps)


def _entry(release: Release) -> dict[str, dict[str, str]]:
    return {"entry": {"version": f"{'.'.join(map(str, release))}.0", "model_name": ""}}
