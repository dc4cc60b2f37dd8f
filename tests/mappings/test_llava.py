"""LLaVA: a vision tower, a projector and a language model in folders, against what ModelZoo's converter recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from goldens import golden_dir
from msgspec.structs import replace

from convkit.checkpoint import WriteOptions
from convkit.cli import main
from convkit.config.tree import dig, plant, uproot
from convkit.errors import ConvkitError
from convkit.execute import convert
from convkit.formats import get_format, open_checkpoint
from convkit.mappings import find_mapping
from convkit.plan import Options, make_plan, open_source
from convkit.plan.detect import detect_layout

#: cases of each model, each with the releases that were recorded
CASES = {
    "llava": {
        "base": ("2.2", "2.3", "2.4", "2.9"),
        "proj1": ("2.2", "2.9"),
        "clipmodel": ("2.9",),
        "mm_defaults": ("2.9",),
    },
    "mmsimple-llava": {
        "base": ("2.3", "2.4", "2.9"),
        "proj1": ("2.3", "2.9"),
        "clipmodel": ("2.9",),
        "mm_defaults": ("2.9",),
    },
}
EACH = [(model, case, one) for model, cases in CASES.items() for case, releases in cases.items() for one in releases]
LAYOUTS = {"llava": "cerebras/llava", "mmsimple-llava": "cerebras/multimodal_simple"}
#: the vision tower's section, by model and release
TOWER = {"llava": "image_model", "mmsimple-llava": "image_model_list.image_models.0.image_encoder"}
TOWER_BEFORE = TOWER | {"mmsimple-llava": "image_model_list.image_models.0.image_model.0"}
#: what the original's yaml says, and no class of 2.10 takes; the first two in the vision tower's section
REJECTED = {
    "num_classes",
    "use_bias_in_output",
    "model.text_model.norm_first",
    "model.text_model.use_ff_layer1_dropout",
    "model.label_smoothing",
    "model.z_loss_eps",
}
#: what we say in transformers' configs, and the original doesn't; of the tower, it says a path of its machine
MORE = {
    "image_model.architectures": ["CLIPVisionModel"],
    "text_model.attention_bias": False,
    "text_model.attention_dropout": 0.0,
    "text_model.mlp_bias": False,
    "text_model.mm_vision_tower": "image_model",
}


def recorded(case: str, *parts: str, model: str = "llava") -> Path:
    return golden_dir("cerebras_more.tar.xz", "packed/").joinpath("packed", model, case, *parts)


def flat(document: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each field by its path; a section in a list has its place in it."""
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        inside = isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict | list))
        yield from flat(value, f"{prefix}{key}.") if inside else [(f"{prefix}{key}", value)]


def same_tensors(path: Path, expected: Path) -> None:
    with np.load(expected) as arrays, open_checkpoint(path) as checkpoint:
        assert {key for key, leaf in checkpoint.leaves.items() if leaf.spec} == set(arrays.files)
        for key in arrays.files:
            assert checkpoint.read(key).tobytes() == arrays[key].tobytes(), key


def carried(source: Path, target: Path, left: str, right: str, release: tuple[int, ...] = (2, 9)) -> Path:
    with open_source(source) as opened:
        assert detect_layout(opened, to=right)[0].name == left
        convert(opened, make_plan(opened, find_mapping(left, right), options=Options(release=release)), target)
    return target


def there(source: Path, target: Path, release: tuple[int, ...] = (2, 9), model: str = "llava") -> Path:
    return carried(source, target, "hf/llava", LAYOUTS[model], release)


def back(source: Path, target: Path, model: str = "llava") -> Path:
    return carried(source, target, LAYOUTS[model], "hf/llava")


def config_of(path: Path) -> dict[str, Any]:
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.config
        return checkpoint.config


