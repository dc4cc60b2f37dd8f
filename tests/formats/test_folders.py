"""Several checkpoints of transformers as one: what lies in the folders, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.errors import ConvkitError
from convkit.formats import detect_format, get_format, open_checkpoint
from convkit.testing import Sample, bits, check_equal, write

SPECS = {
    "image_model.table": TensorSpec((7, 3), "float32"),
    "image_model.layers.0.norm": TensorSpec((5,), "bfloat16"),
    "text_model.table": TensorSpec((4, 3), "float16"),
    "text_model.head": TensorSpec((400,), "float32"),
}
CONFIG = {
    "image_model": {"model_type": "clip_vision_model", "eps": 1e-5},
    "text_model": {"model_type": "llava"},
    "preprocessor_config": {"image_model": {"size": 224}},
}
SAMPLE = Sample(
    tuple(Leaf(key, spec) for key, spec in SPECS.items()),
    {key: bits(spec, seed) for seed, (key, spec) in enumerate(SPECS.items())},
)


def written(path: Path, format: str = "folders", **options: object) -> Path:
    return write(get_format(format), path, SAMPLE, Random(0), options=WriteOptions(config=CONFIG, **options))  # type: ignore[arg-type]


def read(path: Path) -> dict | None:
    """Check that all leaves are there, and return the config."""
    with open_checkpoint(path) as checkpoint:
        check_equal(checkpoint, SAMPLE)
        return checkpoint.config


@pytest.mark.parametrize(
    ("format", "single"), [("folders", "model.safetensors"), ("folders-torch", "pytorch_model.bin")]
)
def test_each_component_is_a_checkpoint_of_its_own(tmp_path: Path, format: str, single: str) -> None:
    path = written(tmp_path / "out", format)
    assert detect_format(path)[0].name == format
    for name in ("image_model", "text_model"):
        assert json.loads((path / name / "config.json").read_text()) == CONFIG[name]
        with open_checkpoint(path / name) as component:
            assert set(component.leaves) == {key.removeprefix(f"{name}.") for key in SPECS if key.startswith(name)}
            assert component.files() == [path / name / single]
    assert json.loads((path / "image_model" / "preprocessor_config.json").read_text()) == {"size": 224}
    assert read(path) == CONFIG


def test_components_may_differ_in_format_and_be_sharded(tmp_path: Path) -> None:
    path = written(tmp_path / "out", shard_size=100)
    assert (path / "text_model" / "model.safetensors.index.json").is_file()
    shutil.rmtree(path / "image_model")
    shutil.move(written(tmp_path / "other", "folders-torch", indexed=True) / "image_model", path)
    assert detect_format(path)[0].name == "folders"
    assert read(path) == CONFIG


def test_what_lies_beside_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "out")
    (path / "text_model" / "code.py").touch()
    (path / "image_model" / "README.md").touch()
    (path / "notes.txt").touch()
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.metadata == {"companions": ["notes.txt", "text_model/code.py"]}


def test_a_component_without_its_config_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "out")
    (path / "text_model" / "config.json").unlink()
    with pytest.raises(ConvkitError, match=r"text_model: holds no config\.json"):
        open_checkpoint(path)
    (path / "image_model" / "config.json").unlink()
    (path / "image_model" / "preprocessor_config.json").unlink()
    assert read(path) is None


def test_folders_of_trainings_are_no_components(tmp_path: Path) -> None:
    """Checkpoints of one training lie side by side, too; and what holds weights of its own is a checkpoint."""
    path = written(tmp_path / "out")
    for number, name in enumerate(("image_model", "text_model")):
        (path / name).rename(path / f"checkpoint-{number}")
    with pytest.raises(ConvkitError, match="isn't a checkpoint itself, but holds 2 checkpoints"):
        open_checkpoint(path)
    shutil.copy(path / "checkpoint-0" / "model.safetensors", path)
    assert detect_format(path)[0].name == "safetensors"


def test_folders_of_models_are_several_checkpoints(tmp_path: Path) -> None:
    """Unless the format is named: then they are components, whatever they are called."""
    path = written(tmp_path / "out")
    (path / "text_model").rename(path / "llama")
    with pytest.raises(ConvkitError, match="holds 2 checkpoints in its folders: image_model, llama"):
        detect_format(path)
    assert "llama.head" in get_format("folders").open(path).leaves


def test_a_leaf_of_no_component_is_refused(tmp_path: Path) -> None:
    for key in ("table", "0.table", "a-b.table"):
        with pytest.raises(ConvkitError, match="belongs to no component") as refusal:
            get_format("folders").create(tmp_path / "out", [Leaf(key, SPECS["text_model.head"])], WriteOptions())
        assert refusal.value.key == key


def test_parts_of_other_names_are_told_how_to_be_one(tmp_path: Path) -> None:
    path = written(tmp_path / "out")
    for name in ("image_model", "text_model"):
        (path / name).rename(path / name.removesuffix("_model"))
    with pytest.raises(ConvkitError, match="if they are parts of one model: --source-format folders"):
        detect_format(path)
    with open_checkpoint(path, "folders") as checkpoint:
        assert {key.partition(".")[0] for key in checkpoint.leaves} == {"image", "text"}


@pytest.mark.parametrize("format", ["folders", "folders-torch"])
def test_a_component_without_weights_is_named(tmp_path: Path, format: str) -> None:
    path = written(tmp_path / "out", format)
    for file in (path / "text_model").iterdir():
        if file.name != "config.json":
            file.unlink()
    assert detect_format(path)[0].name == format
    with pytest.raises(ConvkitError, match="text_model: holds a config and no weights"):
        open_checkpoint(path)
