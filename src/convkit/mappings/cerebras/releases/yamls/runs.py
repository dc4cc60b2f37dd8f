"""Fields of a run that moved or went: precision (2.1), the accumulation of gradients (2.2).

Facts: ModelZoo 2.10.0, ``tools/checkpoint_converters/base_converter.py``; Releases 1.9.1 ... 2.1.1,
``common/pytorch/run_cstorch_flow.py``.
"""

from __future__ import annotations

from convkit.config.tree import MISSING
from convkit.config.values import shown
from convkit.errors import ConfigError
from convkit.mappings.cerebras.releases.yamls.document import Document

#: what 2.0 no longer has, and still tolerates: 2.1 does not
PRUNED = (
    "csconfig",
    "cerebras",
    *(f"runconfig.{name}" for name in (
        "experimental_api", "multireplica", "num_replicas", "save_losses", "service_dir", "use_appliance_data",
        "num_act_servers", "num_wgt_servers",
    )),
)  # fmt: skip
#: what yamls before 2.0 have, and no release since reads
UNREAD = ("optimizer.disable_lr_steps_reset", "model.enable_vts", "model.allow_multireplica", "model.tf_summary")
#: what a run takes from the checkpoint that it starts with, where that was only pretrained
_STATES = ["model", "dataloader"]
_INPUTS = ("train_input", "eval_input")


def kept_by_number(document: Document) -> None:
    """``keep_checkpoint_max`` was never read: ``max_checkpoints``, which 1.9 has as well, is what it meant."""
    number = document.take("runconfig.keep_checkpoint_max")
    if number is not MISSING and number is not None and "max_checkpoints" not in document.section("runconfig"):
        document.put("runconfig.max_checkpoints", number)


def pretrained_named(document: Document) -> None:
    """``is_pretrained_checkpoint`` becomes the list of states that are loaded."""
    if document.take("runconfig.is_pretrained_checkpoint") is True:
        document.put("runconfig.load_checkpoint_states", list(_STATES))


def pretrained_said(document: Document) -> None:
    """The way back; other lists have no counterpart."""
    states = document.section("runconfig").get("load_checkpoint_states")
    if states in (_STATES, ",".join(_STATES)):
        document.take("runconfig.load_checkpoint_states")
        document.put("runconfig.is_pretrained_checkpoint", True)


def precision_up(document: Document) -> None:
    """Half precision by name, and the level of optimization as a matter of the run."""
    level = document.model.pop("precision_opt_level", MISSING)
    if "precision_opt_level" not in document.section("runconfig"):
        document.put("runconfig.precision_opt_level", level)
    if (flag := document.model.pop("use_bfloat16", MISSING)) is not MISSING:
        document.model["fp16_type"] = "bfloat16" if flag else "float16"


def precision_down(document: Document) -> None:
    """The way back. Cerebras' own half precision has no counterpart."""
    level = document.take("runconfig.precision_opt_level")
    if level is not MISSING:
        document.model["precision_opt_level"] = level
    half = document.model.pop("fp16_type", MISSING)
    if half in ("bfloat16", "float16"):
        document.model["use_bfloat16"] = half == "bfloat16"
    elif half is not MISSING:
        document.warnings.append(f"fp16_type = {shown(half)} is left out: release 2.0 has bfloat16 and float16")


def accumulation_up(document: Document) -> None:
    """Whether gradients are accumulated is said by the size of a micro batch.

    Raises:
        ConfigError: the flag isn't one.
    """
    flag = document.take("runconfig.use_cs_grad_accum")
    if flag is MISSING:
        return
    if not isinstance(flag, bool):
        raise ConfigError(f"is {shown(flag)}", key="runconfig.use_cs_grad_accum", remedy="it must be true or false")
    for name in _INPUTS:
        for one in _loaders(document, name, made=True):
            if not flag:
                one["micro_batch_size"] = None
            else:
                one.setdefault("micro_batch_size", "auto")


def accumulation_down(document: Document) -> None:
    """The way back."""
    loaders = [one for name in _INPUTS for one in _loaders(document, name) if "micro_batch_size" in one]
    if not loaders:
        return
    accumulated = any(one["micro_batch_size"] is not None for one in loaders)
    document.put("runconfig.use_cs_grad_accum", accumulated)
    for one in loaders:
        if not accumulated or one["micro_batch_size"] == "auto":
            del one["micro_batch_size"]
    for name in _INPUTS:
        if document.config.get(name) == {}:
            del document.config[name]


def _loaders(document: Document, name: str, *, made: bool = False) -> list[dict[str, object]]:
    """The section of a data loader, or those of several."""
    found = document.config.get(name)
    if made and found is None:
        found = document.config[name] = {}
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]
