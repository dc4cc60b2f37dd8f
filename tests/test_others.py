"""Conversions by other programs are judged on the command line, without a receipt."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldens import golden_dir
from safetensors.numpy import load_file, save_file

from convkit.checkpoint import WriteOptions
from convkit.cli import main
from convkit.formats import get_format, open_checkpoint

pytestmark = pytest.mark.golden

MODELS = ("llama_gqa", "llama_tied", "gpt2", "bert")


def conversion(model: str) -> tuple[Path, Path, Path]:
    """The HF source, the original's Cerebras checkpoint, and its way back."""
    folder = golden_dir("cerebras.tar.gz") / model
    (made,) = folder.glob("hf-cs-2.9/*.mdl")
    (back,) = (path for path in folder.glob("cs-2.9-hf/*") if path.is_dir())
    return folder / "hf", made, back


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("check", ["roundtrip", "equivalence"])
def test_to_cerebras(check: str, model: str) -> None:
    source, made, _ = conversion(model)
    assert main([check, str(source), str(made), "--source-format", "torch"]) == 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("check", ["roundtrip", "equivalence"])
def test_back(check: str, model: str) -> None:
    _, made, back = conversion(model)
    assert main([check, str(made), str(back)]) == 0


def test_a_tied_copy_that_safetensors_left_out(tmp_path: Path) -> None:
    """transformers drops tied copies when it saves, and nothing is lost."""
    _, made, back = conversion("llama_tied")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "config.json").write_text((back / "config.json").read_text())
    import torch

    state = torch.load(next(back.glob("*.bin")), weights_only=True)
    kept = {key: tensor.numpy() for key, tensor in state.items() if key != "lm_head.weight"}
    save_file(kept, theirs / "model.safetensors", metadata={"format": "pt"})
    assert main(["roundtrip", str(made), str(theirs)]) == 0


def test_a_head_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The original loses the head of a tied model that comes as safetensors; such a file is found incomplete."""
    source, made, _ = conversion("llama_tied")
    theirs = tmp_path / "theirs.mdl"
    with open_checkpoint(made) as full:
        kept = [leaf for key, leaf in full.leaves.items() if key != "model.lm_head.weight"]
        writer = get_format("cerebras-h5").create(theirs, kept, WriteOptions())
        for leaf in kept:
            writer.write(leaf.key, 0, full.read(leaf.key))
            writer.finish(leaf.key)
        writer.commit()
        writer.close()
    theirs.with_suffix(".yaml").write_text(next(made.parent.glob("*.yaml")).read_text())
    capsys.readouterr()
    assert main(["roundtrip", str(source), str(theirs)]) == 1
    assert "model.lm_head.weight" in capsys.readouterr().out


def test_a_wrong_tensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, _, _ = conversion("gpt2")
    theirs = tmp_path / "theirs"
    assert main(["convert", str(source), str(theirs), "--to", "cerebras/gpt2", "--format", "safetensors"]) == 0
    (tmp_path / "theirs.convkit.json").unlink()
    weights = load_file(theirs / "model.safetensors")
    layer = "model.transformer_decoder.layers.0.self_attn.proj_{}_dense_layer.weight"
    weights[layer.format("q")], weights[layer.format("k")] = weights[layer.format("k")], weights[layer.format("q")]
    save_file(weights, theirs / "model.safetensors", metadata={"format": "pt"})
    capsys.readouterr()
    assert main(["roundtrip", str(source), str(theirs)]) == 1
    assert "transformer.h.0.attn.c_attn.weight" in capsys.readouterr().out
    assert main(["equivalence", str(source), str(theirs)]) == 1
    assert "proj_q_dense_layer" in capsys.readouterr().out
