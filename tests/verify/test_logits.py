"""``convkit logits`` gives what the real models compute, in the memory of one stage, or says what is wrong."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from goldens import golden_dir
from paired_models import Pair, bert, gpt2, llama
from safetensors.numpy import save_file
from te.te_runs import forward, unpacked

from convkit.cli import main
from convkit.generate import generate
from convkit.oracles.opening import open_model
from convkit.verify.equivalence import outputs as outputs_module
from convkit.verify.equivalence.outputs import outputs

torch.set_num_threads(1)

Arrays = dict[str, np.ndarray]


def write(folder: Path, tensors: dict[str, Any], config: dict[str, Any]) -> Path:
    """A checkpoint: a JSON config where it names a model of transformers, otherwise a yaml."""
    folder.mkdir()
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / "model.safetensors")
    if "model_type" in config:
        (folder / "config.json").write_text(json.dumps(config))
    else:
        (folder / "params.yaml").write_text(yaml.safe_dump({"model": config}))
    return folder


def logits(source: Path, inputs: Arrays, *options: str) -> Arrays:
    """What the command writes."""
    ids, out = source.parent / "ids.npz", source.parent / "out" / "logits.npz"
    np.savez(ids, **inputs)
    assert main(["logits", str(source), "--ids", str(ids), "--out", str(out), *options]) == 0
    assert [path.name for path in out.parent.iterdir()] == ["logits.npz"]
    with np.load(out) as found:
        return dict(found)


def apart(found: np.ndarray, expected: Any) -> float:
    expected = np.asarray(expected)
    assert found.shape == expected.shape and found.dtype == np.float32
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture
def sliced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads run in many slices of the vocabulary."""
    monkeypatch.setattr(outputs_module, "SLICE", 200)


#: recorded model -> its layouts, and its heads
RECORDED = {
    "llama_gqa": ("llama", ["lm"]),
    "llama_tied": ("llama", ["lm"]),
    "gpt2": ("gpt2", ["lm"]),
    "gptj": ("gptj", ["lm"]),
    "bert": ("bert", ["mlm", "nsp"]),
    "t5_gated": ("t5", ["lm"]),
}


@pytest.mark.golden
@pytest.mark.usefixtures("sliced")
@pytest.mark.parametrize(
    ("family", "side"),
    [(family, side) for family in RECORDED for side in ("cs", "hf") if (family, side) != ("t5_gated", "hf")],
)
def test_recorded_models(family: str, side: str, tmp_path: Path) -> None:
    folder, (layout, heads) = golden_dir("cerebras_forward.tar.gz") / family / "strong", RECORDED[family]
    if side == "hf":
        config = json.loads((golden_dir("cerebras.tar.gz") / family / "hf" / "config.json").read_text())
    else:
        config = yaml.safe_load((folder / "params.yaml").read_text())["model"]
    recorded = dict(np.load(folder / "forward.npz"))
    inputs = {name: array for name, array in recorded.items() if "logits" not in name}
    framework = "cerebras" if side == "cs" else "hf"
    source = write(tmp_path / "model", dict(np.load(folder / f"{side}.npz")), config)
    found = logits(source, inputs, "--from", f"{framework}/{layout}")
    assert [*found] == heads
    for head, name in zip(heads, (f"{side}_logits", f"{side}_logits2"), strict=False):
        assert apart(found[head], recorded[name]) <= 5e-6


@pytest.mark.golden
@pytest.mark.usefixtures("sliced")
@pytest.mark.parametrize(
    ("name", "layout", "names"),
    [
        ("t5x_adamw", "t5x/t5", {"enc": "input_ids", "dec": "decoder_input_ids"}),
        ("pax_repeat", "pax/lm-repeat", {"ids": "input_ids"}),
    ],
)
def test_recorded_models_of_jax(name: str, layout: str, names: dict[str, str], tmp_path: Path) -> None:
    (step,) = (unpacked("sources") / name).iterdir()
    source = tmp_path / "model"
    source.symlink_to(step)
    recorded = forward("t5x" if "t5x" in name else name)
    found = logits(source, {ours: recorded[theirs] for theirs, ours in names.items()}, "--from", layout)
    np.testing.assert_allclose(found["lm"], recorded["logits"], rtol=0, atol=1e-4)


def base_of_llama() -> Pair:
    pair = llama()
    return replace(pair, hf={key.removeprefix("model."): pair.hf[key] for key in pair.hf if "lm_head" not in key})


