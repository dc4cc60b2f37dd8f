"""Checkpoints that the installed Orbax wrote, each once per session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import layouts
import pytest


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of a layout or of a folder below one, such as ``v0_manager_root/1234``; not to be changed."""
    pytest.importorskip("orbax.checkpoint")
    base = tmp_path_factory.mktemp("layouts")
    write = cache(lambda name: layouts.write(name, base / name))

    def path(name: str) -> Path:
        top = name.split("/", maxsplit=1)[0]
        if top in layouts.WRITERS:
            write(top)
        return base / name

    return path
