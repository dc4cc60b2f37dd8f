"""``verify``: a checkpoint matches its receipt, or each mismatch is named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from corruption import copy, cut_short, edit, flip_a_bit, swap
from recorded import HERE

from convkit.checkpoint import TensorSpec, WriteOptions
from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.execute import convert
from convkit.files.receipt import complement_path, receipt_path
from convkit.files.seal import sealed
from convkit.plan import Options, make_plan, open_source
from convkit.verify.receipts import verify

K0 = "model.transformer_decoder.layers.0.self_attn.proj_k_dense_layer.weight"
V0 = "model.transformer_decoder.layers.0.self_attn.proj_v_dense_layer.weight"
FORMATS = ("safetensors", "torch", "cerebras-h5")


def converted(folder: Path, format: str, source: Path | None = None, to: str = "cerebras/llama") -> Path:
    target = folder / ("cs.mdl" if format == "cerebras-h5" else "cs")
    with open_source(source or HERE / "llama_gqa" / "hf") as opened:
        plan = make_plan(opened, to, options=Options(format=format))
        convert(opened, plan, target, threads=2, digest="xxh3-128" if format != "torch" else "blake3")
    return target


def problems(target: Path) -> tuple[str, ...]:
    verdict = verify(target)
    assert verdict.passed == (not verdict.problems)
    assert all(fault.caught for fault in verdict.faults)
    return verdict.problems


def edit_receipt(target: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit a receipt, and seal it anew."""
    path = receipt_path(target)
    receipt = json.loads(path.read_text())
    change(receipt)
    path.write_bytes(sealed(receipt)[1])


def of_an_earlier_release(target: Path) -> None:
    """Leave of a receipt what earlier releases wrote."""
    path = receipt_path(target)
    receipt = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in receipt.items() if name not in ("written", "digest")}))


@pytest.mark.parametrize("format", FORMATS)
def test_a_fresh_conversion_is_what_its_receipt_says(format: str, tmp_path: Path) -> None:
    verdict = verify(converted(tmp_path, format))
    assert verdict.passed, verdict.problems
    assert verdict.measured["leaves_total"] == 22 and verdict.measured["leaves_failing"] == 0
    assert verdict.sensitivity == "caught 9 of 9"


def test_a_conversion_to_hugging_face_too(tmp_path: Path) -> None:
    mdl = converted(tmp_path, "cerebras-h5")
    with open_source(mdl) as opened:
        convert(opened, make_plan(opened, "hf/llama"), tmp_path / "hf", options=WriteOptions(shard_size=20_000))
    assert problems(tmp_path / "hf") == ()
    shard = next((tmp_path / "hf").glob("model-00002*"))
    shard.rename(tmp_path / "elsewhere")
    found = problems(tmp_path / "hf")
    assert f"{shard.name}: the file is missing" in found and len(found) == 2


@pytest.mark.parametrize("format", FORMATS)
def test_a_flipped_bit_is_found(format: str, tmp_path: Path) -> None:
    target = converted(tmp_path, format)
    flip_a_bit(target, K0)
    assert f"{K0}: its digest differs from the receipt" in problems(target)


@pytest.mark.parametrize("format", FORMATS)
def test_exchanged_leaves_are_found(format: str, tmp_path: Path) -> None:
    target = converted(tmp_path, format)
    swap(target, K0, V0)
    assert {f"{key}: its digest differs from the receipt" for key in (K0, V0)} <= set(problems(target))


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_is_cut_short_is_found(format: str, tmp_path: Path) -> None:
    target = converted(tmp_path, format)
    cut_short(target)
    found = problems(target)
    assert len(found) == 2 and "bytes, the receipt says" in found[0] and str(target) in found[1]


def test_leaves_that_are_missing_or_too_many_or_other_are_found(tmp_path: Path) -> None:
    target = converted(tmp_path, "safetensors")
    whole = target.rename(tmp_path / "whole")
    (whole / "params.yaml").rename(tmp_path / "params.yaml")
    extra = {"model.more": (TensorSpec((2,), "float32"), np.zeros(2, np.uint32))}
    extra[V0] = extra["model.more"]
    copy(whole, target, gone={K0, V0}, extra=extra)
    (tmp_path / "params.yaml").rename(target / "params.yaml")
    found = problems(target)
    assert f"{K0}: is missing" in found
    assert "model.more: is not in the receipt" in found
    assert any(line.startswith(f"{V0}: is ") for line in found)
    assert any("bytes, the receipt says" in line for line in found)


def test_a_digest_that_was_edited_is_found(tmp_path: Path) -> None:
    target = converted(tmp_path, "safetensors")
    edit_receipt(target, lambda receipt: receipt["target"]["leaves"][K0].update(digest="xxh3-128:00"))
    assert problems(target) == (f"{K0}: its digest differs from the receipt",)


def test_a_plan_that_was_edited_is_found(tmp_path: Path) -> None:
    target = converted(tmp_path, "safetensors")
    edit_receipt(target, lambda receipt: receipt["plan"]["steps"][0]["sizes"].update(v=1))
    assert [line for line in problems(target) if "it was edited" in line]


@pytest.mark.parametrize("format", ("safetensors", "cerebras-h5"))
def test_a_config_that_was_edited_is_found(format: str, tmp_path: Path) -> None:
    target = converted(tmp_path, format)
    file = target / "params.yaml" if format == "safetensors" else target.with_suffix(".yaml")
    config = yaml.safe_load(file.read_text())
    config["model"]["layer_norm_epsilon"] = 0.1
    file.write_text(yaml.safe_dump(config))
    assert problems(target) == (f"{file.name}: model.layer_norm_epsilon is 0.1, the receipt says 1e-06",)
    file.write_text("model: [")
    assert len(problems(target)) == 1
    file.unlink()
    assert [line for line in problems(target) if "the config is missing" in line]


