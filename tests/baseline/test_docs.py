"""``docs/how-to/regression.md`` names every kind of drift."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from convkit.baseline.drift import Kind

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "regression.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_is_explained(kind: str) -> None:
    assert f"`{kind}`" in TEXT
