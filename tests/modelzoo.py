"""ModelZoo's own config classes, asked in a process of their own; a test that needs them is skipped without its source.

``CONVKIT_MODELZOO`` names the folder ``src`` of a checkout of ModelZoo 2.10.0 (Cerebras/modelzoo, Release_2.10.0).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "CONVKIT_MODELZOO"
#: What a skipped test says.
MISSING = f"needs the source of ModelZoo 2.10.0 ({VARIABLE} names the folder src of a checkout)"
_SERVER = Path(__file__).parent / "interop" / "modelzoo_classes.py"


class Classes:
    """The config classes of ModelZoo."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def fields(self, name: str) -> dict[str, dict[str, Any]]:
        """The fields of a class: the ``alias`` of each, and its ``default`` if it has one."""
        fields: dict[str, dict[str, Any]] = self._ask(name, [])["fields"]
        return fields

    def against(self, name: str, sections: list[dict[str, Any]]) -> list[list[str]]:
        """What a class says against each of these sections; nothing if it takes it."""
        problems: list[list[str]] = self._ask(name, sections)["against"]
        return problems

    def _ask(self, name: str, sections: list[dict[str, Any]]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        print(json.dumps({"class": name, "sections": sections}), file=self._process.stdin, flush=True)
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "error" not in said, said["error"]
        return said


@contextmanager
def real_classes() -> Iterator[Classes]:
    """The real classes; skips the test without their source."""
    if not os.environ.get(VARIABLE):
        pytest.skip(MISSING)
    for needed in ("torch", "pydantic"):
        pytest.importorskip(needed)
    source = Path(os.environ[VARIABLE])
    assert (source / "cerebras" / "modelzoo" / "models").is_dir(), f"{VARIABLE} isn't the folder src of ModelZoo"
    command = [sys.executable, str(_SERVER), str(source)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as process:
        yield Classes(process)
        assert process.stdin
        process.stdin.close()
