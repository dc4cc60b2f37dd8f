"""``--mup-base``: a model becomes muP, computes what it did, and comes back bit by bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mappings.carried import carried, tensors_in
from recorded import Recorded, cerebras

from convkit.cli import main
from convkit.errors import ConfigError, ConvkitError, UsageError
from convkit.execute import convert
from convkit.generate import generate
from convkit.plan import Options, make_plan, open_source

BASES = {"hidden": 16, "filter": 24}
ASKED = {**BASES, "embeddings_scale": 10, "output_logits_alpha": 3, "attention_logits_alpha": 0.5}


def _same(one: Path, other: Path) -> None:
    there, here = tensors_in(one), tensors_in(other)
    assert {key: tensor.tobytes() for key, tensor in there.items()} == {
        key: tensor.tobytes() for key, tensor in here.items()
    }


@pytest.mark.parametrize("model", ["gpt2", "llama_gqa", "bert"])
def test_there_and_back(model: str, tmp_path: Path) -> None:
    """Once more to transformers, without the receipt, the factors are in the weights again, within their rounding."""
    case = Recorded(model, "2.9", here=True)
    layout, hf = cerebras(case.family), f"hf/{case.family}"
    plan = carried(case.hf, layout, tmp_path / "mup.mdl", mup=ASKED)
    assert not plan.exact
    section = yaml.safe_load((tmp_path / "mup.yaml").read_text())["model"]
    assert (section["mup_base_hidden_size"], section["mup_base_filter_size"]) == (16, 24)
    assert section["share_embedding_weights"] is False

    carried(tmp_path / "mup.mdl", hf, tmp_path / "scaled", restore=False)
    sp, scaled = tensors_in(case.hf), tensors_in(tmp_path / "scaled")
    assert sp.keys() <= scaled.keys()
    for key, tensor in sp.items():
        if tensor.dtype.kind == "f":
            np.testing.assert_allclose(scaled[key], tensor, rtol=3e-7, err_msg=key)
    mup, plain = tensors_in(tmp_path / "mup.mdl"), tmp_path / "plain.mdl"
    carried(case.hf, layout, plain)
    divided = {key for key, tensor in tensors_in(plain).items() if tensor.tobytes() != mup[key].tobytes()}
    assert {"word_embeddings", "proj_k_dense_layer"} <= {key.split(".")[-2] for key in divided}

    carried(tmp_path / "mup.mdl", hf, tmp_path / "back", format="torch" if model == "bert" else None)
    _same(case.hf, tmp_path / "back")
    carried(plain, hf, tmp_path / "usual")
    usual, back = ((tmp_path / folder / "config.json").read_text() for folder in ("usual", "back"))
    assert json.loads(back) == json.loads(usual)


def test_within_modelzoo_and_back(tmp_path: Path) -> None:
    """The config of a trainer and what stands beside the model keep their places."""
    case = Recorded("gpt2", "2.9", here=True)
    carried(case.hf, "cerebras/gpt2", tmp_path / "plain.mdl")
    config = yaml.safe_load((tmp_path / "plain.yaml").read_text())
    config = {"trainer": {"init": {"model": config["model"], "optimizer": {"AdamW": {"betas": [0.9, 0.95]}}}}}
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "plain.mdl.convkit.json").unlink()
    carried(tmp_path / "plain.mdl", "cerebras/gpt2", tmp_path / "mup.mdl", "cerebras/gpt2", mup=BASES)
    made = yaml.safe_load((tmp_path / "mup.yaml").read_text())
    assert made["trainer"]["init"]["optimizer"] == config["trainer"]["init"]["optimizer"]
    assert made["trainer"]["init"]["model"]["mup_base_hidden_size"] == 16
    carried(tmp_path / "mup.mdl", "hf/gpt2", tmp_path / "back")
    carried(tmp_path / "plain.mdl", "hf/gpt2", tmp_path / "direct")
    _same(tmp_path / "back", tmp_path / "direct")
    carried(tmp_path / "mup.mdl", "cerebras/gpt2", tmp_path / "other.pt", "cerebras/gpt2", format="torch")
    _same(tmp_path / "mup.mdl", tmp_path / "other.pt")
    carried(tmp_path / "other.pt", "hf/gpt2", tmp_path / "again")
    _same(tmp_path / "again", tmp_path / "direct")


def test_another_format_on_the_way_back(tmp_path: Path) -> None:
    """The undivided weights are carried on; after a cast they don't fit, and the factors are multiplied."""
    case = Recorded("gpt2", "2.9", here=True)
    carried(case.hf, "cerebras/gpt2", tmp_path / "mup.mdl", mup=BASES)
    cs = "cerebras/gpt2"
    carried(tmp_path / "mup.mdl", cs, tmp_path / "one.pt", cs, format="torch")
    carried(tmp_path / "one.pt", cs, tmp_path / "two.mdl", cs)
    carried(tmp_path / "two.mdl", "hf/gpt2", tmp_path / "back")
    _same(case.hf, tmp_path / "back")

    carried(tmp_path / "mup.mdl", cs, tmp_path / "cast.pt", cs, format="torch", dtype="bfloat16")
    plan = carried(tmp_path / "cast.pt", "hf/gpt2", tmp_path / "multiplied")
    assert plan.target_config["tie_word_embeddings"] is False
    made = tensors_in(tmp_path / "multiplied")
    for key, tensor in tensors_in(case.hf).items():
        if tensor.dtype.kind == "f":
            np.testing.assert_allclose(made[key].astype(np.float32), tensor, rtol=0.02, err_msg=key)


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"hidden": 16}, ConfigError, "mup_base_filter_size: is missing"),
        ({"embeddings_scale": 3}, ConfigError, "embeddings_scale"),
        ({**BASES, "output_logits_scale": 0.5}, ConfigError, "output_logits_scale"),
        ({**BASES, "width": 3}, UsageError, "width isn't a field"),
        ({**BASES, "d_kv": 3}, ConfigError, "mup_base_d_kv"),
    ],
)
def test_what_is_asked_must_be_a_whole_set(
    fields: dict[str, Any], error: type[ConvkitError], said: str, tmp_path: Path
) -> None:
    case = Recorded("gpt2", "2.9", here=True)
    with open_source(case.hf) as source, pytest.raises(error, match=said):
        make_plan(source, "cerebras/gpt2", options=Options(mup=fields))


