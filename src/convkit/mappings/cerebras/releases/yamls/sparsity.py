"""The ``sparsity`` section: 2.2 names its fields otherwise, and has a list of groups for patterns of names.

Facts: ModelZoo 2.10.0, ``tools/checkpoint_converters/base_converter.py``; Release 2.1.1,
``common/pytorch/run_cstorch_flow.py``, which needs a ``type``.
"""

from __future__ import annotations

from typing import Any

from convkit.config.values import shown
from convkit.errors import ConfigError
from convkit.mappings.cerebras.releases.yamls.document import Document

Section = dict[str, Any]


def sparsity_up(document: Document) -> None:
    """Rename the fields; each pattern of names becomes a group.

    Raises:
        ConfigError: the patterns aren't text, a list or a section.
    """
    found = document.config.get("sparsity")
    if isinstance(found, list):
        document.config["sparsity"] = [_group_up(one) if isinstance(one, dict) else one for one in found]
    elif isinstance(found, dict):
        patterns = found.get("param_name_patterns")
        if isinstance(patterns, dict):
            common = {name: value for name, value in found.items() if name != "param_name_patterns"}
            groups = [common | {"param_name_patterns": name} | (own or {}) for name, own in patterns.items()]
            document.config["sparsity"] = [_group_up(group) for group in groups]
        else:
            group = _group_up(found)
            document.config["sparsity"] = group["sparsity"] if group.keys() == {"sparsity"} else group


def sparsity_down(document: Document) -> None:
    """The way back.

    Raises:
        ConfigError: groups that patterns can't name.
    """
    found = document.config.get("sparsity")
    if isinstance(found, list):
        for number, one in enumerate(found):
            if not isinstance(one, dict):
                raise ConfigError(f"is {shown(one)}", key=f"sparsity.{number}", remedy="it must be a section")
        document.config["sparsity"] = _patterns([_group_down(one) for one in found])
    elif isinstance(found, dict):
        document.config["sparsity"] = _group_down(found)
    elif isinstance(found, int | float):
        document.config["sparsity"] = {"type": "static", "sparsity": found}


def _group_up(old: Section) -> Section:
    group = dict(old)
    if "type" in group:
        group["algorithm"] = group.pop("type")
    if group.get("algorithm") == "static":
        del group["algorithm"]
    if "schedule" in group:
        group["update"] = group.pop("schedule")
    if "sparsity_schedule" in group:
        pairs = _pairs(group.pop("sparsity_schedule"))
        group["update"] = {"steps": [step for step, _ in pairs]}
        group["schedule"] = [value for _, value in pairs]
    if "sparsity" in group and not isinstance(group["sparsity"], int | float):
        group["schedule"] = group.pop("sparsity")
    if isinstance(update := group.get("update"), int):
        group["update"] = {"freq": update}
        if update == 1:
            del group["update"]
    if "param_name_patterns" in group:
        group["param_filter"] = _respelled(group.pop("param_name_patterns"), ".*", "*", "sparsity.param_name_patterns")
    return group


def _pairs(schedule: Any) -> list[tuple[Any, Any]]:
    try:
        return [(step, value) for step, value in schedule]
    except (TypeError, ValueError):
        problem = f"is {shown(schedule)}"
        raise ConfigError(
            problem, key="sparsity.sparsity_schedule", remedy="it must be pairs of step and value"
        ) from None


def _respelled(names: Any, old: str, new: str, key: str) -> Any:
    """A pattern, or a list of them, from regular expressions to globs or back.

    Raises:
        ConfigError: neither.
    """
    if isinstance(names, str):
        return names.replace(old, new)
    if isinstance(names, list) and all(isinstance(one, str) for one in names):
        return [one.replace(old, new) for one in names]
    raise ConfigError(f"is {shown(names)}", key=key, remedy="it must be a pattern, or a list of them")


def _group_down(new: Section) -> Section:
    group = dict(new)
    group["type"] = group.pop("algorithm", "static")
    update, schedule = group.pop("update", None), group.pop("schedule", None)
    steps = update.get("steps") if isinstance(update, dict) else None
    if isinstance(steps, list) and isinstance(schedule, list) and len(steps) == len(schedule) and len(update) == 1:
        group["sparsity_schedule"] = [list(pair) for pair in zip(steps, schedule, strict=True)]
    else:
        if schedule is not None:
            group["sparsity"] = schedule
        if update is not None:
            group["schedule"] = update["freq"] if isinstance(update, dict) and update.keys() == {"freq"} else update
    names = group.pop("param_filter", None)
    if names is not None:
        group["param_name_patterns"] = _respelled(names, "*", ".*", "sparsity.param_filter")
    return group


def _patterns(groups: list[Section]) -> Section:
    """One section for groups that are named by a pattern each: what all of them say stands once."""
    names = [group.pop("param_name_patterns", None) for group in groups]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ConfigError(
            "has groups that aren't named by one pattern each",
            key="sparsity",
            remedy="release 2.1 has one section, with a pattern for each group: give each a param_filter of its own",
        )
    common = {
        name: value
        for name, value in groups[0].items()
        if all(name in group and group[name] == value for group in groups)
    }
    own = [{name: value for name, value in group.items() if name not in common} for group in groups]
    return common | {"param_name_patterns": dict(zip(names, own, strict=True))}
