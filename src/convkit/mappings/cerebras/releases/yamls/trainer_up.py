"""From the yaml of 2.2 to the trainer of 2.3: nothing that the trainer can say is lost, lists and null included.

Facts: ModelZoo 2.10.0, ``trainer/utils.py``; Release 2.3.1, ``trainer/trainer.py`` (one loader or several).
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from convkit.config.tree import MISSING, dig, paths_of, plant
from convkit.config.values import shown
from convkit.errors import ConfigError
from convkit.mappings.cerebras.releases.yamls.classes import default_of, half_precision
from convkit.mappings.cerebras.releases.yamls.document import Document
from convkit.mappings.cerebras.releases.yamls.mup import mup_up
from convkit.mappings.cerebras.releases.yamls.places import (
    BIGCODE,
    CALLBACKS,
    ELEUTHER,
    INIT,
    KEEPS_DATA,
    LOGGERS,
    MICRO_BATCH,
)
from convkit.mappings.cerebras.releases.yamls.schedules import AT, constant, schedule_up

Section = dict[str, Any]

#: sections that a run has, until 2.2
_RUN = {"optimizer", "runconfig", "train_input", "eval_input"}
_SCALED = "adjust_learning_rate"
#: fields that only say how a run was started
_IGNORED = ("runconfig.mode",)


def trainer_up(document: Document) -> None:
    """Make the trainer. What it has no place for is left out, which a warning says.

    Raises:
        ConfigError: the optimizer or a schedule isn't named; a listener has no type.
    """
    if "trainer" in document.config or _is_of_a_model(document.config):
        return
    model, half = document.model, half_precision(document)
    if model.get("mixed_precision") is True and model.get("fp16_type") is None and half:
        model["fp16_type"] = half
    mixed = default_of(document, "mixed_precision")
    schedules = _schedules(document)
    init: Section = {}
    log_loss_scale = document.section("optimizer").get("log_summaries", MISSING)
    callbacks = _called(document, CALLBACKS)
    for path, old in INIT:
        if _is_said(value := document.take(old)):
            plant(init, path, value)
    if _is_said(log_loss_scale):
        plant(init, "precision.log_loss_scale", log_loss_scale)
    if "precision" in init and isinstance(mixed, bool):  # a trainer's is on where it has the section
        init["precision"].setdefault("enabled", mixed)
    init["model"] = document.config.pop("model", {})
    if optimizer := document.config.pop("optimizer", None):
        init["optimizer"] = _named(optimizer)
    if schedules:
        init["schedulers"] = schedules
    if _is_said(sparsity := document.config.pop("sparsity", MISSING)):
        init["sparsity"] = {"sparsity": sparsity} if isinstance(sparsity, int | float) else sparsity
    callbacks += _harness(document)
    loggers = _called(document, LOGGERS)
    init |= {name: listed for name, listed in (("callbacks", callbacks), ("loggers", loggers)) if listed}
    trainer = {"init": init} | _runs(document)
    for path in _IGNORED:
        document.take(path)
    if left := [path for path in paths_of(document.config) if _is_said(dig(document.config, path))]:
        document.warnings.append(f"the trainer of 2.3 has no place for {', '.join(left)}: left out")
    document.config.clear()
    document.config["trainer"] = trainer


def run_up(document: Document) -> None:
    """Make the trainer of a run's yaml that has the sections of 2.2, which 2.3 reads, too.

    Raises:
        ConfigError: see :func:`trainer_up`.
    """
    if document.config.keys() & _RUN:
        mup_up(document, only_whole=True)
        trainer_up(document)


def _is_of_a_model(config: Section) -> bool:
    """Whether a yaml is of no run, but of a model that muP has scaled, with the factor of its learning rate: an
    optimizer without a name.
    """
    optimizer = config.get("optimizer")
    return config.keys() == {"model", "optimizer"} and isinstance(optimizer, dict) and optimizer.keys() == {_SCALED}


def _is_said(value: Any) -> bool:
    """Whether a value says anything: an empty section or list and null are what a trainer has anyway."""
    return value is not MISSING and value is not None and value not in ({}, [])


def _schedules(document: Document) -> list[Section]:
    optimizer = document.section("optimizer")
    rate = optimizer.get("learning_rate")
    if rate is None:
        optimizer.pop("learning_rate", None)
        return []
    number = constant(rate)
    if number is None:
        del optimizer["learning_rate"]
        made = schedule_up(rate, AT)
    else:
        made = {"ConstantLR": {"learning_rate": number}}
    return [{"ScalePerParamLR": {"scheduler": made}} if optimizer.get(_SCALED) else made]


def _named(optimizer: Any) -> Section:
    if not isinstance(optimizer, dict):
        raise ConfigError(f"is {shown(optimizer)}", key="optimizer", remedy="it must be a section")
    name = optimizer.pop("optimizer_type", None)
    if not isinstance(name, str):
        raise ConfigError("is missing", key="optimizer.optimizer_type", remedy="say which optimizer it is: AdamW")
    return {name: optimizer}


def _called(document: Document, table: tuple[tuple[str, str, str], ...]) -> list[Section]:
    """The objects of a table whose arguments a yaml has, in the table's order."""
    made: dict[str, Any] = {}
    for name, argument, old in table:
        value = _taken(document, old)
        if value is MISSING or not (_is_said(value) or argument == MICRO_BATCH):
            continue
        if name == "Listener":
            made |= _listeners(value)
        elif argument == "*":
            made[name] = value
        elif argument:
            made.setdefault(name, {})[argument] = value
        else:
            made[name] = {} if value is True else None if value is False else value
    return [{name: arguments} for name, arguments in made.items()]