@pytest.mark.golden
@pytest.mark.parametrize(("model", "case", "release"), EACH)
def test_it_is_what_the_original_makes(model: str, case: str, release: str, tmp_path: Path) -> None:
    golden = recorded(case, f"hf-cs-{release}", model=model)
    number = tuple(map(int, release.split(".")))
    made = there(recorded(case, "hf", model=model), tmp_path / "m.mdl", number, model)
    same_tensors(made, golden / "flat.npz")
    theirs = dict(flat(yaml.safe_load((golden / f"config_to_cs-{release}.yaml").read_text())))
    ours = dict(flat(yaml.safe_load((tmp_path / "m.yaml").read_text())))
    assert {**theirs, **ours} == theirs
    tower = (TOWER if number >= (2, 4) else TOWER_BEFORE)[model]
    assert theirs.keys() - ours.keys() == {one if "." in one else f"model.{tower}.{one}" for one in REJECTED}


@pytest.mark.golden
@pytest.mark.parametrize(("model", "case", "release"), EACH)
def test_it_comes_back_as_the_original_says(model: str, case: str, release: str, tmp_path: Path) -> None:
    golden = recorded(case, f"cs-{release}-hf", model=model)
    source = recorded(case, f"hf-cs-{release}", f"pytorch_model_to_cs-{release}.mdl", model=model)
    made = back(source, tmp_path / "hf", model)
    for name in ("image_model", "text_model"):
        same_tensors(made / name, golden / name / "flat.npz")
        theirs, ours = (dict(flat(json.loads((at / name / "config.json").read_text()))) for at in (golden, made))
        more = {key: value for key, value in ours.items() if theirs.get(key, "nothing") != value}
        assert {f"{name}.{key}": value for key, value in more.items()}.items() <= MORE.items()
        assert theirs.keys() <= ours.keys()
    document = "preprocessor_config.json"
    theirs, ours = (json.loads((at / "image_model" / document).read_text()) for at in (golden, made))
    assert theirs == ours


@pytest.mark.golden
@pytest.mark.parametrize(("model", "case"), [(model, case) for model, cases in CASES.items() for case in cases])
@pytest.mark.parametrize("format", ["folders", "folders-torch"])
def test_a_round_trip_restores_everything(model: str, case: str, format: str, tmp_path: Path) -> None:
    """Also the language model and the projections of a whole CLIP, how images are prepared, and the fields."""
    source = recorded(case, "hf", model=model)
    made = there(source, tmp_path / "m.mdl", model=model)
    with open_source(made) as opened:
        plan = make_plan(opened, find_mapping(LAYOUTS[model], "hf/llava"), options=Options(format=format))
        convert(opened, plan, tmp_path / "back")
    assert main(["diff", str(source), str(tmp_path / "back")]) == 0
    assert config_of(tmp_path / "back") == config_of(source)
    assert main(["roundtrip", str(source), str(made)]) == 0
    assert main(["roundtrip", str(made), str(tmp_path / "back")]) == 0
    assert main(["verify", str(tmp_path / "back")]) == 0


@pytest.mark.golden
def test_a_trainers_yaml_is_understood(tmp_path: Path) -> None:
    made = there(recorded("base", "hf"), tmp_path / "m.mdl")
    config = yaml.safe_load((tmp_path / "m.yaml").read_text())
    (tmp_path / "m.mdl.convkit.json").unlink()
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({"trainer": {"init": config}}))
    same_tensors(back(made, tmp_path / "hf") / "text_model", recorded("base", "cs-2.9-hf", "text_model", "flat.npz"))


@pytest.mark.golden
@pytest.mark.parametrize("layer", [1, 2, 3, -1, -3])
@pytest.mark.parametrize("tuned", [True, False])
def test_what_is_trained_and_where_features_come_from_survive(layer: int, tuned: bool) -> None:
    config = config_of(recorded("base", "hf"))
    config["text_model"] |= {"tune_mm_mlp_adapter": tuned, "mm_vision_select_layer": layer}
    table = find_mapping("hf/llava", "cerebras/llava").config
    made = table.convert(config).config
    assert made["model"]["image_feature_select_layer_idx"] == (layer - 1 if layer > 0 else layer)
    assert made["model"]["freeze"] == ["^image_model", "^text_model"][: 1 + tuned]
    again = table.inverse().convert(made).config["text_model"]
    assert (again["tune_mm_mlp_adapter"], again["mm_vision_select_layer"]) == (tuned, layer)


