"""A stand-in for the native module of cerebras.pytorch 2.10, which is built only for torch 2.4.

Loading and saving checkpoints calls nothing of it that matters. Call :func:`install` before the import.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

_NAME = "cerebras.pytorch.lib.cerebras_pytorch_lib"


class _Settings:
    """Settings of a cluster: any name will do."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _StandIn(ModuleType):
    """The names that the import and the storage code look up; any other is a function that returns None."""

    ApplianceDataInfo = type("ApplianceDataInfo", (), {})
    ApplianceInfo = type("ApplianceInfo", (), {})
    ApplianceInfoState = _Settings()
    MarkStepType = _Settings()
    appliance_file_config = _Settings()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


def install() -> None:
    """Put the stand-in where the import looks first."""
    sys.modules[_NAME] = _StandIn(_NAME)
