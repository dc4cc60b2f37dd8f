"""Schedules of the learning rate: until 2.2 in ``optimizer.learning_rate``, since 2.3 objects of a class each.

Facts: ModelZoo 2.10.0, ``trainer/utils.py``; the schedulers of cerebras.pytorch 2.0 ... 2.10.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from convkit.config.values import NUMBER, KindError, shown
from convkit.errors import ConfigError

#: cerebras.pytorch's classes of schedulers
CLASSES = (
    "ConstantLR", "PolynomialLR", "LinearLR", "ExponentialLR", "InverseExponentialTimeDecayLR",
    "InverseSquareRootDecayLR", "CosineDecayLR", "SequentialLR", "PiecewiseConstantLR", "MultiStepLR", "StepLR",
    "CosineAnnealingLR", "LambdaLR", "CosineAnnealingWarmRestarts", "MultiplicativeLR", "ChainedScheduler", "CyclicLR",
    "OneCycleLR", "ScalePerParamLR",
)  # fmt: skip
_NAMES = {name.lower(): name for name in CLASSES}
_LISTED, _CHAINED, _SCALED = "SequentialLR", "ChainedScheduler", "ScalePerParamLR"
AT = "optimizer.learning_rate"


def constant(rate: Any) -> float | None:
    """The number that a learning rate is, or its text; None if it is a schedule."""
    try:
        return None if rate is None else float(NUMBER.read(rate))
    except KindError:
        return None


def schedule_up(rate: Any, at: str = AT) -> dict[str, Any]:
    """The object of a schedule, or of a list of schedules, one after another.

    Raises:
        ConfigError: a scheduler isn't known, or the list says that it is two kinds of list.
    """
    if isinstance(rate, list):
        named = (one.get("main_scheduler") for one in rate if isinstance(one, dict))
        kinds = {str(one) for one in named if one is not None}
        if len(kinds) > 1:
            raise ConfigError(
                f"is {' and '.join(sorted(kinds))}",
                key=f"{at}.main_scheduler",
                remedy="give all schedules of the list the same",
            )
        chained = next(iter(kinds), "").lower() in ("chained", "chainedlr", "chainedscheduler")
        inner = [schedule_up(one, f"{at}.{n}") for n, one in enumerate(rate)]
        if len(inner) == 1 and not chained:
            return inner[0]
        return {_CHAINED if chained else _LISTED: {"schedulers": inner}}
    if not isinstance(rate, dict) or not isinstance(rate.get("scheduler"), str):
        raise ConfigError(
            "is missing" if isinstance(rate, dict) else f"is {shown(rate)}",
            key=f"{at}.scheduler" if isinstance(rate, dict) else at,
            remedy="say which scheduler it is, such as Linear",
        )
    said = rate["scheduler"].lower()
    name = _NAMES.get(said) or _NAMES.get(f"{said}lr")
    if name is None:
        raise ConfigError(
            f"is {shown(rate['scheduler'])}, which cerebras.pytorch doesn't have",
            key=f"{at}.scheduler",
            remedy=f"known: {', '.join(CLASSES)}",
        )
    arguments = {key: value for key, value in rate.items() if key not in ("scheduler", "main_scheduler")}
    nested = arguments.get("schedulers")
    if isinstance(nested, list):
        arguments["schedulers"] = [
            schedule_up(one, f"{at}.schedulers.{n}") if isinstance(one, dict) and "scheduler" in one else one
            for n, one in enumerate(nested)
        ]
    return {name: arguments}


def schedule_down(made: Any, *, scaled: bool = False) -> Any:
    """The way back: a section, or a list of them; None if a yaml of 2.2 can't say it. ``scaled``: the rates of
    parameters are scaled, each by its own factor, which 2.2 does without a scheduler for it.
    """
    if not isinstance(made, dict) or len(made) != 1:
        return None
    [(name, arguments)] = made.items()
    if not isinstance(arguments, dict | None):
        return None
    arguments = arguments or {}
    if name == _SCALED:
        return schedule_down(arguments.get("scheduler")) if scaled and arguments.keys() == {"scheduler"} else None
    if "scheduler" in arguments:
        return None
    listed = arguments.get("schedulers")
    if not isinstance(listed, list):
        return {"scheduler": name, **arguments}
    inner = [schedule_down(one) for one in listed]
    chained = name == _CHAINED
    more = arguments.keys() - {"schedulers"}
    said = not more or (more == {"milestones"} and arguments["milestones"] == _milestones(inner))
    sayable = inner and said and all(isinstance(one, dict) for one in inner)
    if sayable and (chained or (name == _LISTED and len(inner) > 1)):
        return [one | {"main_scheduler": "chained"} for one in inner] if chained else inner
    kept = [one if isinstance(one, dict) else had for one, had in zip(inner, listed, strict=True)]
    return {"scheduler": name, **arguments, "schedulers": kept}


def _milestones(schedules: list[Any]) -> list[Any] | None:
    """Where schedules follow one another, by their lengths, which say it anyway; None if one doesn't say its own."""
    lengths = [one.get("total_iters") if isinstance(one, dict) else None for one in schedules[:-1]]
    whole = [length for length in lengths if type(length) is int]
    return list(accumulate(whole)) if len(whole) == len(lengths) else None
