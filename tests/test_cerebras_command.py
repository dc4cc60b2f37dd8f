"""``convkit cerebras convert``, ``convert-config``, ``list`` and ``diff``: flags and files as the original has them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from config_deviations import MODELS, PACKED
from once import once
from safetensors.numpy import load_file, save_file

from convkit.checkpoint import Leaf, WriteOptions
from convkit.cli import main, parser
from convkit.cli.cerebras.convert import Outputs
from convkit.cli.cerebras.convert_config import facts_of
from convkit.cli.cerebras.forms import FORMS, form_called, stem
from convkit.cli.cerebras.names import HEADLESS, OTHERS, UNREACHABLE, model_called, models, ways
from convkit.errors import UsageError
from convkit.files.config_file import find_config
from convkit.files.receipt import read_receipt, receipt_path
from convkit.formats import get_format, open_checkpoint
from convkit.mappings import all_mappings, find_mapping


def made(folder: Path) -> None:
    """A model as its four kinds of input, and as the original's command would convert it."""
    assert main(["fetch", "generated://llama?layers=1", str(folder / "hf")]) == 0
    for format in ("torch", "safetensors"):
        words = ["--to", "hf/llama", "--format", format, "--shard-size", "20KB"]
        assert main(["convert", str(folder / "hf"), str(folder / f"{format}-shards"), *words]) == 0
    single = str(folder / "pytorch_model.bin")
    assert main(["convert", str(folder / "hf"), single, "--to", "hf/llama", "--format", "torch"]) == 0
    (folder / "configs").mkdir()
    shutil.copy(folder / "hf" / "config.json", folder / "configs" / "config.json")
    assert to_cerebras(folder / "hf" / "model.safetensors", folder / "out") == 0


@pytest.fixture
def made_once() -> Path:
    return once("cerebras-command", made)


@pytest.fixture
def sources(made_once: Path, tmp_path: Path) -> Path:
    """A copy that a test may write into."""
    return Path(shutil.copytree(made_once, tmp_path / "sources"))


def convert(source: Path, config: Path, src: str, to: str, *more: str) -> int:
    words = ["--model", "llama", "--src-fmt", src, "--tgt-fmt", to, "--config", str(config), *more]
    return main(["cerebras", "convert", str(source), *words])


def to_cerebras(source: Path, folder: Path, *more: str, to: str = "cs-2.9") -> int:
    config = (source if source.is_dir() else source.parent) / "config.json"
    return convert(source, config, "hf", to, "--output-dir", str(folder), *more)


def tensors(path: Path) -> dict[str, bytes]:
    with open_checkpoint(path) as checkpoint:
        return {key: checkpoint.read(key).tobytes() for key, leaf in checkpoint.leaves.items() if leaf.spec}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- names ------------------------------------------------------------------------------------------------------------


def test_the_originals_54_names_and_those_that_it_cannot_reach() -> None:
    assert len(models().keys() - set(UNREACHABLE)) == 54
    assert set(UNREACHABLE) < models().keys()
    assert len({model.layouts["cs"] for name, model in models().items() if name not in OTHERS}) == 24
    assert model_called("LLAMAv2") is models()["llamaV2"]
    assert all(models()[f"{name}-headless"].layouts == models()[name].layouts for name in HEADLESS)


def test_every_mapping_of_cerebras_has_a_name() -> None:
    ours = {(one.left.name, one.right.name) for one in all_mappings() if "cerebras/" in one.name}
    named = {way for model in models().values() for *others, hub in [model.layouts] for one in others
             for way in ways(model, one, hub)}  # fmt: skip
    assert {way for way in ours if way[0] != way[1]} <= named


