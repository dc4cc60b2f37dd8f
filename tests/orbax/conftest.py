"""Checkpoints that the installed Orbax wrote, each once a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import layouts
import pytest
from once import once


@cache
def _written(names: tuple[str, ...]) -> Path:
    return once(f"layouts-{names[0]}", partial(layouts.write, names))


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of a layout or of a folder below one, such as ``v0_manager_root/1234``; not to be changed."""
    pytest.importorskip("orbax.checkpoint")
    nothing = tmp_path_factory.mktemp("layouts")

    def path(name: str) -> Path:
        top = name.split("/", maxsplit=1)[0]
        return (_written(layouts.written_with(top)) if top in layouts.WRITERS else nothing) / name

    return path
