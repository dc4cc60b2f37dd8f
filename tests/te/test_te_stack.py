"""Pax layers, stacked and unstacked."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from engine.memory import Memory, assert_same, carried, plan_of
from te_runs import Arrays, genuine, unpacked
from te_runs import arrays as on_disk

from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.execute.complement import find_complement
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


@pytest.mark.parametrize("name", ["pax_norepeat", "pax_split", "pax_gqa_real"])
def test_an_optimizer_is_stacked_and_taken_apart(name: str) -> None:
    """Every stacked layer counts for itself, as it did before."""
    arrays = counting(genuine(name))
    stacked = carried(STACK, arrays, format="torch")
    for at in range(4):
        count = arrays[f"opt_states_0_{at}.count"]
        np.testing.assert_array_equal(stacked[f"opt_states_0.p#2#i-1_{at}.count"], [count, count], strict=True)
        np.testing.assert_array_equal(stacked[f"opt_states_0.no_prefix_{at}.count"], count, strict=True)
    assert_same(carried(inverse(STACK), stacked, format="torch"), arrays)


def test_a_genuine_stack_is_taken_apart_and_stacked_again() -> None:
    arrays = counting(genuine("pax_repeat"))
    apart = carried(inverse(STACK), arrays, format="torch")
    assert_same(carried(STACK, apart, format="torch"), arrays)


def test_layers_that_counted_differently_are_not_taken_apart() -> None:
    arrays = dict(genuine("pax_repeat"))
    key = "opt_states_0.p#3#i-1_2.count"
    arrays[key] = arrays[key] + np.array([0, 0, 1], np.int32)
    with pytest.raises(ConvkitError, match="differs from 'repeated'"):
        find_complement(Memory(arrays), plan_of(inverse(STACK), arrays, format="torch"))


def test_an_optimizer_on_disk_comes_back_and_a_wrong_count_is_seen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = next(iter((unpacked("sources") / "pax_norepeat").iterdir())) / "state"
    stacked, apart = tmp_path / "stacked", tmp_path / "apart"
    assert main(["convert", str(source), str(stacked), "--to=pax/lm-repeat"]) == 0
    assert main(["roundtrip", str(source), str(stacked)]) == 0
    assert main(["convert", str(stacked), str(apart), "--to=pax/lm"]) == 0
    assert main(["roundtrip", str(stacked), str(apart)]) == 0
    assert_same(on_disk(apart / "state"), on_disk(source))
    shutil.copy(stacked / "state" / "step" / "0", stacked / "state" / "opt_states_0.p#2#i-1_1.count" / "0")
    assert main(["roundtrip", str(source), str(stacked)]) == 1
    assert "opt_states_0.p#2#i-1_1.count" in "".join(capfd.readouterr())


def counting(arrays: Arrays) -> Arrays:
    """The same after some steps: other counts in every slot, those of one slot equal."""
    return {
        key: np.asarray(array + np.int32(10 + int(key.removesuffix(".count")[-1]))) if key.endswith(".count") else array
        for key, array in arrays.items()
    }