def test_a_name_says_what_the_tensors_would_show() -> None:
    named = ((name, model_called(name), shown) for name, shown in MODELS.items())
    for name, model, shown in named:
        if model.name in OTHERS:  # their configs say all
            continue
        found = ways(model, "hf", "cs")
        hf, cs = PACKED[name][0] if name in PACKED else found[0]
        assert (hf, cs) in found and (name in PACKED or len(found) == 1)
        heads = {fact: there for fact, there in shown.items() if not fact.endswith("_bias")}  # configs say those
        assert facts_of(model, find_mapping(hf, cs)).items() >= heads.items(), name
        back = facts_of(model, find_mapping(cs, hf))
        assert back.get("headless", False) == model.headless


def test_where_no_way_leads_it_says_so(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, config = sources / "pytorch_model.bin", sources / "configs" / "config.json"
    for model, src, to, says in (
        ("llama", "hf", "hf", "are both hf"),
        ("llama", "hf", "cs-2.9-dpo", "llama has no format cs-X.Y-dpo (its formats: hf, cs-X.Y)"),
        ("bert-summarization", "hf", "cs-2.9", "bert-summarization has no model of transformers"),
        ("lama", "hf", "cs-2.9", "no model is called 'lama' (did you mean llama?"),
        ("llama", "hf", "cs-1.8", "release 1.8 isn't supported for cerebras/llama (releases 1.9 ... 2.10)"),
        ("mixtral", "hf", "cs-2.1", "is not the config of a hf/mixtral checkpoint: it is one of hf/llama"),
    ):
        words = ["--model", model, "--src-fmt", src, "--tgt-fmt", to]
        code = 3 if model == "mixtral" else 2
        assert main(["cerebras", "convert", str(source), *words, "--config", str(config)]) == code
        assert says in capsys.readouterr().err
    assert names(sources) == names(once("cerebras-command", made))


# --- formats and file names -------------------------------------------------------------------------------------------


def test_formats() -> None:
    said = {text: form_called(text, "--tgt-fmt") for text in FORMS.replace("X.Y", "2.3").split(", ")}
    assert [(form.kind, form.release) for form in said.values()] == [
        ("hf", None), ("cs", "2.3"), ("dpo", "2.3"), ("no-dpo", "2.3"), ("backbone", "2.4")]  # fmt: skip
    assert form_called("cs-current", "--tgt-fmt").release == "2.10"
    for wrong in ("cs-29", "cs", "HF", "cs-2.9-backbone", "cs-2.4-backbones", "cs-auto"):
        with pytest.raises(UsageError, match="no format is called so"):
            form_called(wrong, "--tgt-fmt")


@pytest.mark.parametrize(
    ("source", "to", "checkpoint", "config"),
    [
        ("d/pytorch_model.bin", "cs-2.9", "d/pytorch_model_to_cs-2.9.mdl", "c/config_to_cs-2.9.yaml"),
        ("d/pytorch_model.bin.index.json", "cs-2.10", "d/pytorch_model_to_cs-2.10.mdl", "c/config_to_cs-2.10.yaml"),
        ("d/model.safetensors", "cs-current", "d/model_to_cs-current.mdl", "c/config_to_cs-current.yaml"),
        ("d/noext", "cs-2.4-backbone", "d/noext_to_cs-2.4-backbone.mdl", "c/config_to_cs-2.4-backbone.yaml"),
        ("d/checkpoint_1.7.mdl", "hf", "d/checkpoint_1.7_to_hf", "d/checkpoint_1.7_to_hf/config.json"),
        ("d/a_to_cs-2.9.mdl", "hf", "d/a_to_cs-2.9_to_hf", "d/a_to_cs-2.9_to_hf/config.json"),
        ("c", "cs-2.9", "c_to_cs-2.9.mdl", "config_to_cs-2.9.yaml"),
    ],
)
@pytest.mark.parametrize("place", [None, Path("out")])
def test_names_of_outputs(source: str, to: str, checkpoint: str, config: str, place: Path | None) -> None:
    words = ["cerebras", "convert", source, "--config", "c/config.json", "--model", "llama", "--src-fmt", "hf"]
    args = parser().parse_args([*words, "--tgt-fmt", to, *(["--output-dir", str(place)] if place else [])])
    found = Outputs.of(args, form_called(to, "--tgt-fmt"))
    if place:
        checkpoint = f"{place}/{Path(checkpoint).name}"
        config = f"{checkpoint}/config.json" if to == "hf" else f"{place}/{Path(config).name}"
    assert (str(found.checkpoint), str(found.config)) == (checkpoint, config)


def test_stems_lose_every_extension_of_letters() -> None:
    assert stem(".bin") == ".bin"
    assert stem("v1.5.fp16") == "v1.5.fp16"


@pytest.mark.parametrize(
    ("source", "called"),
    [
        ("hf/model.safetensors", "model"),
        ("pytorch_model.bin", "pytorch_model"),
        ("torch-shards/pytorch_model.bin.index.json", "pytorch_model"),
        ("safetensors-shards/model.safetensors.index.json", "model"),
        ("hf", "hf"),
    ],
)
def test_every_kind_of_input(source: str, called: str, made_once: Path, tmp_path: Path) -> None:
    config = made_once / "configs" / "config.json"
    assert convert(made_once / source, config, "hf", "cs-2.9", "--output-dir", str(tmp_path / "a" / "b")) == 0
    out = tmp_path / "a" / "b" / f"{called}_to_cs-2.9.mdl"
    assert {out.name, "config_to_cs-2.9.yaml"} <= names(out.parent)
    assert tensors(out) == tensors(made_once / "out" / "model_to_cs-2.9.mdl")


def test_the_flags_are_the_originals() -> None:
    """Short forms too: its parser takes any beginning that is clear."""
    common = "--model gpt2 --src-fmt cs-auto --tgt-fmt hf --output-dir out"
    for words in (
        f"convert a.mdl {common} --config c.yaml --hf-shard-size 5GB --export-safetensors --drop-unmatched-keys "
        "--no-progress-bar --debug",
        "convert --mod gpt2 --src cs-2.9 --t hf --c c.yaml --out d --hf 5GB --ex --dr --no --de a.mdl",
        f"convert-config c.yaml {common} --debug",
        "list",
        "list gpt2 --hide-notes",
        "list-converters all",
        "diff a.mdl b.mdl --tensor_comparison_op allclose -p work",
    ):
        parser().parse_args(["cerebras", *words.split()])


# --- what lies where --------------------------------------------------------------------------------------------------


def test_a_config_elsewhere_is_written_there_too(sources: Path) -> None:
    """The original writes each output beside its input; the receipt vouches for the config beside the checkpoint."""
    config = sources / "configs" / "config.json"
    assert convert(sources / "pytorch_model.bin", config, "hf", "cs-2.9") == 0
    there, out = sources / "configs" / "config_to_cs-2.9.yaml", sources / "pytorch_model_to_cs-2.9.mdl"
    assert yaml.safe_load(there.read_text()) == yaml.safe_load(out.with_suffix(".yaml").read_text())
    assert main(["verify", str(out)]) == 0
    assert convert(out, there, "cs-2.9", "hf") == 0
    assert tensors(sources / "pytorch_model_to_cs-2.9_to_hf") == tensors(sources / "pytorch_model.bin")
    before = there.read_bytes()
    out.unlink()
    assert convert(sources / "pytorch_model.bin", config, "hf", "cs-2.9") == 2
    assert there.read_bytes() == before
    assert convert(sources / "pytorch_model.bin", config, "hf", "cs-2.9", "--overwrite") == 0


def test_each_of_two_outputs_in_a_folder_has_its_config(
    made_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = made_once / "hf" / "model.safetensors"
    for release in ("cs-2.3", "cs-2.9"):
        assert to_cerebras(source, tmp_path, to=release) == 0
    for release in ("2.3", "2.9"):
        out = tmp_path / f"model_to_cs-{release}.mdl"
        assert ("name" in yaml.safe_load((tmp_path / f"config_to_cs-{release}.yaml").read_text())["model"]) == (
            release == "2.9"
        )
        for check in (["verify"], ["roundtrip", str(source)], ["inspect"]):
            assert main([*check, str(out)]) == 0
        assert f"config_to_cs-{release}.yaml" in capsys.readouterr().out
    (tmp_path / "config_to_cs-2.3.yaml").write_text("model: {}\n")
    assert main(["verify", str(tmp_path / "model_to_cs-2.3.mdl")]) == 1
    assert main(["verify", str(tmp_path / "model_to_cs-2.9.mdl")]) == 0


def test_a_receipt_names_no_config_elsewhere(sources: Path) -> None:
    out = sources / "out" / "model_to_cs-2.9.mdl"
    for other in ("config_to_cs-2.3.yaml", "config_to_cs-2.4.yaml"):  # so that only the receipt says which it is
        (out.parent / other).write_text("model: {}\n")
    assert find_config(out) == out.with_name("config_to_cs-2.9.yaml")
    receipt = receipt_path(out)
    (sources / "elsewhere.yaml").write_text("model: {}\n")
    receipt.write_text(receipt.read_text().replace('"config_to_cs-2.9.yaml"', '"../elsewhere.yaml"'))
    assert find_config(out) is None


def test_outputs_are_proved_like_any(made_once: Path) -> None:
    source, out = made_once / "hf" / "model.safetensors", made_once / "out" / "model_to_cs-2.9.mdl"
    assert main(["equivalence", str(source), str(out), "--probe-length", "16"]) == 0


@pytest.mark.parametrize("name", ["model_to_cs-2.9.mdl", "config_to_cs-2.9.yaml", "model_to_cs-2.9.mdl.convkit.json"])
def test_nothing_is_replaced_unasked(
    name: str, made_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("mine")
    source = made_once / "hf" / "model.safetensors"
    assert to_cerebras(source, tmp_path) == 2
    assert f"{tmp_path / name}: exists (name another target, or say --overwrite)" in capsys.readouterr().err
    assert names(tmp_path) == {name}
    assert to_cerebras(source, tmp_path, "--overwrite") == 0
    assert main(["verify", str(tmp_path / "model_to_cs-2.9.mdl")]) == 0


def test_an_empty_folder_is_filled_and_another_is_not(
    made_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The original stops where the folder exists, and an error leaves an empty one."""
    source = made_once / "out" / "model_to_cs-2.9.mdl"
    target = tmp_path / "model_to_cs-2.9_to_hf"
    words = (source, source.with_name("config_to_cs-2.9.yaml"), "cs-2.9", "hf", "--output-dir", str(tmp_path))
    target.mkdir()
    (target / "mine").write_text("precious")
    assert convert(*words) == 2
    assert convert(*words, "--overwrite") == 2
    assert names(target) == {"mine"}
    (target / "mine").unlink()
    assert convert(*words) == 0
    assert names(target) >= {"config.json", "pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"}
    assert convert(*words) == 2
    assert convert(*words, "--overwrite", "--export-safetensors", "--hf-shard-size", "20KB") == 0
    shards = [name for name in names(target) if name.endswith(".safetensors")]
    assert len(shards) > 1
    assert not any(name.endswith(".bin") for name in names(target))
    index = json.loads((target / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(index.values()) == set(shards)
    capsys.readouterr()


# --- reading and dropping ---------------------------------------------------------------------------------------------


def trained(folder: Path, version: str | None) -> Path:
    """A checkpoint as a training of this release saves it: with its own record, whose last entry counts."""
    source = once("cerebras-command", made) / "out" / "model_to_cs-2.9.mdl"
    with open_checkpoint(source) as checkpoint:
        leaves = dict(checkpoint.leaves)
        if version is not None:
            leaves |= {(key := f"__metadata__.{place}.version"): Leaf(key, value=one)
                       for place, one in enumerate(["2.1.0", version])}  # fmt: skip
        writer = get_format("cerebras-h5").create(folder / "t.mdl", list(leaves.values()), WriteOptions())
        for key, leaf in leaves.items():
            if leaf.spec and not leaf.same_as:
                writer.write(key, 0, checkpoint.read(key))
                writer.finish(key)
        writer.commit()
        writer.close()
    return folder / "t.mdl"


@pytest.mark.parametrize(("version", "read"), [("2.4.3", "2.4"), ("2.10.0", "2.10"), (None, None), ("nightly", None)])
def test_cs_auto_reads_what_is_there(
    version: str | None, read: str | None, made_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, config = trained(tmp_path, version), made_once / "out" / "config_to_cs-2.9.yaml"
    assert convert(source, config, "cs-auto", "hf", "-q", "--json") == (0 if read else 2)
    said = json.loads(capsys.readouterr().out)
    assert said["plan"]["release"] == read if read else said["remedy"] == "say it: --src-fmt cs-2.9"


def test_cs_auto_reads_a_receipt(made_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert to_cerebras(made_once / "hf", tmp_path, to="cs-2.3") == 0
    capsys.readouterr()
    words = (tmp_path / "hf_to_cs-2.3.mdl", tmp_path / "config_to_cs-2.3.yaml", "cs-auto", "hf")
    assert convert(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["plan"]["release"] == "2.3"


def test_from_release_to_release(made_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Up, down by what the checkpoint itself says, and the config alone."""
    out = made_once / "out"
    source, config = out / "model_to_cs-2.9.mdl", out / "config_to_cs-2.9.yaml"
    folder = ("--output-dir", str(tmp_path), "-q")
    assert convert(source, config, "cs-2.9", "cs-2.1", *folder) == 0
    older, its_config = tmp_path / "model_to_cs-2.9_to_cs-2.1.mdl", tmp_path / "config_to_cs-2.9_to_cs-2.1.yaml"
    assert "trainer" not in yaml.safe_load(its_config.read_text())
    assert convert(older, its_config, "cs-auto", "cs-2.9", *folder) == 0
    again = tmp_path / "model_to_cs-2.9_to_cs-2.1_to_cs-2.9"
    assert tensors(again.with_name(f"{again.name}.mdl")) == tensors(source)
    back = tmp_path / "config_to_cs-2.9_to_cs-2.1_to_cs-2.9.yaml"
    assert yaml.safe_load(back.read_text()) == yaml.safe_load(config.read_text())
    assert convert(older, its_config, "cs-auto", "cs-1.6", *folder) == 2
    assert "releases 1.9 ... 2.10" in capsys.readouterr().err
    for path, src, to in ((config, "cs-2.9", "cs-2.1"), (its_config, "cs-2.1", "hf")):
        assert convert_config(path, src, to, "--output-dir", str(tmp_path / to)) == 0
    of_config = yaml.safe_load((tmp_path / "cs-2.1" / "config_to_cs-2.9_to_cs-2.1.yaml").read_text())
    assert of_config["model"].items() <= yaml.safe_load(its_config.read_text())["model"].items()


def test_unmatched_keys_are_dropped_by_name_and_never_a_model(
    made_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(made_once / "configs" / "config.json", tmp_path)
    source = tmp_path / "model.safetensors"
    more = dict.fromkeys(("spare.weight", "model.layers.0.spare"), np.zeros(2, np.float32))
    plain = load_file(made_once / "hf" / "model.safetensors")
    save_file(plain | more, source)
    assert to_cerebras(source, tmp_path) == 3
    assert "--drop-unmatched-keys leaves out what isn't needed; or name the right --model" in capsys.readouterr().err
    assert to_cerebras(source, tmp_path, "--drop-unmatched-keys") == 0
    assert "dropped, as no rule claims them: model.layers.0.spare, spare.weight" in capsys.readouterr().err
    out = tmp_path / "model_to_cs-2.9.mdl"
    receipt = read_receipt(out)
    assert receipt
    fates = receipt["plan"]["source_leaves"]
    assert {key: fates[key]["reason"] for key in fates if fates[key]["fate"] == "dropped"} == dict.fromkeys(
        more, "no rule claims it"
    )
    assert tensors(out) == tensors(made_once / "out" / "model_to_cs-2.9.mdl")
    assert main(["roundtrip", str(source), str(out)]) == 0
    assert main(["verify", str(out)]) == 0
    for left in (more, {key: tensor for key, tensor in (plain | more).items() if "embed_tokens" not in key}):
        save_file(left, source)
        assert to_cerebras(source, tmp_path, "--drop-unmatched-keys", "--overwrite") == 3
    assert "model.embed_tokens.weight: is missing" in capsys.readouterr().err


def test_headless_names_write_the_base_model(made_once: Path, tmp_path: Path) -> None:
    source = made_once / "out" / "model_to_cs-2.9.mdl"
    words = ["--model", "llama-headless", "--output-dir", str(tmp_path)]
    config = ["--config", str(source.with_name("config_to_cs-2.9.yaml"))]
    assert main(["cerebras", "convert", str(source), *words, "--src-fmt", "cs-2.9", "--tgt-fmt", "hf", *config]) == 0
    base = tmp_path / "model_to_cs-2.9_to_hf"
    assert json.loads((base / "config.json").read_text())["architectures"] == ["LlamaModel"]
    assert "embed_tokens.weight" in tensors(base) and "lm_head.weight" not in tensors(base)
    config = ["--config", str(base / "config.json"), "--src-fmt", "hf", "--tgt-fmt", "cs-2.9"]
    assert main(["cerebras", "convert", str(base), *words, *config]) == 0
    back = tmp_path / "model_to_cs-2.9_to_hf_to_cs-2.9.mdl"
    assert tensors(back) == tensors(source)  # the receipt's complement has the head
    alone = Path(shutil.copytree(base, tmp_path / "alone"))  # without the receipt
    words = [*words[:2], "--output-dir", str(tmp_path / "headless")]
    assert main(["cerebras", "convert", str(alone), *words, *config]) == 0
    without = {key: data for key, data in tensors(source).items() if "lm_head" not in key}
    assert tensors(tmp_path / "headless" / "alone_to_cs-2.9.mdl") == without


# --- how much is printed ----------------------------------------------------------------------------------------------


def test_what_is_printed(
    made_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convkit.cli.output._EVERY", 0.0)
    source = made_once / "pytorch_model.bin"
    config = made_once / "configs" / "config.json"

    def said(*more: str) -> tuple[list[str], list[str]]:
        place = ["--output-dir", str(tmp_path), "--overwrite"]
        assert convert(source, config, "hf", "cs-2.9", *place, *more) == 0
        printed = capsys.readouterr()
        return printed.out.splitlines(), printed.err.splitlines()

    out, err = said()
    saved = [f"Checkpoint saved to {tmp_path / 'pytorch_model_to_cs-2.9.mdl'}",
             f"Config saved to {tmp_path / 'config_to_cs-2.9.yaml'}"]  # fmt: skip
    assert out[1:] == saved and out[0].startswith(f"{tmp_path / 'pytorch_model_to_cs-2.9.mdl'}: cerebras/llama")
    assert any(line.startswith(f"{source} -> ") for line in err)
    assert not any("->" in line for line in said("--no-progress-bar")[1])
    assert said("-q") == ([], [])
    out, _ = said("--json")
    assert json.loads("\n".join(out))["target"]["path"] == "pytorch_model_to_cs-2.9.mdl"
    out, _ = said("--debug")
    q = "self_attn.q_proj.weight -> model.transformer_decoder.layers.0.self_attn.proj_q_dense_layer.weight"
    assert any(line.endswith(q) for line in out)
    _, err = said("--export-safetensors")
    assert "--export-safetensors is for --tgt-fmt hf: left out" in "\n".join(err)


# --- convert-config, list, diff ---------------------------------------------------------------------------------------


def convert_config(path: Path, src: str, to: str, *more: str) -> int:
    words = ["--model", "llama", "--src-fmt", src, "--tgt-fmt", to]
    return main(["cerebras", "convert-config", str(path), *words, *more])


def test_a_config_alone(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One extension makes way, as in the original; a checkpoint's loses all."""
    source = (sources / "configs" / "config.json").rename(sources / "configs" / "my.config.json")
    assert convert_config(source, "hf", "cs-current") == 0
    there = source.with_name("my.config_to_cs-current.yaml")
    assert capsys.readouterr().out.splitlines()[-1] == f"Config saved to {there}"
    written = yaml.safe_load(there.read_text())
    assert written == yaml.safe_load((sources / "out" / "config_to_cs-2.9.yaml").read_text())
    assert convert_config(source, "hf", "cs-current") == 2
    assert "exists (name another target, or say --overwrite)" in capsys.readouterr().err
    assert convert_config(source, "hf", "cs-current", "--overwrite", "-q") == 0
    assert capsys.readouterr() == ("", "")
    assert convert_config(there, "cs-2.9", "hf", "--output-dir", str(tmp_path / "new"), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    back = tmp_path / "new" / "my.config_to_cs-current_to_hf.json"
    assert (document["target"], document["config"]) == (str(back), json.loads(back.read_text()))
    original = json.loads(source.read_text())
    assert all(original[name] == back for name, back in document["config"].items() if name in original)


def test_a_config_that_is_refused(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = sources / "configs" / "config.json"
    assert convert_config(source, "cs-auto", "hf") == 2
    assert "a config doesn't say its release (say it: --src-fmt cs-2.9)" in capsys.readouterr().err
    source.write_text(json.dumps(json.loads(source.read_text()) | {"hidden_act": "gelu_13"}))
    assert convert_config(source, "hf", "cs-2.9") == 3
    assert f"{source}: hidden_act: " in capsys.readouterr().err
    assert names(source.parent) == {"config.json"}


def test_a_headless_config_names_the_base_model(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "llama-headless", "--src-fmt", "cs-2.9", "--tgt-fmt", "hf", "--json"]
    assert main(["cerebras", "convert-config", str(sources / "out" / "config_to_cs-2.9.yaml"), *words]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["architectures"] == ["LlamaModel"]


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cerebras", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["model"] for row in rows} == models().keys()
    (llama,) = (row for row in rows if row["model"] == "llamaV2")
    assert llama["formats"] == ["hf", "cs-1.9 ... cs-2.10"]
    (llava,) = (row for row in rows if row["model"] == "llava")
    assert "folders image_model and text_model" in " ".join(llava["notes"])
    for words in (["list", "llamav2"], ["list-converters", "llamaV2"], ["list", "all"], ["list"]):
        assert main(["cerebras", *words]) == 0
        shown = capsys.readouterr().out
        assert "llamaV2  " in shown and "the original refuses it" in shown
    assert main(["cerebras", "list", "llamaV2", "--hide-notes"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown == "llamaV2 hf <-> cs-1.9 ... cs-2.10 hf/llama <-> cerebras/llama"
    assert main(["cerebras", "list", "gpt-2"]) == 2
    assert "no model is called 'gpt-2' (did you mean gpt2?" in capsys.readouterr().err


def test_a_diff(made_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = made_once / "hf" / "model.safetensors"
    plain = load_file(source)
    (key, tensor), *_ = plain.items()
    close, far = tmp_path / "close.safetensors", tmp_path / "far.safetensors"
    save_file(plain | {key: tensor * np.float32(1 + 1e-6)}, close)
    save_file(plain | {key: tensor + np.float32(1e-3)}, far)
    for other, op, code in (
        (made_once / "pytorch_model.bin", "equal", 0),
        (close, "equal", 1),
        (close, "allclose", 0),
        (far, "allclose", 1),
    ):
        assert main(["cerebras", "diff", str(source), str(other), "--tensor_comparison_op", op]) == code
    assert f"of different elements: {key}" in capsys.readouterr().out
    assert main(["cerebras", "diff", str(source), str(source), "-p", "work"]) == 0
    assert "--profile is for checkpoints in a store" in capsys.readouterr().err
