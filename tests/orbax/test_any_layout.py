"""Checkpoints of other systems in Orbax formats, in their own layout or another: converted, run, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from goldens import golden_dir

from convkit.cli import main
from convkit.formats import detect_format, open_checkpoint
from convkit.generate import generate

APIS = {"orbax-v0": "metadata", "orbax-v1": "data.json"}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "llama"
    generate("generated://llama?kv_heads=2&tied=false&rope=llama3&rope_theta=500000&seed=7", folder)
    return folder


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0, arguments


def loaded(path: Path) -> dict[str, Any]:
    """All items, by the real v1 API, which loads what either API wrote."""
    import orbax.checkpoint.experimental.v1 as ocp

    return ocp.load_checkpointables(path)


@pytest.mark.parametrize("api", APIS)
def test_hf_llama_is_kept_in_its_layout(llama: Path, tmp_path: Path, api: str) -> None:
    target, back = tmp_path / "target", tmp_path / "back"
    run("convert", llama, target, "--to", "hf/llama", "--format", api)
    config = json.loads((llama / "config.json").read_text())
    assert json.loads((target / "config" / APIS[api]).read_text()) == config
    assert not (target / "config.json").exists()
    items = loaded(target)
    assert items["config"] == config
    assert items["state"]["model"]["layers"]["1"]["self_attn"]["k_proj"]["weight"].shape == (20, 60)
    run("verify", target)
    run("roundtrip", llama, target)
    run("diff", llama, target)
    run("convert", target, back, "--to", "hf/llama")
    assert json.loads((back / "config.json").read_text()) == config
    assert (back / "generation_config.json").read_bytes() == (llama / "generation_config.json").read_bytes()
    with open_checkpoint(llama) as before, open_checkpoint(back) as after:
        assert after.leaves == before.leaves
        assert all(after.read(key).tobytes() == before.read(key).tobytes() for key in before.leaves)


def test_a_mapping_reads_orbax_and_writes_it(llama: Path, tmp_path: Path) -> None:
    """hf/llama in Orbax -> Cerebras -> Orbax by the other API; the models give the same."""
    first, middle, last = tmp_path / "first", tmp_path / "middle.mdl", tmp_path / "last"
    run("convert", llama, first, "--to", "hf/llama", "--format", "orbax-v1")
    run("convert", first, middle, "--to", "cerebras/llama")
    run("equivalence", first, middle)
    run("convert", middle, last, "--to", "hf/llama", "--format", "orbax-v0")
    run("roundtrip", middle, last)
    run("equivalence", middle, last)
    run("diff", llama, last)


def test_between_the_apis_the_rest_of_the_checkpoint_goes_along(llama: Path, tmp_path: Path) -> None:
    """Items that are no leaves, and what the metadata says, by an ordinary conversion."""
    import orbax.checkpoint.experimental.v1 as ocp

    source, target = tmp_path / "source", tmp_path / "target"
    with open_checkpoint(llama) as checkpoint:
        tree: dict[str, Any] = {}
        for key, leaf in checkpoint.leaves.items():
            *above, last = key.split(".")
            node = tree
            for name in above:
                node = node.setdefault(name, {})
            assert leaf.spec
            node[last] = checkpoint.read(key).view("float32").reshape(leaf.spec.shape)
    registry = ocp.handlers.local_registry()
    for name in ("config", "notes"):
        registry.add(ocp.handlers.JsonHandler, checkpointable_name=name)
    items = {"params": tree, "config": json.loads((llama / "config.json").read_text()), "notes": {"a": [1]}}
    with ocp.Context(checkpointables_options=ocp.options.CheckpointablesOptions(registry=registry)):
        ocp.save_checkpointables(source, items, custom_metadata={"by": "a test"})
    run("convert", source, target, "--to", "hf/llama", "--format", "orbax-v0")
    found = loaded(target)
    assert found["notes"] == {"a": [1]}
    assert found["config"] == items["config"]
    assert found["params"].keys() == tree.keys()
    assert ocp.checkpointables_metadata(target).custom_metadata == {"by": "a test"}


@pytest.mark.golden
def test_t5x_through_orbax_is_still_t5x(tmp_path: Path) -> None:
    source = golden_dir("te/sources.tar.gz") / "t5x_adamw" / "checkpoint_7"
    target, back = tmp_path / "target", tmp_path / "back"
    run("convert", source, target, "--to", "t5x/t5", "--format", "orbax-v1")
    run("roundtrip", source, target)
    assert loaded(target)["state"].keys() == {"state", "target"}
    assert detect_format(target)[0].name == "t5x"
    run("convert", target, back, "--to", "t5x/t5")
    run("diff", source, back)
