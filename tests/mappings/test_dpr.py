"""One encoder of DPR, of questions or of contexts, against halves of the original's outputs, which hold both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from goldens import golden_dir
from keys_only import plan, refused, specs
from recorded import arrays, owed
from test_detection import detected

from convkit.checkpoint import TensorSpec
from convkit.errors import ConfigError
from convkit.execute import convert
from convkit.formats import open_checkpoint
from convkit.oracles import get_oracle
from convkit.plan import Options, make_plan, open_source

safetensors = pytest.importorskip("safetensors.numpy")

#: component -> prefix of its keys
ENCODERS = {"q_encoder": "question_encoder", "ctx_encoder": "ctx_encoder"}
#: what the original writes for every BERT, and 2.10's class takes without using it
UNUSED = {"mlm_nonlinearity", "share_embedding_weights"}
#: what the original writes as if the model were the hub's
NAMED = {"_name_or_path", "tie_word_embeddings"}


def case(name: str) -> Path:
    return golden_dir("cerebras_more.tar.xz", "packed/dpr/") / "packed" / "dpr" / name


def half(root: Path, component: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and fields of one encoder of the original's output."""
    at = f"model.{ENCODERS[component]}."
    tensors = {key: one for key, one in arrays(root / "flat.npz").items() if key.startswith(at)}
    (path,) = root.glob("*.yaml")
    return tensors, yaml.safe_load(path.read_text())["model"][component]


def read(path: Path) -> dict[str, bytes]:
    with open_checkpoint(path) as checkpoint:
        return {key: checkpoint.read(key).tobytes() for key in checkpoint.leaves}


def run(source: Path, to: str, target: Path, **options: Any) -> None:
    with open_source(source) as opened:
        made = make_plan(opened, to, options=Options(**options))
        convert(opened, made, target, threads=2)


@pytest.mark.golden
@pytest.mark.parametrize("component", ENCODERS)
@pytest.mark.parametrize(
    ("name", "release"), [("base", "2.3"), ("base", "2.4"), ("base", "2.9"), ("pooler", "2.9"), ("position_ids", "2.9")]
)
def test_hf_to_cerebras(name: str, release: str, component: str, tmp_path: Path) -> None:
    parsed = tuple(map(int, release.split(".")))
    run(case(name) / "hf" / component, "cerebras", tmp_path / "out.mdl", release=parsed)
    tensors, fields = half(case(name) / f"hf-cs-{release}", component)
    assert read(tmp_path / "out.mdl") == {key: one.tobytes() for key, one in tensors.items()}
    ours = yaml.safe_load((tmp_path / "out.yaml").read_text())["model"]
    theirs = {key: value for key, value in fields.items() if key not in UNUSED}
    assert {key: ours.get(key) for key in theirs} == theirs
    assert detected({"model": ours}) == "cerebras/dpr"


@pytest.mark.golden
@pytest.mark.parametrize("component", ENCODERS)
@pytest.mark.parametrize("release", ["2.3", "2.4", "2.9"])
def test_cerebras_to_hf(component: str, release: str, tmp_path: Path) -> None:
    tensors, fields = half(case("base") / f"hf-cs-{release}", component)
    (tmp_path / "source").mkdir()
    safetensors.save_file(tensors, tmp_path / "source" / "model.safetensors")
    (tmp_path / "source" / "params.yaml").write_text(yaml.safe_dump({"model": fields}))
    run(tmp_path / "source", "hf/dpr", tmp_path / "back")
    root = case("base") / f"cs-{release}-hf" / component
    theirs = owed(arrays(root / "flat.npz"))
    assert read(tmp_path / "back") == {key: one.tobytes() for key, one in theirs.items()}
    written, stated = (json.loads((one / "config.json").read_text()) for one in (tmp_path / "back", root))
    assert {key: written.get(key) for key in stated.keys() - NAMED} == {
        key: stated[key] for key in stated.keys() - NAMED
    }


@pytest.mark.golden
@pytest.mark.parametrize("component", ENCODERS)
@pytest.mark.parametrize("side", ["hf", "cs"])
def test_what_the_real_encoders_computed(side: str, component: str) -> None:
    root = golden_dir("cerebras.tar.gz") / "dpr"
    with np.load(golden_dir("cerebras_forward.tar.gz") / "dpr" / f"forward_{component}.npz") as found:
        recorded = {name: torch.from_numpy(found[name]) for name in found.files}
    if side == "hf":
        config = json.loads((root / "hf" / component / "config.json").read_text())
        tensors = safetensors.load_file(root / "hf" / component / "model.safetensors")
    else:
        tensors, config = half(root / "hf-cs-2.9", component)
    oracle = get_oracle("hf/dpr" if side == "hf" else "cerebras/dpr")(
        config, {key: torch.from_numpy(one) for key, one in tensors.items()}
    )
    inputs = {name: recorded[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in recorded}
    text, expected = oracle.run(inputs).outputs["text"], recorded[f"{side}_logits"]
    expected = expected[:, 0] if expected.ndim == 3 else expected
    assert ((text - expected).abs().max() / expected.abs().max()).item() <= 5e-6


def test_a_projection_is_as_wide_as_the_encoder_and_has_no_activation(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.DPRConfig(
        vocab_size=23,
        hidden_size=12,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=7,
        projection_dim=12,
    )
    transformers.DPRContextEncoder(config).save_pretrained(tmp_path)
    leaves, fields = specs(tmp_path / "model.safetensors"), json.loads((tmp_path / "config.json").read_text())
    made = plan(leaves, fields, "cerebras/dpr")
    assert "model.ctx_encoder.pooler.pooler.ffn.0.linear_layer.weight" in made.target_leaves
    model = made.target_config["model"]
    assert (model["add_pooling_layer"], model["pooler_nonlinearity"]) == (True, "linear")
    back = {key: leaf.spec for key, leaf in made.target_leaves.items() if leaf.spec is not None}
    assert plan(back, made.target_config, "hf/dpr").target_config["projection_dim"] == 12
    bent = {"model": model | {"pooler_nonlinearity": "tanh"}}
    with pytest.raises(ConfigError, match="transformers' projection has no activation"):
        plan(back, bent, "hf/dpr")
    with pytest.raises(ConfigError, match="as wide as the encoder: 12"):
        plan(leaves, fields | {"projection_dim": 5}, "cerebras/dpr")
    narrow = leaves | {"ctx_encoder.encode_proj.weight": TensorSpec((12, 7), "float32")}
    assert "encode_proj.weight" in refused(narrow, fields, "cerebras/dpr")
    without = {key: spec for key, spec in leaves.items() if "encode_proj" not in key}
    assert "projection_dim = 12" in refused(without, fields, "cerebras/dpr")
    corrected = plan(leaves, fields | {"projection_dim": 0}, "cerebras/dpr")
    assert corrected.target_config["model"]["add_pooling_layer"] is True
