"""A BERT for summaries, which no framework but Cerebras has: only its format changes, and it's known by its yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from recorded import Recorded, arrays
from test_detection import detected

from convkit.cli import main
from convkit.errors import UsageError
from convkit.formats import open_checkpoint
from convkit.mappings import find_mapping
from convkit.oracles.opening import open_model
from convkit.verify.equivalence import equivalence

NAME = "cerebras/bert-summarization"
GOLDEN = Recorded("bert_qa", "2.9", here=True)
FIELDS: dict[str, Any] = {
    **{key: value for key, value in GOLDEN.cerebras_config()["model"].items() if key != "disable_nsp"},
    "name": "bert/extractive_summarization",
    "num_labels": 2,
    "loss_weight": 0.05,
    "use_cls_bias": False,
}


def test_it_is_known_by_its_name_and_by_its_fields() -> None:
    assert detected({"model": FIELDS}) == NAME
    assert detected({"trainer": {"init": {"model": FIELDS}}}) == NAME
    early = {"vocab_size": 5, "hidden_size": 8, "dropout_rate": 0.1, "use_cls_bias": True, "vocab_file": "words.txt"}
    assert detected({"model": early}) == NAME
    assert detected({"model": {"name": "bert", "hidden_size": 8}}) == "cerebras/bert"


def test_there_is_no_way_out_of_cerebras() -> None:
    with pytest.raises(UsageError, match="no mapping between"):
        find_mapping(NAME, "hf/bert")


def test_its_format_changes(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = dict(arrays(GOLDEN.to_cerebras / "flat.npz"))
    del tensors["model.classifier.bias"]
    (tmp_path / "source").mkdir()
    safetensors.save_file(tensors, tmp_path / "source" / "model.safetensors")
    config = {"model": FIELDS, "optimizer": {"Adam": {"eps": 1e-6}}}
    (tmp_path / "source" / "params.yaml").write_text(yaml.safe_dump(config))

    written, back = tmp_path / "out.mdl", tmp_path / "back"
    assert main(["convert", str(tmp_path / "source"), str(written), "--to", NAME]) == 0
    assert main(["convert", str(written), str(back), "--to", NAME, "--format", "safetensors"]) == 0
    assert yaml.safe_load(written.with_suffix(".yaml").read_text()) == config
    assert yaml.safe_load((back / "params.yaml").read_text()) == config
    for path in (written, back):
        with open_checkpoint(path) as checkpoint:
            assert {key: checkpoint.read(key).tobytes() for key in checkpoint.leaves} == {
                key: np.ascontiguousarray(tensor).tobytes() for key, tensor in tensors.items()
            }
    verdict = equivalence(tmp_path / "source", written, probe_length=16)
    assert verdict.measured["max_rel"] == 0
    assert open_model(written).oracle.has("head.classifier.weight")


@pytest.mark.parametrize(("source", "target"), [("2.9", "2.0"), ("2.9", "2.2")])
def test_from_release_to_release(source: str, target: str, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    (tmp_path / "here").mkdir()
    safetensors.save_file(dict(arrays(GOLDEN.to_cerebras / "flat.npz")), tmp_path / "here" / "model.safetensors")
    (tmp_path / "here" / "params.yaml").write_text(yaml.safe_dump({"model": FIELDS}))
    path, config, out = tmp_path / "here" / "model.safetensors", tmp_path / "here" / "params.yaml", tmp_path / "out"
    for before, after in ((source, target), (target, source)):
        words = ["--model", "bert-summarization", "--src-fmt", f"cs-{before}", "--tgt-fmt", f"cs-{after}"]
        more = ["--config", str(config), "--output-dir", str(out), "-q"]
        assert main(["cerebras", "convert", str(path), *words, *more]) == 0
        path, config = (next(out.glob(f"*_to_cs-{after}.{end}")) for end in ("mdl", "yaml"))
    with open_checkpoint(path) as checkpoint:
        for key, array in arrays(GOLDEN.to_cerebras / "flat.npz").items():
            assert checkpoint.read(key).tobytes() == array.tobytes()
    assert yaml.safe_load(config.read_text())["model"] == FIELDS
