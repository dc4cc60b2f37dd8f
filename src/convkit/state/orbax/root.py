"""A root: the folder in which a checkpoint manager keeps one folder per step, and its own metadata.

Source: orbax-checkpoint 0.12.8 ``_src/path/step.py`` and ``_src/metadata/root_metadata_serialization.py``. A step
folder is named ``<prefix>_<step>``, zero-padded to a fixed length if the manager is configured so; the prefix and
length aren't stored anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

METADATA_FOLDER = "metadata"
#: the metadata file: since 0.10.3, and before
METADATA_FILES = ("_ROOT_METADATA", "metadata")

_STEP = re.compile(r"(?:(?P<prefix>.+)_)?(?P<step>\d+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class StepName:
    """The name of a step's folder: ``prefix`` is "" for none, ``width`` the number of digits if padded, else 0."""

    step: int
    prefix: str
    width: int

    def __str__(self) -> str:
        digits = str(self.step).zfill(self.width)
        return f"{self.prefix}_{digits}" if self.prefix else digits


def parse_step(name: str) -> StepName | None:
    """The step in a folder's name; None if it isn't a step's name.

    >>> parse_step("step_00001234")
    StepName(step=1234, prefix='step', width=8)
    >>> parse_step("0") and str(parse_step("12"))
    '12'
    """
    match = _STEP.fullmatch(name)
    if match is None or not name.isascii():
        return None
    digits = match["step"]
    padded = digits.startswith("0") and digits != "0"
    return StepName(int(digits), match["prefix"] or "", len(digits) if padded else 0)


def common_format(names: Iterable[str]) -> tuple[str, int] | None:
    """The prefix and fixed length (0: none) with which a manager finds all these steps; None if there are none."""
    steps = [parse_step(name) for name in names]
    known = [step for step in steps if step is not None]
    if len(known) != len(steps) or len({step.prefix for step in known}) != 1:
        return None
    width = max(step.width for step in known)
    found = {str(StepName(step.step, step.prefix, width)) for step in known}
    return (known[0].prefix, width) if found == {str(step) for step in known} else None


def metadata_file(root: Path) -> Path | None:
    """The file with the root's own metadata, if any."""
    files = (root / METADATA_FOLDER / name for name in METADATA_FILES)
    return next((file for file in files if file.is_file()), None)
