"""The models whose config conversions are recorded, and what we do otherwise than the original, a module a kind.

A module has ``MODELS`` (each with what its tensors would have shown: the original's user names the model instead) and
``DEVIATIONS``, which hold for these models; those of the module ``every`` hold for all. It may
have its own ``LEFT_OUT``. Models whose parts lie in folders are ``PACKED``; their fields are called as in the sections.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from config_deviations.deviation import LEFT_OUT as OF_MOST
from config_deviations.deviation import Deviation

_MODULES = {found.name: import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)}
_FAMILIES = [module for module in _MODULES.values() if hasattr(module, "MODELS")]

#: model -> what its tensors would have shown
MODELS: dict[str, dict[str, Any]] = {name: facts for module in _FAMILIES for name, facts in module.MODELS.items()}
#: model -> its deviations
DEVIATIONS: dict[str, tuple[Deviation, ...]] = {
    name: (*_MODULES["every"].DEVIATIONS, *module.DEVIATIONS) for module in _FAMILIES for name in module.MODELS
}
#: model -> what was recorded of a yaml like ours: the whole, or a form of it that the original passes through
RECORDED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    name: getattr(module, "recorded", dict) for module in _FAMILIES for name in module.MODELS
}
#: packed model -> its layouts, and the folders of its parts, whose configs are recorded one after another
PACKED: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {
    name: packed for module in _FAMILIES for name, packed in getattr(module, "PACKED", {}).items()
}
#: model -> keys of the original's yaml that we don't write
LEFT_OUT: dict[str, set[str]] = {
    name: getattr(module, "LEFT_OUT", OF_MOST) for module in _FAMILIES for name in module.MODELS
}
