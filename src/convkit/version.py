"""Which convkit this is: its version, and the commit that it was installed from."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

from convkit import __version__

#: what a build writes here: the commit; `git archive` puts it in too
BUILT = Path(__file__).with_name("commit.txt")
UNKNOWN = "unknown"
#: follows a commit if files that git knows have changed since
DIRTY = "-dirty"


@cache
def commit() -> str:
    """The commit that runs: 40 hexadecimal digits, followed by ``-dirty`` if files have changed since, or ``unknown``.

    A clone is asked for its commit; elsewhere, the build wrote it down.
    """
    root = Path(__file__).parents[2]
    if (root / ".git").exists() and (root / "setup.py").exists():  # convkit's own clone, not one that it was copied to
        return _of_clone(root)
    try:
        built = BUILT.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return UNKNOWN
    return built if _is_commit(built) else UNKNOWN


def described() -> str:
    """Version and commit in words, for people."""
    hexadecimal = commit().removesuffix(DIRTY)
    changed = ", with changes that aren't committed" if commit().endswith(DIRTY) else ""
    return f"{__version__} (commit {hexadecimal}{changed})"


def _of_clone(root: Path) -> str:
    command = ["git", "--no-optional-locks", "describe", "--always", f"--dirty={DIRTY}", "--abbrev=40", "--exclude=*"]
    # what a hook's or a user's environment says is of another repository
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    found = done.stdout.strip()
    return found if done.returncode == 0 and _is_commit(found) else UNKNOWN


def _is_commit(text: str) -> bool:
    digits = text.removesuffix(DIRTY)
    return len(digits) == 40 and all(digit in "0123456789abcdef" for digit in digits)