WRONG_LEFT = [
    ("text_model.mm_hidden_size", 31, "is 31, but the vision tower has 30"),
    ("text_model.mm_projector_type", "linear", "'linear' has no counterpart"),
    ("text_model.mm_projector_type", "mlp3x_gelu", "mm_projector.4.weight: is missing"),
    ("text_model.mm_projector_type", "mlp1x_gelu", "mm_projector_type says another projector"),
    ("text_model.mm_vision_select_layer", 0, "is 0: what enters the first layer"),
    ("text_model.mm_vision_select_layer", 4, "is 4 .it names one of 3 layers"),
    ("text_model.mm_use_im_start_end", True, "is True, but this layout has False"),
    ("text_model.mm_use_im_patch_token", True, "is True, but this layout has False"),
    ("text_model.mm_vision_select_feature", "cls", "'cls' has no counterpart"),
]
WRONG_RIGHT = [
    ("model.projector.image_model.input_unit", 31, "is 31 .transformers' LLaVA has 30 there"),
    ("model.projector.image_model.layers_units", [36], r"is \[36\]"),
    ("model.projector.image_model.layers_activation", ["relu", None], "has no counterpart"),
    ("model.projector.image_model.use_bias", False, "is False"),
    ("model.projector", None, "projector.image_model: is missing"),
    ("model.image_feature_select_layer_idx", 3, "is 3 .it names one of 3 layers"),
]


@pytest.mark.golden
@pytest.mark.parametrize(("field", "value", "why"), WRONG_LEFT)
def test_a_config_that_does_not_fit_is_refused(field: str, value: Any, why: str) -> None:
    mapping = find_mapping("hf/llava", "cerebras/llava")
    with open_source(recorded("base", "hf")) as source:
        assert source.config
        plant(source.config, field, value)
        with pytest.raises(ConvkitError, match=why):
            make_plan(source, mapping)


@pytest.mark.golden
@pytest.mark.parametrize(("field", "value", "why"), WRONG_RIGHT)
def test_a_yaml_that_does_not_fit_is_refused(field: str, value: Any, why: str) -> None:
    mapping = find_mapping("cerebras/llava", "hf/llava")
    with open_source(recorded("base", "hf-cs-2.9", "pytorch_model_to_cs-2.9.mdl")) as source:
        assert source.config
        uproot(source.config, field) if value is None else plant(source.config, field, value)
        with pytest.raises(ConvkitError, match=why):
            make_plan(source, mapping)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("noproj", "text_model.model.mm_projector.0.weight: is missing"),
        ("plain_llama_text", "text_model.model.mm_projector.0.weight: is missing|mm_hidden_size"),
        ("neg_mmhidden", "mm_hidden_size: is 31"),
        ("neg_startend", "mm_use_im_start_end"),
        ("neg_patchtok", "mm_use_im_patch_token"),
        ("neg_projtype", "mm_projector_type"),
    ],
)
def test_what_the_original_refuses_is_refused(
    case: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(recorded(case, "hf")), str(tmp_path / "m.mdl"), "--to", "cerebras/llava"]) == 3
    said = capsys.readouterr().err
    assert any(one in said for one in why.split("|")), said
    assert said.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.golden
def test_a_tower_in_safetensors_is_read(tmp_path: Path) -> None:
    """The original refuses a single file of this format."""
    same_tensors(there(recorded("neg_single_st", "hf"), tmp_path / "m.mdl"), recorded("base", "hf-cs-2.9", "flat.npz"))


