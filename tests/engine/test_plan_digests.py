"""Receipts identify plans by their digests, which code changes mustn't alter by accident."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convkit.mapping import Derived, Rule, inverse
from convkit.mapping.ops import Pad, Scale, Shift
from engine.memory import mapping_of, plan_of

FLOATS = np.ones((4, 6), np.float32)
PAD = Rule("embed", "embed", "v d -> v d", ops=(Pad(0, "padded", -1.0),), v="vocab")
VOCABULARY = mapping_of(PAD, names=["vocab", "padded"])
SIZES = {"vocab": 4, "padded": 8}
#: what is planned: a mapping, the source's leaves, its config, options; and the digest
PLANS: dict[str, tuple[Any, dict[str, np.ndarray], dict[str, Any], dict[str, Any], str]] = {
    "moved": (
        mapping_of(Rule("w", "v", "(h two) d -> (two h) d", two=2)),
        {"w": FLOATS},
        {},
        {},
        "1034667d8e5430e091921d43a0f5e90b11accdaf080fa0724cfbe02e09c2684a",
    ),
    "padded": (
        VOCABULARY,
        {"embed": FLOATS},
        SIZES,
        {},
        "c4b62af72e96349f4597c6de0122ff522a4ca7755984d05f0c828ba2a8f67cd6",
    ),
    "cropped": (
        inverse(VOCABULARY),
        {"embed": np.ones((8, 6), np.float32)},
        SIZES,
        {},
        "b0ca39c582437221f7c7a8bd8c5319952742ae92510ea8bc91fb37c1cf129f40",
    ),
    "shifted, scaled and cast": (
        mapping_of(Rule("n", "m", ops=(Shift(-1.0), Scale(0.3)))),
        {"n": FLOATS},
        {},
        {"dtype": "bfloat16"},
        "0d539caff830f40c8fe402a9f169d333e7d7b23f56e05465ae200dc41962e036",
    ),
    "divided": (
        mapping_of(Rule("n", "m", ops=(Scale(7.0).inverse(),))),
        {"n": FLOATS},
        {},
        {},
        "199565522adebc574459f5d60eb94b33d5388d450463ae0e3fdb5a9eabf05d58",
    ),
    "derived": (
        mapping_of(
            Rule("w", "kernel", "x y -> y x"),
            Derived("right", "ones", "filled", {"value": 1.0}, ("kernel",), (2,), "float32"),
        ),
        {"w": FLOATS},
        {},
        {},
        "fc67496b3c6234ee00bcbf557a915f9b24684c70acc0fb58d5464fe97cf6556a",
    ),
    "dropped": (
        mapping_of(Rule("a", "b")),
        {"a": FLOATS, "other": FLOATS},
        {},
        {"drop": ("other",)},
        "6988be1bd1158ed6916654f2ac9f313a1ef1a843cf092c1703e68136715a67e7",
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_digests_are_what_they_were(name: str) -> None:
    mapping, arrays, config, options, digest = PLANS[name]
    assert plan_of(mapping, arrays, config, **options).digest == f"sha256:{digest}"
