"""The examples in the docstrings of the notation are its specification."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "convkit.config.condition",
        "convkit.config.tree",
        *(
            f"convkit.mapping.{name}"
            for name in ("algebra", "bijection", "components", "declaration", "keys", "pattern", "rules")
        ),
    ],
)
def test_examples_are_true(module: str) -> None:
    assert doctest.testmod(import_module(module)).failed == 0
