from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from convkit.checkpoint import Leaf, TensorSpec
from convkit.errors import ConvkitError
from convkit.state.pax import metadata as pax_metadata


def entry(shape: list[int], dtype: str = "float32", masked: bool = False) -> dict[str, Any]:
    """As paxml ``ArrayMetadata.to_dict`` has it."""
    return {"_array_metadata_tag": True, "dtype": dtype, "is_optax_masked_node": masked, "unpadded_shape": shape}


def item(variables: dict[str, Any], version: float = 1.1) -> dict[str, Any]:
    return {"version": version, "train_state_metadata": {"mdl_vars": variables}}


LEAVES = [
    Leaf("mdl_vars.params.w", TensorSpec((8, 3), "bfloat16")),
    Leaf("mdl_vars.params.ln.scale", TensorSpec((8,), "float32")),
    Leaf("opt_states_0_2.m.params.w", TensorSpec((8, 3), "float32")),
    Leaf("step", TensorSpec((), "uint32")),
]


def test_variables_are_described_and_the_optimizer_is_not() -> None:
    expected = item({"params": {"w": entry([8, 3], "bfloat16"), "ln": {"scale": entry([8])}}})
    assert pax_metadata.matching(LEAVES) == expected


def test_what_stays_true_of_the_earlier_stays() -> None:
    masked = {"_array_metadata_tag": True, "is_optax_masked_node": True}
    earlier = {
        **item(
            {
                "params": {"w": entry([7, 3], "bfloat16"), "ln": {"scale": entry([9])}, "old": entry([2])},
                "non_trainable": {},
                "frozen": masked,
            },
            version=1.2,
        ),
        "more": 1,
    }
    expected = item(
        {
            "params": {"w": entry([7, 3], "bfloat16"), "ln": {"scale": entry([8])}},
            "non_trainable": {},
            "frozen": masked,
        }
    )
    assert pax_metadata.matching(LEAVES, earlier) == {**expected, "more": 1}


def test_version_1_0_has_no_tree() -> None:
    assert pax_metadata.matching(LEAVES, {"version": 1.0}) == {"version": 1.0}


def test_reading(tmp_path: Path) -> None:
    assert pax_metadata.read(tmp_path) is None
    path = tmp_path / "metadata" / "metadata"
    path.parent.mkdir()
    path.write_bytes(pax_metadata.dumps({"version": 1.1}))
    assert pax_metadata.read(tmp_path) == {"version": 1.1}
    for wrong in ("{", "[]", json.dumps({"version": "1.1"})):
        path.write_text(wrong)
        with pytest.raises(ConvkitError, match="metadata/metadata"):
            pax_metadata.read(tmp_path)
