"""``convkit cerebras convert`` and ``convert-config`` of models whose parts lie in folders on transformers' side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mappings.test_llava import config_of, recorded, same_tensors

from convkit.cli import main

#: parts of packed models, and another model's
PARTS = {"llava": ("image_model", "text_model"), "dpr": ("q_encoder", "ctx_encoder")}
#: the two models that are packed of LLaVA's parts
OF_LLAVA = ("llava", "mmsimple-llava")


def cerebras(command: str, source: Path, model: str, src: str, to: str, *words: object) -> int:
    config = ["--config", str(source)] if command == "convert" and "--config" not in words else []
    words = (str(source), "--model", model, "--src-fmt", src, "--tgt-fmt", to, *config, *map(str, words))
    return main(["cerebras", command, *map(str, words)])


@pytest.fixture
def llava(tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded("base", "hf"), tmp_path / "llava"))


@pytest.mark.golden
@pytest.mark.parametrize("packed", OF_LLAVA)
def test_there_and_back(packed: str, llava: Path, tmp_path: Path) -> None:
    """The names and places of all outputs are the original's."""
    out, golden = tmp_path / "out", recorded("base", "hf-cs-2.9", model=packed)
    assert cerebras("convert", llava, packed, "hf", "cs-2.9", "--output-dir", out) == 0
    model, yaml = out / "pytorch_model_to_cs-2.9.mdl", out / "config_to_cs-2.9.yaml"
    assert {path.name for path in golden.iterdir()} >= {model.name, yaml.name}
    same_tensors(model, golden / "flat.npz")
    back = tmp_path / "back"
    assert cerebras("convert", model, packed, "cs-2.9", "hf", "--output-dir", back, "--config", yaml) == 0
    theirs = recorded("base", "cs-2.9-hf", model=packed)
    for name in PARTS["llava"]:
        files = {path.name for path in (theirs / name).iterdir()} - {"flat.npz"}
        assert {path.name for path in (back / name).iterdir()} == files
        same_tensors(back / name, theirs / name / "flat.npz")
    assert config_of(back) == config_of(llava)
    assert "tmp" not in (back / "text_model" / "config.json").read_text()
    safe = tmp_path / "safe"
    words = ("--output-dir", safe, "--config", yaml, "--export-safetensors")
    assert cerebras("convert", model, packed, "cs-2.9", "hf", *words) == 0
    assert (safe / "text_model" / "model.safetensors.index.json").is_file()


@pytest.mark.golden
def test_outputs_come_beside_the_folder(llava: Path, tmp_path: Path) -> None:
    assert cerebras("convert", Path(f"{llava}/"), "llava", "hf", "cs-2.4") == 0
    assert {"pytorch_model_to_cs-2.4.mdl", "config_to_cs-2.4.yaml"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.golden
def test_configs_alone(llava: Path, tmp_path: Path) -> None:
    for part in PARTS["llava"]:
        (llava / part / "pytorch_model.bin").unlink()
    out = tmp_path / "out"
    out.mkdir()
    assert cerebras("convert-config", llava, "llava", "hf", "cs-2.9", "--output-dir", out) == 0
    yaml = out / "config_to_cs-2.9.yaml"
    assert cerebras("convert-config", yaml, "llava", "cs-2.9", "hf", "--output-dir", out) == 0
    theirs = recorded("base", "cs-2.9-hf")
    made = {path.relative_to(out) for path in out.rglob("*.json")}
    assert made == {path.relative_to(theirs) for path in theirs.glob("*/*config.json")}
    assert json.loads((out / "text_model" / "config.json").read_text())["mm_hidden_size"] == 30
    assert cerebras("convert-config", yaml, "llava", "cs-2.9", "hf", "--output-dir", out) == 2  # they are there


@pytest.mark.golden
@pytest.mark.parametrize("command", ["convert", "convert-config"])
def test_what_is_missing_is_named(
    command: str, llava: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: object) -> str:
        assert cerebras(command, llava, "llava", "hf", "cs-2.9", *words) == 3
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    kept = (llava / "text_model" / "config.json").read_text()
    (llava / "text_model" / "config.json").unlink()
    assert "text_model: holds no config.json (add the component's config" in refused()
    (llava / "image_model" / "config.json").unlink()
    assert "config" in refused()
    shutil.copy(recorded("base", "hf", "image_model", "config.json"), llava / "image_model")
    (llava / "text_model" / "config.json").write_text(kept)
    if command == "convert":
        file = llava / "text_model" / "config.json"
        assert "isn't the folder in which the parts of llava lie" in refused("--config", file)
        assert cerebras(command, file, "llava", "hf", "cs-2.9") == 3
        assert "isn't the folder of a packed llava (name the folder that holds" in capsys.readouterr().err
    shutil.rmtree(llava / "image_model")
    assert "holds no image_model/ (llava is packed of image_model/ and text_model/" in refused()
    assert {path.name for path in tmp_path.iterdir()} == {"llava"}


@pytest.mark.parametrize("command", ["convert", "convert-config"])
def test_the_parts_of_another_model(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in PARTS["dpr"]:
        (tmp_path / "outer" / part).mkdir(parents=True)
    for model in ("llava", "llama"):
        assert cerebras(command, tmp_path / "outer", model, "hf", "cs-2.9") in (2, 3)
        said = capsys.readouterr().err
        assert f"holds q_encoder/ and ctx_encoder/: {model} isn't packed of them" in said


@pytest.mark.golden
def test_parts_come_into_a_folder_that_holds_others(
    llava: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the original has it; the whole, which the receipt vouches for, lies beside them. Nothing of others is lost."""
    out = tmp_path / "out"
    assert cerebras("convert", llava, "llava", "hf", "cs-2.9", "--output-dir", out) == 0
    model, words = out / "pytorch_model_to_cs-2.9.mdl", ("--output-dir", out, "--config", out / "config_to_cs-2.9.yaml")
    before = {path: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert cerebras("convert", model, "llava", "cs-2.9", "hf", *words) == 0
    whole = out / "pytorch_model_to_cs-2.9_to_hf"
    for name in PARTS["llava"]:
        same_tensors(out / name, recorded("base", "cs-2.9-hf", name, "flat.npz"))
        assert {path.name for path in (out / name).iterdir()} == {path.name for path in (whole / name).iterdir()}
    assert {path: path.read_bytes() for path in before} == before
    assert main(["verify", str(whole)]) == 0
    # what is there is replaced on demand only, and nothing of others
    assert cerebras("convert", model, "llava", "cs-2.9", "hf", *words) == 2
    assert cerebras("convert", model, "llava", "cs-2.9", "hf", *words, "--overwrite") == 0
    (out / "text_model" / "notes.txt").touch()
    capsys.readouterr()
    assert cerebras("convert", model, "llava", "cs-2.9", "hf", *words, "--overwrite") == 2
    assert "holds notes.txt, which convkit did" in capsys.readouterr().err
    assert (out / "text_model" / "notes.txt").is_file()
