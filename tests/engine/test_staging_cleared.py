"""A staging folder that is being removed is never resumed, wherever a kill ends that."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convkit.files.staging import Staging

IDENTITY = {"plan": "of a test"}


def staged(target: Path) -> Staging:
    return Staging(target, lambda: None, IDENTITY)


def cleared_until(target: Path, removals: int) -> None:
    """In another process: make an output, and be killed before one removal too many."""
    staging = staged(target).__enter__()
    for name in ("leaf", "leaf.2"):
        (staging.out / name).write_bytes(b"finished")
    left = [removals]

    def counted(remove: Callable[..., None]) -> Callable[..., None]:
        def removed(*words: Any, **more: Any) -> None:
            if not left[0]:
                os._exit(9)
            left[0] -= 1
            remove(*words, **more)

        return removed

    os.unlink, os.rmdir = counted(os.unlink), counted(os.rmdir)
    staging.__exit__(None)


@pytest.mark.parametrize("removals", range(5))
def test_what_is_half_removed_is_begun_again(removals: int, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if (child := os.fork()) == 0:
        try:
            cleared_until(target, removals)
        finally:
            os._exit(9)
    os.waitpid(child, 0)
    with staged(target) as again:
        assert again.resumed == (removals == 0)
        assert sorted(path.name for path in again.out.iterdir()) == (["leaf", "leaf.2"] if again.resumed else [])