def test_the_complement_is_looked_at(tmp_path: Path) -> None:
    plain = converted(tmp_path, "cerebras-h5")
    spec = TensorSpec((5,), "float32")
    extra = {"optimizer.state.0": (spec, np.arange(5, dtype=np.uint32)), "global_step": 7}
    source = copy(plain, tmp_path / "trained.mdl", extra=extra)
    shutil.copyfile(plain.with_suffix(".yaml"), source.with_suffix(".yaml"))
    with open_source(source) as opened:
        convert(opened, make_plan(opened, "hf/llama"), tmp_path / "hf")
    assert problems(tmp_path / "hf") == ()
    complement = complement_path(tmp_path / "hf")
    edit(complement, "optimizer.state.0", lambda array: array[::-1].copy())
    name = complement.name
    changed = [f"{name}: its digest differs from the receipt", "optimizer.state.0: its digest differs from the receipt"]
    assert problems(tmp_path / "hf") == tuple(changed)
    complement.unlink()
    assert problems(tmp_path / "hf")[0] == f"{name}: the file is missing"


def test_values_are_digested_too(tmp_path: Path) -> None:
    plain = converted(tmp_path, "cerebras-h5")
    source = copy(plain, tmp_path / "trained.mdl", extra={"global_step": 7})
    shutil.copyfile(plain.with_suffix(".yaml"), source.with_suffix(".yaml"))
    with open_source(source) as opened:
        convert(opened, make_plan(opened, "hf/llama"), tmp_path / "hf")
    target = tmp_path / "again.mdl"
    with open_source(tmp_path / "hf") as opened:
        convert(opened, make_plan(opened, "cerebras/llama"), target)
    assert problems(target) == ()
    copy(target, tmp_path / "other.mdl", gone={"global_step"}, extra={"global_step": 8}).replace(target)
    assert "global_step: its digest differs from the receipt" in problems(target)


def test_without_a_receipt_there_is_nothing_to_verify(tmp_path: Path) -> None:
    target = converted(tmp_path, "safetensors")
    receipt_path(target).unlink()
    with pytest.raises(ConvkitError, match=r"has no receipt.*cs\.convkit\.json"):
        verify(target)
    with pytest.raises(ConvkitError, match="no such file"):
        verify(tmp_path / "nothing")


def test_a_receipt_that_is_none_is_refused(tmp_path: Path) -> None:
    target = converted(tmp_path, "safetensors")
    receipt_path(target).write_text("{")
    with pytest.raises(ConvkitError, match="not valid JSON"):
        verify(target)


def test_a_receipt_whose_bytes_changed_vouches_for_nothing(tmp_path: Path) -> None:
    target = converted(tmp_path, "cerebras-h5")
    path = receipt_path(target)
    path.write_text(path.read_text().replace('"threads": 2', '"threads": 3'))
    (problem,) = problems(target)
    assert problem.startswith(f"{path.name}: the receipt isn't as it was written")
    path.write_text(json.dumps(json.loads(path.read_text())))  # written anew: also without its seal's place
    assert len(problems(target)) == 1
    receipt = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in receipt.items() if name != "digest"}))
    assert len(problems(target)) == 1


def test_a_receipt_of_an_earlier_release_is_verified_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = converted(tmp_path, "cerebras-h5")
    of_an_earlier_release(target)
    verdict = verify(target)
    assert verdict.passed and verdict.sensitivity == "caught 4 of 4" and "files_total" not in verdict.measured
    assert main(["verify", str(target)]) == 0
    assert "not compared: the receipt is of an earlier release" in capsys.readouterr().out
    flip_a_bit(target, K0)
    assert problems(target)[-1] == f"{K0}: its digest differs from the receipt"


def test_a_target_that_was_renamed_with_all_that_lies_beside_it_is_the_same(tmp_path: Path) -> None:
    target = converted(tmp_path, "cerebras-h5")
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(path.name.replace("cs", "renamed", 1)))
    assert problems(tmp_path / "renamed.mdl") == ()
    assert not target.exists()


def test_files_added_removed_exchanged_and_renamed_are_named(tmp_path: Path) -> None:
    mdl = converted(tmp_path, "cerebras-h5")
    target, away = tmp_path / "hf", tmp_path / "away"
    with open_source(mdl) as opened:
        convert(opened, make_plan(opened, "hf/llama"), target, options=WriteOptions(shard_size=20_000))
    one, other = sorted(target.glob("model-0000[12]-*"))
    (target / "sub").mkdir()
    (target / "sub" / "more").write_text("")
    assert problems(target) == ("sub/more: is not in the receipt",)
    (target / "sub" / "more").unlink()
    (target / "config.json").rename(target / "config.yaml")
    assert {"config.yaml: is not in the receipt", "config.json: the config is missing"} <= set(problems(target))
    (target / "config.yaml").rename(target / "config.json")
    one.rename(away), other.rename(one), away.rename(other)
    assert [line for line in problems(target) if line.startswith(one.name)]
    one.rename(away), other.rename(one), away.rename(other)
    with one.open("ab") as file:
        file.write(b"\0")
    assert any(line.startswith(f"{one.name}: the file has") for line in problems(target))
    os.truncate(one, one.stat().st_size - 1)
    complement_path(target).write_bytes(b"")
    assert "hf.complement.safetensors: is not in the receipt" in problems(target)
