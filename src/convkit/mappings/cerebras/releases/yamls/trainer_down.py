"""From the trainer of 2.3 to the yaml of 2.2: the way back of :mod:`trainer_up`."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from convkit.config.tree import MISSING, dig, paths_of, uproot
from convkit.mappings.cerebras.releases.yamls.classes import half_precision
from convkit.mappings.cerebras.releases.yamls.document import Document, put
from convkit.mappings.cerebras.releases.yamls.places import CALLBACKS, HARNESSES, INIT, KEEPS_DATA, LOGGERS
from convkit.mappings.cerebras.releases.yamls.schedules import constant, schedule_down

Section = dict[str, Any]

_LOG_LOSS_SCALE = "init.precision.log_loss_scale"
_DATA = (
    ("train_input", ("fit.train_dataloader",)),
    ("eval_input", ("fit.val_dataloader", "validate_all.val_dataloaders", "validate.val_dataloader")),
)
_CHECKPOINT = ("fit.ckpt_path", "validate.ckpt_path", "validate_all.ckpt_paths")


def trainer_down(document: Document) -> None:
    """Make the sections of 2.2. What they have no place for is left out, which a warning says."""
    trainer = document.config.pop("trainer", None)
    if trainer is None:
        return
    new = document.config
    new["model"] = _taken(trainer, "init.model")
    _loaders(trainer, new)
    _optimized(trainer, new)
    if _is_default(dig(trainer, "init.precision")):
        trainer["init"]["precision"]["enabled"] = True
    for path, old in INIT:
        _put(new, old, _taken(trainer, f"init.{path}"))
    if "target_device" not in new.get("runconfig", {}):
        _put(new, "runconfig.target_device", _taken(trainer, "init.device"))
    for listed, table in (("callbacks", CALLBACKS), ("loggers", LOGGERS)):
        objects = dig(trainer, f"init.{listed}")
        if isinstance(objects, list):
            _called(objects, table, new)
            _evaluated(objects, new)
            _listened(objects, new)
    log = _taken(trainer, _LOG_LOSS_SCALE)
    if log is not MISSING:
        _put(new, "optimizer.log_summaries", log)
    model = document.model
    if model.get("mixed_precision") is True and "fp16_type" not in model and half_precision(document):
        model["fp16_type"] = "float16"
    left = list(_left(trainer))
    if left:
        document.warnings.append(f"yamls before 2.3 have no place for {', '.join(left)}: left out")


def _is_default(precision: Any) -> bool:
    """Whether half precision is on because a trainer's section doesn't say otherwise."""
    return isinstance(precision, dict) and bool(precision) and "enabled" not in precision


def _left(trainer: Section) -> Iterator[str]:
    """What is left of a trainer, with the names of the objects in lists."""
    for path in paths_of(trainer):
        value = dig(trainer, path)
        if value in ({}, [], None):
            continue
        names = [next(iter(one)) for one in value if isinstance(one, dict) and one] if isinstance(value, list) else []
        yield f"trainer.{path}" + (f" ({', '.join(map(str, names))})" if names else "")


def _taken(trainer: Section, path: str) -> Any:
    value = dig(trainer, path)
    if value is not MISSING:
        uproot(trainer, path)
    return value


def _put(new: Section, path: str, value: Any) -> None:
    """Set a value; where there are several sections of one name, in each."""
    if value is MISSING:
        return
    section, _, name = path.partition(".")
    there = new.get(section)
    if section == "sparsity" and isinstance(there, int | float):
        new[section] = {"sparsity": there, name: value}
    elif isinstance(there, list):
        for one in there:
            if isinstance(one, dict):
                one[name] = deepcopy(value)
    else:
        put(new, path, value)


def _loaders(trainer: Section, new: Section) -> None:
    """The data: one loader, or a list of them, for each purpose; others have no place."""
    for name, places in _DATA:
        found = [place for place in places if dig(trainer, place) is not MISSING]
        for place in found:
            if dig(trainer, place) == new.setdefault(name, dig(trainer, place)):
                uproot(trainer, place)
    for place in _CHECKPOINT:
        path = dig(trainer, place)
        if path is not MISSING and new.setdefault("runconfig", {}).setdefault("checkpoint_path", path) == path:
            uproot(trainer, place)


def _optimized(trainer: Section, new: Section) -> None:
    """The optimizer, its schedule and the sparsity."""
    optimizer = dig(trainer, "init.optimizer")
    if isinstance(optimizer, dict) and len(optimizer) == 1 and _are_arguments(*optimizer.values()):
        [(name, arguments)] = _taken(trainer, "init.optimizer").items()
        new["optimizer"] = {"optimizer_type": name, **(arguments or {})}
    found = dig(trainer, "init.schedulers")
    schedules = found if isinstance(found, list) else [found]
    if len(schedules) == 1 and isinstance(schedules[0], dict):
        scaled = "adjust_learning_rate" in new.get("optimizer", {}) or "mup_base_hidden_size" in new["model"]
        rate = schedule_down(schedules[0], scaled=scaled)
        stated = new.get("optimizer", {}).get("learning_rate")
        if rate is not None:
            _taken(trainer, "init.schedulers")
            if not _is_constant(rate, stated):
                put(new, "optimizer.learning_rate", rate)
    sparsity = _taken(trainer, "init.sparsity")
    only = (
        isinstance(sparsity, dict) and sparsity.keys() == {"sparsity"} and isinstance(sparsity["sparsity"], int | float)
    )
    _put(new, "sparsity", sparsity["sparsity"] if only else sparsity)


def _are_arguments(value: Any) -> bool:
    return isinstance(value, dict | None)


def _is_constant(rate: Any, stated: Any) -> bool:
    """Whether a schedule is the constant that the optimizer states anyway."""
    if not isinstance(rate, dict) or rate.keys() != {"scheduler", "learning_rate"}:
        return False
    return stated is not None and constant(stated) == rate["learning_rate"]


def _called(objects: list[Any], table: tuple[tuple[str, str, str], ...], new: Section) -> None:
    """The arguments of objects that a table knows, each where it lies until 2.2; what is left of them stays."""
    for name, argument, old in table:
        one = next((one for one in objects if isinstance(one, dict) and name in one), None)
        if one is None or (argument and not isinstance(one[name], dict)):
            continue
        arguments = one[name]
        if not argument:
            if arguments in ({}, None):
                _put(new, old, arguments is not None)
                one.clear()
        elif argument == "*":
            _put(new, old, arguments)
            one.clear()
        elif argument in arguments:
            _put(new, old, arguments.pop(argument))
            if not arguments:
                one.clear()
    objects[:] = [one for one in objects if one != {}]


def _evaluated(objects: list[Any], new: Section) -> None:
    """The arguments of an evaluation."""
    for name, section, names in HARNESSES:
        one = next((one for one in objects if isinstance(one, dict) and isinstance(one.get(name), dict)), None)
        if one is None:
            continue
        told = one[name].get(section)
        for argument in names:
            if isinstance(told, dict) and argument in told:
                put(new, f"runconfig.{argument}", told.pop(argument))
        if told == {}:
            del one[name][section]
        if KEEPS_DATA in one[name]:
            put(new, f"runconfig.{KEEPS_DATA}", one[name].pop(KEEPS_DATA))
        if not one[name]:
            objects.remove(one)


def _listened(objects: list[Any], new: Section) -> None:
    """Objects whose name is no class's, since it is in lower case, are listeners."""
    found = [one for one in objects if isinstance(one, dict) and len(one) == 1 and _is_listener(*one.items())]
    if found:
        listeners = [{"listener_type": name, **(arguments or {})} for one in found for name, arguments in one.items()]
        put(new, "runconfig.experimental.listeners", listeners)
        objects[:] = [one for one in objects if one not in found]


def _is_listener(item: tuple[Any, Any]) -> bool:
    name, arguments = item
    return isinstance(name, str) and name.islower() and _are_arguments(arguments)
