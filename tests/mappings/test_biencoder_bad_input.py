"""Folders and yamls of retrievers that aren't whole, or contradict themselves: one clear line each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mappings.test_biencoder import recorded

from convkit.cli import main

pytestmark = pytest.mark.golden

Change = Callable[[Path], object]


def config(part: str, **fields: Any) -> Change:
    """Set fields of a part's config; those that are ... are taken out."""

    def change(folder: Path) -> None:
        file = folder / part / "config.json"
        said = json.loads(file.read_text()) | fields
        file.write_text(json.dumps({name: value for name, value in said.items() if value is not ...}))

    return change


def text(part: str, content: str) -> Change:
    return lambda folder: (folder / part / "config.json").write_text(content)


def without(*names: str) -> Change:
    """Take files and folders away."""
    return lambda folder: [
        shutil.rmtree(one) if one.is_dir() else one.unlink() for name in names for one in folder.glob(name)
    ]


def swapped(folder: Path) -> None:
    for old, new in (("q_encoder", "x"), ("ctx_encoder", "q_encoder"), ("x", "ctx_encoder")):
        (folder / old).rename(folder / new)


def twice(folder: Path) -> None:
    """One encoder in both folders."""
    shutil.copytree(folder / "q_encoder", folder / "ctx_encoder", dirs_exist_ok=True)


def broken_link(folder: Path) -> None:
    file = folder / "q_encoder" / "pytorch_model.bin"
    file.unlink()
    file.symlink_to("/nowhere/pytorch_model.bin")


def config_is_a_folder(folder: Path) -> None:
    without("q_encoder/config.json")(folder)
    (folder / "q_encoder" / "config.json").mkdir()


#: what is wrong with a DPR's folders -> what the line says
FOLDERS: dict[str, tuple[Change, str]] = {
    "no part": (without("q_encoder"), "holds no q_encoder/ (dpr is packed of q_encoder/ and ctx_encoder/"),
    "no config": (without("ctx_encoder/config.json"), "ctx_encoder: holds no config.json (add the component's config"),
    "no configs": (without("*/config.json"), "q_encoder: holds no config.json (add the component's config"),
    "no weights": (
        without("q_encoder/*.bin"),
        "q_encoder: holds a config and no weights: config.json (fetch the files of the weights",
    ),
    "an empty part": (without("q_encoder/*"), "q_encoder: holds no config.json"),
    "swapped": (swapped, "they are called ctx_encoder.question_encoder.bert_model"),
    "one encoder twice": (twice, "ctx_encoder.ctx_encoder.bert_model.embeddings.word_embeddings.weight: is missing"),
    "a link that leads nowhere": (broken_link, "is a link to /nowhere/pytorch_model.bin, which isn't there"),
    "a folder for a config": (config_is_a_folder, "q_encoder: holds no config.json"),
    "an array for a config": (
        text("q_encoder", "[1]"),
        "q_encoder/config.json: is not a config: its top level isn't a dict",
    ),
    "half a config": (text("q_encoder", '{"a": '), "q_encoder/config.json: is not valid JSON"),
    "an empty config": (text("q_encoder", "{}"), "it has no q_encoder.model_type ('dpr')"),
    "a BERT beside it": (config("ctx_encoder", model_type="bert"), "ctx_encoder.model_type is 'bert', not 'dpr'"),
    "no projection": (
        config("q_encoder", projection_dim=36),
        "encode_proj.weight: is missing though the config says q_encoder.projection_dim = 36",
    ),
    "a narrower projection": (config("ctx_encoder", projection_dim=14), "ctx_encoder.projection_dim: is 14, but"),
    "other sizes": (config("q_encoder", hidden_size=24), "q_encoder.hidden_size: is 24"),
    "no size": (config("q_encoder", hidden_size=...), "q_encoder.hidden_size"),
    "a size of text": (config("q_encoder", hidden_size="wide"), "q_encoder.hidden_size: is 'wide'"),
    "more layers": (config("ctx_encoder", num_hidden_layers=3), "ctx_encoder.num_hidden_layers"),
}


