"""An error names files as they will be called at last: nobody knows the staging folder, which is gone by then."""

from __future__ import annotations

import doctest
import errno
from pathlib import Path

import numpy as np
import pytest

from convkit.errors import ConvkitError
from convkit.files import staging
from convkit.mapping import Rule
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import Request
from engine.disk import converted, write
from engine.memory import mapping_of

EMPTY = {"a": np.ones((2, 3), "float32"), "b": np.ones((0, 4), "float32")}


def test_the_examples() -> None:
    assert doctest.testmod(staging).failed == 0


@pytest.mark.parametrize("format", ["orbax-v0", "orbax-v1"])
def test_what_a_format_cannot_hold(format: str, tmp_path: Path) -> None:
    source, target = write(tmp_path / "left", EMPTY, {}), tmp_path / "right"
    with pytest.raises(ConvkitError, match="Orbax can't hold arrays without elements") as refusal:
        converted(source, target, mapping_of(Rule("a", "x"), Rule("b", "y")), {"format": format})
    assert (refusal.value.path, refusal.value.key) == (str(target), "y")
    assert [found.name for found in tmp_path.iterdir()] == ["left"]


def test_a_migration_that_rewrites(tmp_path: Path) -> None:
    write(tmp_path / "left", EMPTY)
    with pytest.raises(ConvkitError, match="Orbax can't hold arrays without elements") as refusal:
        migrate(tmp_path / "left", tmp_path / "right", Request("v1"), restored=False)
    assert str(tmp_path / "right") in str(refusal.value)
    assert staging.PART not in str(refusal.value)


def test_an_error_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    source = write(tmp_path / "left", {"a": EMPTY["a"]}, {})
    (source / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ConvkitError, match="No space left on device") as refusal:
        converted(source, tmp_path / "right", mapping_of(Rule("a", "x")))
    assert staging.PART not in str(refusal.value)