def _taken(document: Document, old: str) -> Any:
    """The value at a path of the yaml, which is removed; of several sections there, the one value that they have."""
    section, _, name = old.partition(".")
    several = document.config.get(section)
    if section == "sparsity":
        groups = [one for one in (several if isinstance(several, list) else [several]) if isinstance(one, dict)]
        summed = [one.pop(name, False) for one in groups]
        return True if any(summed) else MISSING
    if not isinstance(several, list):
        return document.take(old)
    values = [one.pop(name) for one in several if isinstance(one, dict) and name in one]
    if any(value != values[0] for value in values):
        raise ConfigError(
            f"is {', '.join(map(str, values))}", key=old, remedy="give all loaders the same: a trainer has one flag"
        )
    return values[0] if values else MISSING


def _listeners(listed: Any) -> Section:
    """Each listener as an object of its type."""
    made: Section = {}
    for number, one in enumerate(listed if isinstance(listed, list) else [listed]):
        if not isinstance(one, dict) or not isinstance(one.get("listener_type"), str):
            raise ConfigError(
                "is missing",
                key=f"runconfig.experimental.listeners.{number}.listener_type",
                remedy="say which listener it is",
            )
        made[one["listener_type"]] = {name: value for name, value in one.items() if name != "listener_type"}
    return made


def _harness(document: Document) -> list[Section]:
    """The object of an evaluation whose arguments lie in runconfig."""
    runconfig, shared = document.section("runconfig"), set(ELEUTHER[2]) & set(BIGCODE[2])
    harness = next((one for one in (BIGCODE, ELEUTHER) if (set(one[2]) - shared) & runconfig.keys()), None)
    if harness is None and "tasks" in runconfig:
        harness = ELEUTHER
    if harness is None:
        return []
    name, section, names = harness
    arguments = {one: value for one in names if _is_said(value := document.take(f"runconfig.{one}"))}
    made: Section = {section: arguments}
    if _is_said(keeps := document.take(f"runconfig.{KEEPS_DATA}")):
        made[KEEPS_DATA] = keeps
    return [{name: made}]


def _runs(document: Document) -> Section:
    """What the trainer does: fit where there is data to train on, validation where there is data for that."""
    path = document.take("runconfig.checkpoint_path")
    train, validation = (document.config.pop(name, None) for name in ("train_input", "eval_input"))
    runs: dict[str, Section] = {"fit": {}, "validate": {}, "validate_all": {}}
    if train:
        runs["fit"]["train_dataloader"] = train
    if validation:
        runs["fit"]["val_dataloader"] = validation
        runs["validate_all"]["val_dataloaders"] = deepcopy(validation)
        if not isinstance(validation, list):  # it takes one loader
            runs["validate"]["val_dataloader"] = deepcopy(validation)
    if _is_said(path):
        runs["fit"]["ckpt_path"] = runs["validate"]["ckpt_path"] = runs["validate_all"]["ckpt_paths"] = path
    if not train:
        del runs["fit"]
    if "val_dataloader" not in runs["validate"]:
        del runs["validate"]
    return {name: run for name, run in runs.items() if run}
