"""Optimizers and schedulers in the yaml's ``optimizer`` section: 2.1 knows only the names of PyTorch.

Until 2.0 a schedule may be given by any of several names of a parameter; on the way back each gets the one that the
yamls of that time have.

Facts: the signatures in ModelZoo 2.10.0, ``tools/checkpoint_converters/artifacts/cs-2.0``; Release 1.9.1,
``common/pytorch/PyTorchBaseModel.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from convkit.errors import ConfigError
from convkit.mappings.cerebras.releases.yamls.document import Document

Section = dict[str, Any]

_PLAIN = ("weight_decay",)
_PAIRED = ("weight_decay", "betas")
_FACTORED = ("weight_decay", "eps")
#: optimizer, in lower case -> the parameters that have had other names
OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "adadelta": _PLAIN,
    "adafactor": _FACTORED,
    "adagrad": _PLAIN,
    "adam": _PAIRED,
    "adamax": _PAIRED,
    "adambase": _PAIRED,
    "adamw": _PAIRED,
    "asgd": _PLAIN,
    "lamb": _PAIRED,
    "lion": _PAIRED,
    "nadam": _PAIRED,
    "radam": _PAIRED,
    "rmsprop": _PLAIN,
    "rprop": ("etas", "step_sizes"),
    "sgd": ("weight_decay", "nesterov"),
}
#: parameter -> its earlier name
ONE = {"weight_decay": "weight_decay_rate", "nesterov": "use_nesterov"}
#: parameter -> the two that it was, and their defaults
TWO = {
    "betas": (("beta1", 0.9), ("beta2", 0.999)),
    "eps": (("eps1", 1e-30), ("eps2", 1e-3)),
    "etas": (("eta1", 0.5), ("eta2", 1.2)),
    "step_sizes": (("step_size_min", 1e-6), ("step_size_max", 50.0)),
}
#: the defaults of one optimizer that are others
_OF = {("lion", "beta2"): 0.99}

_LENGTH = ("total_iters", "steps", "decay_steps")
_START = ("initial_learning_rate", "learning_rate", "base_lr")
#: scheduler, in lower case -> its parameters that have had other names: each with those, the one to write back first
SCHEDULERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "constant": (_LENGTH,),
    "polynomial": (("total_iters", "decay_steps", "steps"), _START),
    "linear": (_LENGTH, _START),
    "exponential": (("total_iters", "decay_steps", "steps"), _START),
    "inverseexponentialtimedecay": (("total_iters", "decay_steps", "steps"), _START),
    "inversesquarerootdecay": (_START,),
    "cosinedecay": (("total_iters", "decay_steps", "steps"), _START),
    "piecewiseconstant": (("learning_rates", "values"), ("milestones", "boundaries")),
    "multistep": (_START, ("milestones", "boundaries")),
    "step": (_START,),
    "cosineannealing": (_START, ("T_max", "t_max")),
    "lambda": (_START,),
    "cosineannealingwarmrestarts": (_START, ("T_0", "t_0"), ("T_mult", "t_mult")),
    "multiplicative": (_START,),
    "cyclic": (("base_lr", "learning_rate", "initial_learning_rate"),),
    "onecycle": (_START,),
}
#: parameters that 1.9 knows by their present name too
_KEPT = {("multistep", "milestones")} | {
    (scheduler, start) for scheduler in SCHEDULERS for start in ("initial_learning_rate", "base_lr")
}


def renamed_up(document: Document) -> None:
    """Give the parameters of the optimizer and of its schedules the names of 2.1."""
    optimizer = document.section("optimizer")
    kind = str(optimizer.get("optimizer_type", "")).lower()
    for name in OPTIMIZERS.get(kind, ()):
        if name in optimizer:
            continue
        if name in ONE:
            if ONE[name] in optimizer:
                optimizer[name] = optimizer.pop(ONE[name])
        elif any(part in optimizer for part, _ in TWO[name]):
            optimizer[name] = [optimizer.pop(part, _OF.get((kind, part), default)) for part, default in TWO[name]]
    for schedule, kinds in _schedules(optimizer):
        for name, *earlier in kinds:
            found = next((one for one in earlier if one in schedule), None)
            if found and name not in schedule:
                schedule[name] = schedule.pop(found)


def renamed_down(document: Document) -> None:
    """Give them the names of 1.9, which 2.0 still reads."""
    optimizer = document.section("optimizer")
    kind = str(optimizer.get("optimizer_type", "")).lower()
    for name in OPTIMIZERS.get(kind, ()):
        value = optimizer.get(name)
        if name in ONE and name in optimizer:
            optimizer[ONE[name]] = optimizer.pop(name)
        elif name in TWO and isinstance(value, list) and len(value) == 2:
            del optimizer[name]
            optimizer.update({part: one for (part, _), one in zip(TWO[name], value, strict=True)})
    for schedule, kinds in _schedules(optimizer):
        for name, first, *_ in kinds:
            if name in schedule and (_plain(schedule), name) not in _KEPT:
                schedule[first] = schedule.pop(name)


def _plain(schedule: Section) -> str:
    return str(schedule["scheduler"]).lower().removesuffix("lr")


def _schedules(optimizer: Section) -> Iterator[tuple[Section, tuple[tuple[str, ...], ...]]]:
    """Every schedule, also those within another, with the names of its parameters.

    Raises:
        ConfigError: it doesn't say which it is.
    """
    rate = optimizer.get("learning_rate")
    listed = rate if isinstance(rate, list) else [rate]
    waiting = [(f"optimizer.learning_rate.{n}" if rate is listed else "optimizer.learning_rate", one)
               for n, one in enumerate(listed)]  # fmt: skip
    while waiting:
        at, schedule = waiting.pop(0)
        if not isinstance(schedule, dict):
            continue
        if not isinstance(schedule.get("scheduler"), str):
            if ".schedulers." in at:
                continue
            raise ConfigError("is missing", key=f"{at}.scheduler", remedy="say which scheduler it is, such as Linear")
        inner = schedule.get("schedulers")
        waiting += [(f"{at}.schedulers.{n}", one) for n, one in enumerate(inner if isinstance(inner, list) else [])]
        yield schedule, SCHEDULERS.get(_plain(schedule), ())
