"""Keys that are wrapped: of any wrapper, read without it and with a word; the proofs hold of what lies on the disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from keys_only import plan, refused, specs
from recorded import HERE
from safetensors.numpy import load_file, save_file

from convkit.checkpoint import TensorSpec
from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.plan import Plan
from convkit.verify.equivalence.sides import opened

MODELS = {
    name: (specs(folder / "model.safetensors"), json.loads((folder / "config.json").read_text()))
    for name in ("llama_gqa", "gpt2", "bert")
    for folder in [HERE / name / "hf"]
}
TO = {"llama_gqa": "cerebras/llama", "gpt2": "cerebras/gpt2", "bert": "cerebras/bert"}


def before(prefix: str) -> Callable[[str], str]:
    return lambda key: prefix + key


#: how keys are wrapped, the prefix that is found, and the wrapper modules
WRAPPERS = {
    "DataParallel": (before("module."), "module.", ()),
    "torch.compile": (before("_orig_mod."), "", ("_orig_mod",)),
    "both": (before("module._orig_mod."), "module.", ("_orig_mod",)),
    "a state dict": (before("model_state_dict."), "model_state_dict.", ()),
    "Lightning": (before("state_dict.model."), "state_dict.model.", ()),
    "Fabric": (before("_forward_module.net."), "net.", ("_forward_module",)),
    "peft, merged": (before("base_model.model."), "base_model.model.", ()),
    "one of a program's own": (before("policy.backbone.lm."), "policy.backbone.lm.", ()),
    "FSDP of each layer": (
        lambda key: "_fsdp_wrapped_module." + key.replace(".0.", ".0._fsdp_wrapped_module."),
        "",
        ("_fsdp_wrapped_module",),
    ),
    "DataParallel of each layer": (lambda key: key.replace(".0.", ".0.module."), "", ("module",)),
}


@cache
def unwrapped(name: str) -> Plan:
    return plan(*MODELS[name], TO[name])


CASES = [("llama_gqa", wrapper) for wrapper in WRAPPERS]
CASES += [(name, wrapper) for name in ("gpt2", "bert") for wrapper in ("both", "FSDP of each layer")]


@pytest.mark.parametrize(("name", "wrapper"), CASES)
def test_any_wrapper_is_taken_off(name: str, wrapper: str) -> None:
    wrap, prefix, within = WRAPPERS[wrapper]
    leaves, config = MODELS[name]
    plain, wrapped = unwrapped(name), plan({wrap(key): leaves[key] for key in leaves}, config, TO[name])
    assert (wrapped.wrapping.prefix, wrapped.wrapping.within) == (prefix, within)
    assert wrapped.target_leaves == plain.target_leaves
    assert wrapped.fates() == plain.fates()
    assert any("the way back writes plain keys" in warning for warning in wrapped.warnings)
    assert not plain.wrapping
    assert not any("wraps" in warning for warning in plain.warnings)


def test_leaves_beside_the_wrapper_need_a_word_of_the_user() -> None:
    """A training's state may be dropped branch by branch, by its stored names or by plain ones."""
    leaves, config = MODELS["llama_gqa"]
    moments = {f"optimizer.{number}.exp_avg": TensorSpec((2,), "float32") for number in range(3)}
    whole = {f"model_state_dict.{key}": spec for key, spec in leaves.items()} | moments
    assert "--drop 'optimizer.*', or name" in refused(whole, config, "cerebras/llama")
    made = plan(whole, config, "cerebras/llama", drop=("optimizer.*",))
    assert (made.wrapping.prefix, set(made.dropped)) == ("model_state_dict.", moments.keys())
    for name in ("model_state_dict.lm_head.weight", "lm_head.*"):
        assert "lm_head.weight: is needed" in refused(whole, config, "cerebras/llama", drop=("optimizer.*", name))


def test_a_model_and_its_average_are_not_confused() -> None:
    leaves, config = MODELS["llama_gqa"]
    both = {f"{prefix}.{key}": spec for prefix in ("model", "ema") for key, spec in leaves.items()}
    problem = refused(both, config, "cerebras/llama")
    assert "the model is there twice" in problem
    assert "--drop 'ema.*'" in problem
    assert "--drop 'model.*'" in problem
    for kept, dropped in (("model.", "ema.*"), ("ema.", "model.*")):
        assert plan(both, config, "cerebras/llama", drop=(dropped,)).wrapping.prefix == kept