def test_what_can_not_become_mup(tmp_path: Path) -> None:
    case = Recorded("gpt2", "2.9", here=True)
    carried(case.hf, "cerebras/gpt2", tmp_path / "mup.mdl", mup=BASES)
    with open_source(case.hf) as source, pytest.raises(ConfigError, match=r"release 2\.2 doesn't have it"):
        make_plan(source, "cerebras/gpt2", options=Options(mup=BASES, release=(2, 2)))
    with open_source(tmp_path / "mup.mdl") as source:
        with pytest.raises(UsageError, match="--mup-base"):
            make_plan(source, "hf/gpt2", options=Options(mup=BASES))
        with pytest.raises(ConfigError, match="muP already"):
            make_plan(source, "cerebras/gpt2", "cerebras/gpt2", options=Options(mup=BASES))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = Recorded("gpt2", "2.9", here=True)
    words = ["convert", str(case.hf), str(tmp_path / "mup.mdl"), "--to", "cerebras/gpt2", "--mup-base"]
    assert main([*words, "hidden=16,filter=x"]) == 2
    assert "a value is a number, true or false" in capsys.readouterr().err
    assert main([*words, "hidden=16,filter=24,scale_qk_dot_by_d=false"]) == 0
    section = yaml.safe_load((tmp_path / "mup.yaml").read_text())["model"]
    assert section["scale_qk_dot_by_d"] is False
    receipt = json.loads((tmp_path / "mup.mdl.convkit.json").read_text())
    assert receipt["plan"]["names"]["rescaled"]["fields"]["mup_base_hidden_size"] == 16
    assert main(["roundtrip", str(case.hf), str(tmp_path / "mup.mdl")]) == 0


@pytest.mark.parametrize(
    ("uri", "family", "section"),
    [
        ("dpr", "dpr", "model"),
        ("bert?head=none", "dragon", "model"),
        ("dpr-biencoder", "dpr-biencoder", "model.ctx_encoder"),
        ("mllama", "mllama", "model.text_model"),
    ],
)
def test_classes_that_are_not_scaled_refuse_it_by_name(uri: str, family: str, section: str, tmp_path: Path) -> None:
    generate(f"generated://{uri}", tmp_path / "hf")
    with open_source(tmp_path / "hf") as source:
        with pytest.raises(UsageError, match=f"cerebras/{family} can't become muP"):
            make_plan(source, f"cerebras/{family}", options=Options(mup=BASES))
        config = make_plan(source, f"cerebras/{family}").target_config
        convert(source, make_plan(source, f"cerebras/{family}"), tmp_path / "cs.mdl", threads=1)
    (tmp_path / "cs.mdl.convkit.json").unlink()
    found = config
    for name in section.split("."):
        found = found[name]
    found |= {"mup_base_hidden_size": 16, "mup_base_filter_size": 24}
    (tmp_path / "cs.yaml").write_text(yaml.safe_dump(config))
    with open_source(tmp_path / "cs.mdl") as source, pytest.raises(ConfigError) as caught:
        make_plan(source, f"hf/{family}")
    assert str(caught.value.key).split(".")[-1] in ("mup_base_hidden_size", "mup_base_filter_size")