def refused(words: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that is refused and leaves nothing."""
    assert main([*map(str, words)]) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Traceback" not in said, said
    return said


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("wrong", FOLDERS)
@pytest.mark.parametrize("more", [(), ("--drop-unmatched-keys",)], ids=["", "drop"])
def test_folders(wrong: str, more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "dpr"
    shutil.copytree(recorded("dpr", "base", "hf"), source)
    change, says = FOLDERS[wrong]
    change(source)
    words = ["cerebras", "convert", source, "--model", "dpr", "--src-fmt", "hf", "--tgt-fmt", "cs-2.9"]
    assert says in refused([*words, "--config", source, "--output-dir", tmp_path / "out", *more], capsys)
    assert left_in(tmp_path) == ["dpr"]


def model(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda config: config["model"].update(fields)


def one_encoder(config: dict[str, Any]) -> None:
    config["model"]["encoder"] = config["model"].pop("q_encoder")
    config["model"]["use_biencoder"] = config["model"].pop("ctx_encoder") is None


#: what is wrong with a yaml -> what the line says
YAMLS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no section": (lambda config: config["model"].pop("ctx_encoder"), "ctx_encoder: has no such section"),
    "a list for a section": (model(ctx_encoder=[1]), "ctx_encoder: has no such section"),
    "one encoder": (one_encoder, "q_encoder: has no such section"),
    "the mean": (model(pooler_type="mean"), "pooler_type: is 'mean'"),
    "no pooler": (model(pooler_type="ffn_pooler"), "is missing, as are 1 more"),
    "several runs": (lambda config: config.update(trainer=[{"trainer": {}}]), "trainer is a list of 1 runs"),
    "a size": (
        lambda config: config["model"]["ctx_encoder"].update(hidden_size=24),
        "ctx_encoder.hidden_size: is 24, but",
    ),
}


@pytest.mark.parametrize("wrong", YAMLS)
def test_yamls(wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, says = YAMLS[wrong]
    golden = recorded("dpr", "base", "hf-cs-2.9")
    said = yaml.safe_load((golden / "config_to_cs-2.9.yaml").read_text())
    change(said)
    if wrong == "several runs":
        del said["model"]
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(said))
    source = golden / "pytorch_model_to_cs-2.9.mdl"
    words = ["cerebras", "convert", source, "--model", "dpr", "--src-fmt", "cs-2.9", "--tgt-fmt", "hf"]
    line = refused([*words, "--config", tmp_path / "model.yaml", "--output-dir", tmp_path / "out"], capsys)
    assert says in line
    assert left_in(tmp_path) == ["model.yaml"]


@pytest.mark.parametrize("drop", [(), ("--drop-unmatched-keys",)], ids=["", "drop"])
def test_an_empty_model_is_refused(drop: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of the original's own making, of keys that it doesn't know."""
    golden = recorded("dragon", "masked_lm_keys_drop", "hf-cs-2.9")
    words = ["cerebras", "convert", golden / "pytorch_model_to_cs-2.9.mdl", "--model", "dragon"]
    words += ["--src-fmt", "cs-2.9", "--tgt-fmt", "hf", "--config", golden / "config_to_cs-2.9.yaml"]
    line = refused([*words, "--output-dir", tmp_path / "out", *drop], capsys)
    assert "question_encoder.embedding_layer.word_embeddings.weight: is missing" in line
    assert not left_in(tmp_path)


@pytest.mark.parametrize(("given", "other"), [("dpr", "dragon"), ("dragon", "dpr")])
def test_the_other_models_name(given: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = recorded(given, "base", "hf")
    words = ["cerebras", "convert", source, "--model", other, "--src-fmt", "hf", "--tgt-fmt", "cs-2.9"]
    line = refused([*words, "--config", source, "--output-dir", tmp_path / "out"], capsys)
    assert f"it is one of hf/{given}-biencoder (correct --model" in line


def test_a_bert_is_no_dprs_pooler(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = recorded("dragon", "base", "hf-cs-2.9")
    shutil.copy(golden / "pytorch_model_to_cs-2.9.mdl", tmp_path / "m.mdl")
    said = yaml.safe_load((golden / "config_to_cs-2.9.yaml").read_text())
    said["model"]["pooler_type"] = "ffn_pooler"
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(said))
    words = ["convert", tmp_path / "m.mdl", tmp_path / "out", "--to", "hf/dragon-biencoder"]
    assert "pooler_type: is 'ffn_pooler', but a BERT has no projection" in refused(words, capsys)


def test_a_link_to_a_part_that_leads_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(recorded("dpr", "base", "hf"), tmp_path / "dpr")
    shutil.rmtree(tmp_path / "dpr" / "q_encoder")
    (tmp_path / "dpr" / "q_encoder").symlink_to("nowhere")
    line = refused(["convert", tmp_path / "dpr", tmp_path / "out.mdl", "--to", "cerebras"], capsys)
    assert "q_encoder is a link to nowhere, which isn't there" in line


def test_parts_of_no_known_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(recorded("dpr", "base", "hf"), tmp_path / "dpr")
    (tmp_path / "dpr" / "q_encoder").rename(tmp_path / "dpr" / "other_encoder")
    line = refused(["convert", tmp_path / "dpr", tmp_path / "out.mdl", "--to", "cerebras"], capsys)
    assert "no known model has these parts" in line and "hf/dpr-biencoder in q_encoder/ and ctx_encoder/" in line