def test_another_model_is_not_wrapped() -> None:
    """One leaf that happens to end like the layout's shows no wrapper."""
    leaves, config = MODELS["llama_gqa"]
    other = {f"encoder.block.{number}.q.weight": TensorSpec((4, 4), "float32") for number in range(9)}
    assert "none of its 10 tensors is called as those of hf/llama" in refused(
        other | {"decoder.lm_head.weight": leaves["lm_head.weight"]}, config, "cerebras/llama"
    )


def test_two_leaves_of_one_plain_name() -> None:
    leaves, config = MODELS["llama_gqa"]
    twice = leaves | {f"_orig_mod.{key}": leaves[key] for key in ("lm_head.weight",)}
    with pytest.raises(ConvkitError, match="is the same leaf as lm_head"):
        plan(twice, config, "cerebras/llama")


def test_what_holds_no_weights_of_its_own() -> None:
    leaves, config = MODELS["llama_gqa"]
    flat = {"_fsdp_wrapped_module._flat_param": TensorSpec((999,), "float32")}
    assert "FULL_STATE_DICT" in refused(flat, config, "cerebras/llama")
    empty = {f"module.{key}": TensorSpec((0,), spec.dtype) for key, spec in leaves.items()}
    assert "zero_to_fp32.py" in refused(empty, config, "cerebras/llama")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wrapped checkpoint, and what was made of it."""
    folder = tmp_path_factory.mktemp("wrapped")
    shutil.copytree(HERE / "llama_gqa" / "hf", folder / "source")
    file = folder / "source" / "model.safetensors"
    save_file({f"module._orig_mod.{key}": array for key, array in load_file(file).items()}, file)
    assert main(["convert", str(folder / "source"), str(folder / "out.mdl"), "--to", "cerebras"]) == 0
    return folder


def test_the_receipt_says_what_was_taken_off(converted: Path) -> None:
    receipt = json.loads((converted / "out.mdl.convkit.json").read_text())
    assert receipt["plan"]["source"]["wrapped"] == {"prefix": "module.", "within": ["_orig_mod"]}
    assert "'module.' and '_orig_mod'" in receipt["plan"]["warnings"][0]
    assert receipt["source"]["leaves"].keys() == receipt["plan"]["source_leaves"].keys()


def test_the_round_trip_compares_what_lies_on_the_disk(
    converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["roundtrip", str(converted / "source"), str(converted / "out.mdl")]
    assert main(asked) == 0
    file = converted / "source" / "model.safetensors"
    kept = file.read_bytes()
    try:
        arrays = load_file(file)
        changed = arrays["module._orig_mod.lm_head.weight"].copy()
        changed.view(np.uint32).flat[0] ^= 1
        save_file(arrays | {"module._orig_mod.lm_head.weight": changed}, file)
        assert main(asked) == 1
        assert "lm_head.weight" in capsys.readouterr().out
    finally:
        file.write_bytes(kept)


def test_the_way_back_writes_plain_keys(converted: Path) -> None:
    assert main(["convert", str(converted / "out.mdl"), str(converted / "back"), "--to", "hf"]) == 0
    wrapped = load_file(converted / "source" / "model.safetensors")
    back = load_file(converted / "back" / "model.safetensors")
    assert {f"module._orig_mod.{key}" for key in back} == wrapped.keys()
    assert all(wrapped[f"module._orig_mod.{key}"].tobytes() == array.tobytes() for key, array in back.items())


def test_the_model_of_the_source_is_opened_without_the_wrapper(converted: Path) -> None:
    asked = dict.fromkeys(("from_layout", "to_layout", "source_config", "target_config", "source_format"))
    with opened(converted / "source", converted / "out.mdl", **asked, device="cpu") as sides:
        assert sides.ours.parameters == sides.theirs.parameters


def test_inspect_shows_the_wrapper_and_no_variant_that_it_did_not_see(
    converted: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    capsys.readouterr()
    assert main(["inspect", str(converted / "source"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["wrapped"] == {"prefix": "module.", "within": ["_orig_mod"]}
    assert shown["variant"] == {"hf": "model."}
    shutil.copyfile(converted / "source" / "config.json", tmp_path / "config.json")
    save_file({"encoder.block.0.weight": np.zeros((2, 2), np.float32)}, tmp_path / "model.safetensors")
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["variant"], shown["wrapped"]) == ({}, None)
