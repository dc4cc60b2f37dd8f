"""Pax layers stacked and taken apart."""

from __future__ import annotations

import numpy as np
import pytest
from engine.memory import assert_same, carried
from te_runs import Arrays, genuine

from convkit.errors import ConvkitError
from convkit.mapping import inverse
from convkit.mappings import find_mapping

pytestmark = pytest.mark.golden
STACK = find_mapping("pax/lm", "pax/lm-repeat")


def without_optimizer(arrays: Arrays) -> Arrays:
    return {key: array for key, array in arrays.items() if not key.startswith("opt_states")}


@pytest.mark.parametrize("name", ["pax_norepeat", "pax_split", "pax_gqa_real", "pax_split_gated_nobias"])
def test_weights_are_stacked_and_taken_apart(name: str) -> None:
    arrays = without_optimizer(genuine(name))
    stacked = carried(STACK, arrays, format="torch")
    layers = "mdl_vars.params.lm.transformer."
    for key, array in stacked.items():
        if key.startswith(layers):
            parts = [arrays[key.replace("repeat.sub.x_layers_0", f"x_layers_{i}")] for i in range(2)]
            np.testing.assert_array_equal(array, np.stack(parts))
    assert_same(carried(inverse(STACK), stacked, format="torch"), arrays)


@pytest.mark.parametrize("name", ["pax_repeat", "pax_repeat_gated_wo"])
def test_a_genuine_stack_is_taken_apart(name: str) -> None:
    """The moments too, under the names that Paxml gives them."""
    arrays = genuine(name)
    apart = carried(inverse(STACK), arrays, format="torch")
    other = genuine("pax_norepeat")
    names = {key.replace("x_layers_2", "x_layers_1") for key in apart}
    assert names - {key for key in names if "ffn_layer1_gate" in key} == set(
        other if name == "pax_repeat" else without_optimizer(other)
    )
    for key, array in apart.items():
        if ".x_layers_" in key:
            i = int(key.partition(".x_layers_")[2][0])
            stacked = key.replace(f"x_layers_{i}", "repeat.sub.x_layers_0").replace(
                "opt_states_0_2", "opt_states_0.p#3#i-1_2"
            )
            np.testing.assert_array_equal(array, arrays[stacked][i])


def test_counts_of_a_stacked_optimizer_are_not_made_up() -> None:
    with pytest.raises(ConvkitError, match="counts for each"):
        carried(STACK, genuine("pax_norepeat"), format="torch")