MODELS: dict[str, Callable[[], Pair]] = {
    "LlamaForCausalLM": llama,
    "LlamaModel": base_of_llama,
    "GPT2LMHeadModel": gpt2,
    "BertForPreTraining": bert,
    "BertModel": partial(bert, "none"),
}
#: output -> its name in what transformers' models return
FIELDS = {
    "lm": "logits",
    "mlm": "prediction_logits",
    "nsp": "seq_relationship_logits",
    "final": "last_hidden_state",
    "pooled": "pooler_output",
}


@pytest.mark.usefixtures("sliced")
@pytest.mark.parametrize("name", MODELS)
def test_models_of_transformers(name: str, tmp_path: Path) -> None:
    import transformers

    pair = MODELS[name]()
    source, config = write(tmp_path / "model", pair.hf, pair.hf_config), pair.hf_config
    generator = np.random.default_rng(0)
    mask = np.ones((2, 12), bool)
    mask[1, 9:] = False
    inputs = {
        "attention_mask": mask,
        "input_ids": generator.integers(config["vocab_size"], size=(2, 12), dtype=np.int32),
    }
    if name.startswith("Bert"):
        inputs["token_type_ids"] = np.repeat(np.arange(2, dtype=np.uint8), 6)[None].repeat(2, 0)
    found = logits(source, inputs)
    model = getattr(transformers, name).from_pretrained(source, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        expected = model(**{key: torch.from_numpy(array.astype(np.int64)) for key, array in inputs.items()})
    assert found and all(apart(array, expected[FIELDS[head]]) <= 5e-6 for head, array in found.items())
    assert set(found) == {head for head, field in FIELDS.items() if field in expected}


@pytest.mark.parametrize("name", ["vit", "clip-vit"])
def test_pixels(name: str, tmp_path: Path) -> None:
    """Of the library's own model; whole numbers are pixels too."""
    import transformers

    generate(f"generated://{name}?layers=1", tmp_path / "model")
    classes = {"vit": "ViTForImageClassification", "clip-vit": "CLIPVisionModelWithProjection"}
    model = getattr(transformers, classes[name]).from_pretrained(tmp_path / "model", attn_implementation="eager")
    shape = (2, 7, 33, 44 if name == "vit" else 33)
    pixels = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    (found,) = logits(tmp_path / "model", {"pixel_values": pixels}).values()
    with torch.no_grad():
        expected = model(pixel_values=torch.from_numpy(pixels.astype(np.float32)))
    assert apart(found, expected[0]) <= 5e-6


@pytest.mark.usefixtures("sliced")
@pytest.mark.parametrize("side", ["hf", "cs"])
def test_memory_is_that_of_the_largest_stage(side: str, tmp_path: Path) -> None:
    pair = llama(vocab=400, tied=True)
    tensors, config = (pair.hf, pair.hf_config) if side == "hf" else (pair.cs, pair.cs_config)
    with open_model(write(tmp_path / "model", tensors, config)) as opened:
        oracle, stages = opened.oracle, dict[str, int]()
        for role, part in oracle.roles.items():
            if part.key not in oracle.tables:
                stage = oracle.stage_of(role)
                stages[stage] = stages.get(stage, 0) + 4 * tensors[part.key].numel()
        ids = torch.arange(8)[None]
        found = list(outputs(oracle, opened.tensors, {"input_ids": ids}))
        assert len(found) > 10 and sum(some.values.shape[-1] for some in found) == found[0].width == 400
        # of the embedding, eight rows at most are in memory, or a slice
        assert 0 < opened.read.alive.peak <= max(stages.values())
        gc.collect()
        assert opened.read.alive.bytes == 0


IDS = np.zeros((2, 8), np.int64)
GIVEN = {"input_ids": IDS, "attention_mask": IDS + 1, "token_type_ids": IDS}
#: what is wrong: the model, its input, the array that is named, the problem, the remedy
BAD: dict[str, tuple[str, dict[str, Any], str, str, str]] = {
    "missing": ("bert", {"attention_mask": IDS}, "input_ids", "missing", "the model needs it"),
    "not the model's": ("gpt2", GIVEN, "token_type_ids", "the model doesn't take it", "input_ids, attention_mask"),
    "floats": ("bert", GIVEN | {"input_ids": IDS + 0.5}, "input_ids", "its dtype is float64", "whole numbers"),
    "text": ("bert", {"input_ids": np.array([["a"]])}, "input_ids", "its dtype is <U1", "whole numbers"),
    "one axis": ("bert", {"input_ids": IDS[0]}, "input_ids", "its shape is [8]", "[batch, positions]"),
    "nothing": ("bert", {"input_ids": IDS[:, :0]}, "input_ids", "its shape is [2, 0]", "at least one of each"),
    "beyond the vocabulary": ("bert", {"input_ids": IDS + 99}, "input_ids", "has the value 99", "0 to 22"),
    "negative": ("bert", {"input_ids": IDS - 100}, "input_ids", "has the value -100", "0 to 22"),
    "a mask of other values": ("bert", GIVEN | {"attention_mask": IDS + 2}, "attention_mask", "the value 2", "0 to 1"),
    "a third type": ("bert", GIVEN | {"token_type_ids": IDS + 2}, "token_type_ids", "has the value 2", "0 to 1"),
    "another shape": (
        "bert",
        GIVEN | {"attention_mask": IDS[:, 1:]},
        "attention_mask",
        "its shape is [2, 7], that of input_ids is [2, 8]",
        "same shape",
    ),
    "too long": (
        "gpt2",
        {"input_ids": np.zeros((1, 301), int)},
        "input_ids",
        "301 positions, the model allows 300",
        "fewer",
    ),
    "pixels of another size": (
        "vit",
        {"pixel_values": np.zeros((1, 7, 33, 33))},
        "pixel_values",
        "its shape is [1, 7, 33, 33]",
        "pixels [batch, 7, 33, 44]",
    ),
    "pixels that are text": ("vit", {"pixel_values": np.full((1, 7, 33, 44), "a")}, "pixel_values", "<U1", "numbers"),
    "no pixels": ("vit", {}, "pixel_values", "missing", "pixels [batch, 7, 33, 44]"),
    "pickled": ("gpt2", {"input_ids": np.array([print])}, "input_ids", "holds Python objects", "numbers"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    pairs = {"bert": bert(), "gpt2": gpt2()}
    generate("generated://vit?layers=1", folder / "vit")
    written = {name: write(folder / name, pair.hf, pair.hf_config) for name, pair in pairs.items()}
    return written | {"vit": folder / "vit"}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, arrays, key, problem, remedy = BAD[name]
    ids = tmp_path / "ids.npz"
    np.savez(ids, **arrays)
    assert main(["logits", str(models[model]), "--ids", str(ids), "--out", str(tmp_path / "out.npz")]) == 3
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("convkit: ")]
    assert said.startswith(f"convkit: {ids}: {key}: ") and problem in said and remedy in said.rpartition(" (")[2] + said
    assert [path.name for path in tmp_path.iterdir()] == ["ids.npz"]


def test_files_that_are_no_npz(models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = tmp_path / "ids.npz"
    whole = partial(main, ["logits", str(models["gpt2"]), "--ids", str(ids), "--out", str(tmp_path / "out.npz")])
    for content in (b"", b"ids", b"PK\x03\x04"):
        ids.write_bytes(content)
        assert whole() == 3 and f"{ids}: isn't a .npz file" in capsys.readouterr().err
    with ids.open("wb") as file:
        np.save(file, IDS)
    assert whole() == 3 and "single array" in capsys.readouterr().err
    np.savez(ids, input_ids=IDS)
    raw = bytearray(ids.read_bytes())
    raw[200] ^= 1  # an element, which its checksum shows
    ids.write_bytes(raw)
    assert whole() == 3 and f"{ids}: input_ids: can't be read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["ids.npz"]


def test_what_is_there_is_replaced_only_on_request(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids, out = tmp_path / "ids.npz", tmp_path / "out.npz"
    np.savez(ids, input_ids=IDS)
    out.write_text("mine")
    command = ["logits", str(models["gpt2"]), "--ids", str(ids), "--out", str(out)]
    assert main(command) == 2 and "exists (name another target, or say --overwrite)" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main([*command, "--overwrite", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["outputs"] == {"lm": {"shape": [2, 8, 23], "finite": True}}
    assert document["inputs"] == {"input_ids": [2, 8]}
    first = out.read_bytes()
    assert main([*command, "--overwrite"]) == 0 and out.read_bytes() == first
    assert main([*command[:-1], str(tmp_path), "--overwrite"]) == 2 and "is a folder" in capsys.readouterr().err


def test_weights_that_are_not_finite_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = gpt2()
    pair.hf["transformer.ln_f.weight"][0] = torch.nan
    source = write(tmp_path / "model", pair.hf, pair.hf_config)
    assert np.isnan(logits(source, {"input_ids": IDS})["lm"]).all()
    assert capsys.readouterr().out.endswith("lm 2x8x23 float32, not finite\n")
