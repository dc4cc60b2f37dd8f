"""Which convkit this is: its version, and the commit that it was installed from."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from convkit import __version__

if TYPE_CHECKING:
    from concurrent.futures import Future

#: what a build writes here: the commit; `git archive` puts it in too
BUILT = Path(__file__).with_name("commit.txt")
UNKNOWN = "unknown"
#: follows a commit if files of the package have changed since, or are new
DIRTY = "-dirty"


def commit() -> str:
    """The commit that runs: 40 hexadecimal digits, followed by ``-dirty`` if files have changed since, or ``unknown``.

    A clone is asked for its commit; elsewhere, the build wrote it down.
    """
    return asked().result()


@cache
def asked() -> Future[str]:
    """The commit, looked up meanwhile: git takes its time."""
    from concurrent.futures import ThreadPoolExecutor

    git = ThreadPoolExecutor(1, "git")
    found = git.submit(_found)
    git.shutdown(wait=False)
    return found


def _found() -> str:
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
    """Ask git; a changed table of a campaign doesn't change what runs, so only ``src`` counts."""
    import subprocess

    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--", "src"]
    # what a hook's or a user's environment says is of another repository
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return UNKNOWN
    lines = done.stdout.splitlines()
    head = next((line.rpartition(" ")[2] for line in lines if line.startswith("# branch.oid ")), "")
    changed = any(not line.startswith("#") for line in lines)
    return head + (DIRTY if changed else "") if _is_commit(head) else UNKNOWN


def _is_commit(text: str) -> bool:
    digits = text.removesuffix(DIRTY)
    return len(digits) == 40 and all(digit in "0123456789abcdef" for digit in digits)
