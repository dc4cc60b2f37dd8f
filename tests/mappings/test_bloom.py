"""hf/bloom <-> cerebras/bloom: what is particular about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keys_only import KeysOnly

from convkit.checkpoint import TensorSpec
from convkit.config import Deviation
from convkit.errors import ConfigError, ConvkitError
from convkit.execute import convert
from convkit.execute.recipes import alibi_slopes
from convkit.generate import generate
from convkit.mappings import find_mapping
from convkit.plan import Options, make_plan, open_source
from convkit.verify.roundtrip.derived import derive

HF = {"model_type": "bloom", "hidden_size": 24, "n_head": 6, "n_layer": 1, "vocab_size": 11}
CS = {"name": "bloom", "hidden_size": 24, "filter_size": 96, "num_heads": 6, "dropout_rate": 0.0} | {
    "position_embedding_type": "alibi", "embedding_layer_norm": True
}  # fmt: skip


def there(**changes: Any) -> dict[str, Any]:
    return find_mapping("hf/bloom", "cerebras/bloom").config.convert(HF | changes).config["model"]


def test_slopes_of_any_number_of_heads() -> None:
    """They are computed in two ways, which give the same float32 bit by bit."""
    for heads in range(1, 260):
        made = alibi_slopes(heads).astype(np.float32)
        again = derive("alibi slopes", {"heads": heads}, TensorSpec(made.shape, "float32"), (), KeysOnly({}))
        assert made.shape == (heads, 1)
        assert again is not None
        assert made.tobytes() == again.tobytes(), heads
    assert alibi_slopes(6)[:, 0].tolist() == [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]


def test_slopes_are_float32_whatever_the_weights_are_and_no_others_pass(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    safetensors = pytest.importorskip("safetensors.torch")
    generate("generated://bloom?layers=1&vocab=5&dtype=bfloat16", tmp_path / "hf")
    with open_source(tmp_path / "hf") as opened:
        plan = make_plan(opened, "cerebras/bloom", options=Options(format="safetensors"))
        convert(opened, plan, tmp_path / "cs", threads=1)
    weights = tmp_path / "cs" / "model.safetensors"
    held = safetensors.load_file(weights)
    (key,) = (key for key in held if "slopes" in key)
    assert str(held[key].dtype) == "torch.float32"
    assert {str(held[other].dtype) for other in held.keys() - {key}} == {"torch.bfloat16"}
    safetensors.save_file(held | {key: held[key].flip(0)}, weights)
    (tmp_path / "cs.convkit.json").unlink()
    with open_source(tmp_path / "cs") as opened:
        plan = make_plan(opened, "hf/bloom")
        with pytest.raises(ConvkitError, match="differs from 'alibi slopes'") as caught:
            convert(opened, plan, tmp_path / "back", threads=1)
    assert caught.value.key == key


def test_its_activation_is_the_tanh_approximation() -> None:
    assert there()["nonlinearity"] == "gelu_new"
    table = find_mapping("cerebras/bloom", "hf/bloom").config
    assert not table.convert({"model": CS | {"nonlinearity": "gelu_new"}}).deviations
    for said in (CS, CS | {"nonlinearity": "gelu"}):
        (found,) = table.convert({"model": said}).deviations
        assert (found.field, found.value, found.taken_as) == ("model.nonlinearity", "gelu", "gelu_new")
        assert isinstance(found, Deviation)
    with pytest.raises(ConfigError) as caught:
        table.convert({"model": CS | {"nonlinearity": "relu"}})
    assert caught.value.key == "nonlinearity"


def test_the_hidden_size_has_an_old_name() -> None:
    old = {name: value for name, value in HF.items() if name != "hidden_size"} | {"n_embed": 24}
    table = find_mapping("hf/bloom", "cerebras/bloom").config
    assert table.convert(old).config["model"]["hidden_size"] == 24
    assert there(n_embed=24)["filter_size"] == 96
    with pytest.raises(ConfigError) as caught:
        there(n_embed=36)
    assert "hidden_size" in str(caught.value)


def test_the_norm_before_the_residual_is_another_model() -> None:
    with pytest.raises(ConfigError) as caught:
        there(apply_residual_connection_post_layernorm=True)
    assert caught.value.key == "apply_residual_connection_post_layernorm"