@pytest.mark.golden
def test_a_tower_within_the_language_model_is_left_behind(tmp_path: Path) -> None:
    """As in checkpoints of LLaVA's authors, which hold it twice; it comes back."""
    with open_checkpoint(recorded("base", "hf")) as checkpoint:
        extra = "text_model.model.vision_tower.vision_tower.{}"
        leaves = list(checkpoint.leaves.values())
        tower = [leaf for leaf in leaves if leaf.key.startswith("image_model.vision_model.encoder.layers.0.")]
        more = {extra.format(leaf.key): leaf.key for leaf in tower}
        every = [*leaves, *(replace(checkpoint.leaves[of], key=key) for key, of in more.items())]
        writer = get_format("folders").create(tmp_path / "hf", every, WriteOptions(config=checkpoint.config))
        for leaf in every:
            writer.write(leaf.key, 0, checkpoint.read(more.get(leaf.key, leaf.key)))
            writer.finish(leaf.key)
        writer.commit()
        writer.close()
    made = there(tmp_path / "hf", tmp_path / "m.mdl")
    same_tensors(made, recorded("base", "hf-cs-2.9", "flat.npz"))
    back(made, tmp_path / "back")
    assert main(["diff", str(tmp_path / "hf"), str(tmp_path / "back")]) == 0


@pytest.mark.golden
@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("image_models.1", {"image_encoder": {"name": "ViTModel"}}, r"image_models\.1: is there"),
        ("image_models.0.projection_layer", {"name": "MLP"}, r"0\.projection_layer: is there"),
        ("image_models.0.image_encoder.image_layer_idx", 3, "is 3 .it names one of 3 layers"),
        ("another", True, "another: is True"),
    ],
)
def test_more_than_one_tower_is_refused(field: str, value: Any, why: str) -> None:
    cs = recorded("base", "hf-cs-2.9", "pytorch_model_to_cs-2.9.mdl", model="mmsimple-llava")
    with open_source(cs) as source:
        assert source.config
        plant(source.config, f"model.image_model_list.{field}", value)
        with pytest.raises(ConvkitError, match=why):
            make_plan(source, find_mapping("cerebras/multimodal_simple", "hf/llava"))


@pytest.mark.golden
def test_a_tower_lies_where_the_release_has_it(tmp_path: Path) -> None:
    """Also with the receipt of a conversion from another release, which has kept a field there."""
    cs = tmp_path / "source.mdl"
    cs.write_bytes(recorded("base", "hf-cs-2.9", "pytorch_model_to_cs-2.9.mdl", model="mmsimple-llava").read_bytes())
    config = yaml.safe_load(recorded("base", "hf-cs-2.9", "config_to_cs-2.9.yaml", model="mmsimple-llava").read_text())
    config["model"]["image_model_list"]["image_models"][0]["image_encoder"]["mine"] = 7
    (tmp_path / "source.yaml").write_text(yaml.safe_dump(config))
    hf = back(cs, tmp_path / "hf", "mmsimple-llava")
    for release, place in (((2, 3), TOWER_BEFORE), ((2, 4), TOWER)):
        made = there(hf, tmp_path / f"{release[1]}.mdl", release, "mmsimple-llava")
        written = yaml.safe_load(made.with_suffix(".yaml").read_text())
        tower = dig(written, f"model.{place['mmsimple-llava']}")
        assert (tower["mine"], tower["image_layer_idx"], tower["hidden_size"]) == (7, -2, 30)
        assert len(written["model"]["image_model_list"]["image_models"][0]) == 1
        assert main(["diff", str(made), str(cs)]) == 0


@pytest.mark.parametrize("depth", [1, 9, 40])
def test_a_projector_may_have_any_depth(depth: int) -> None:
    table = find_mapping("hf/llava", "cerebras/llava").config
    config = {
        "image_model": {"model_type": "clip_vision_model", "hidden_size": 8, "num_attention_heads": 2},
        "text_model": {"model_type": "llava", "hidden_size": 16, "num_attention_heads": 4, "mm_hidden_size": 8,
                       "mm_projector_type": f"mlp{depth}x_gelu"},
    }  # fmt: skip
    made = table.convert(config)
    assert made.config["model"]["projector"]["image_model"]["layers_units"] == [16] * depth
    assert made.names["projector"] == depth
    assert table.inverse().convert(made.config).config["text_model"]["mm_projector_type"] == f"mlp{depth}x_gelu"
