"""The round trip says yes to what can be undone, and no to every fault on disk, with the leaf's name."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corruption import copy, cut_short, flip_a_bit, swap
from recorded import HERE, MODELS, Recorded, cerebras

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.errors import ConvkitError, UsageError
from convkit.execute import convert
from convkit.files.receipt import complement_path, read_receipt, receipt_path
from convkit.formats import get_format, open_checkpoint
from convkit.mapping.layout import parse_release
from convkit.plan import Options, make_plan, open_source
from convkit.verify.roundtrip import check as module
from convkit.verify.roundtrip.check import roundtrip
from convkit.verify.roundtrip.faults import FAULTS
from convkit.verify.verdict import Verdict

FORMATS = ("safetensors", "torch", "cerebras-h5")
SMALL = ("llama_gqa", "gpt2", "bert", "bert_qa")


def converted(source: Path, to: str, target: Path, **options: Any) -> Path:
    with open_source(source) as opened:
        convert(opened, make_plan(opened, to, options=Options(**options)), target, threads=2)
    return target


def to_cerebras(model: str, folder: Path, format: str = "safetensors", **options: Any) -> tuple[Path, Path]:
    """A recorded model and its conversion."""
    source, name = HERE / model / "hf", "cs.mdl" if format == "cerebras-h5" else "cs"
    return source, converted(source, f"cerebras/{model.partition('_')[0]}", folder / name, format=format, **options)


def judged(source: Path, target: Path, **options: Any) -> Verdict:
    receipt = read_receipt(target)
    assert receipt is not None
    return roundtrip(source, target, receipt["plan"], receipt=receipt, **options)


def assert_exact(verdict: Verdict) -> None:
    assert verdict.passed, verdict.problems
    measured = verdict.measured
    assert measured["leaves_exact"] == measured["leaves_total"] > 0
    assert measured["max_ulp"] == 0 and verdict.details["lost"] == {}


def copied(source: Path, folder: Path, format: str = "safetensors", **options: Any) -> Path:
    """A Hugging Face folder, with some things changed."""
    folder.mkdir()
    shutil.copyfile(source / "config.json", folder / "config.json")
    return copy(source, folder, format, **options)


# --- yes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("model", SMALL)
def test_there_and_back_and_both_are_exact(model: str, format: str, tmp_path: Path) -> None:
    source, target = to_cerebras(model, tmp_path, format)
    verdict = judged(source, target)
    assert_exact(verdict)
    assert verdict.details["digests_compared"] == verdict.measured["leaves_total"]
    again = converted(target, f"hf/{model.partition('_')[0]}", tmp_path / "hf", format="torch")
    assert_exact(judged(target, again))


MULTIPLIED = {"multiplied by another leaf", "multiplied by another number", "not multiplied", "multiplied twice"}


@pytest.mark.parametrize("model", SMALL)
def test_every_planted_fault_that_applies_is_found(model: str, tmp_path: Path) -> None:
    verdict = judged(*to_cerebras(model, tmp_path))
    assert all(fault.caught for fault in verdict.faults)
    names = {fault.name for fault in verdict.faults}
    doesnt_apply = {
        "llama_gqa": set(),
        "gpt2": {"heads counted wrongly"},
        "bert": {"rows not permuted", "heads counted wrongly"},
        "bert_qa": {"rows not permuted", "heads counted wrongly", "a tied copy changed"},
    }
    assert set(FAULTS) - names == doesnt_apply[model] | MULTIPLIED


# --- no ------------------------------------------------------------------------------------------------------

K0 = "model.transformer_decoder.layers.0.self_attn.proj_k_dense_layer.weight"
V0 = "model.transformer_decoder.layers.0.self_attn.proj_v_dense_layer.weight"
HF_K0 = "model.layers.0.self_attn.k_proj.weight"
HF_V0 = "model.layers.0.self_attn.v_proj.weight"


@pytest.mark.parametrize("format", FORMATS)
def test_a_flipped_bit_on_disk_is_found_and_placed(format: str, tmp_path: Path) -> None:
    source, target = to_cerebras("llama_gqa", tmp_path, format)
    flip_a_bit(target, K0, at=33)  # row 1 of the target, the other half of the first head: row 4 of the source
    verdict = judged(source, target)
    assert not verdict.passed
    assert verdict.problems == (f"{HF_K0}: 1 of 512 elements differ from {K0}, the first at [4, 1]",)
    assert verdict.measured["leaves_failing"] == 1
    assert all(fault.caught for fault in verdict.faults)  # planted where nothing failed before


@pytest.mark.parametrize("format", FORMATS)
def test_exchanged_leaves_are_found(format: str, tmp_path: Path) -> None:
    source, target = to_cerebras("llama_gqa", tmp_path, format)
    swap(target, K0, V0)
    verdict = judged(source, target)
    assert not verdict.passed and [line.split(":")[0] for line in sorted(verdict.problems)] == [HF_K0, HF_V0]


@pytest.mark.parametrize("format", FORMATS)
def test_a_target_that_is_cut_short_is_a_no(format: str, tmp_path: Path) -> None:
    source, target = to_cerebras("llama_gqa", tmp_path, format)
    cut_short(target)
    verdict = judged(source, target)
    assert not verdict.passed and len(verdict.problems) == 1
    assert str(target) in verdict.problems[0]


def test_a_copy_that_drifted_is_found(tmp_path: Path) -> None:
    """The norm has two names in a Cerebras llama; in a format that writes both, they can part."""
    source, target = to_cerebras("llama_gqa", tmp_path)
    flip_a_bit(target, "model.ln_f.weight")
    verdict = judged(source, target)
    assert verdict.problems == (
        "model.ln_f.weight: 1 of 32 elements differ from model.transformer_decoder.norm.weight, the first at [31]",
    )


def test_leaves_that_are_missing_or_too_many_are_found(tmp_path: Path) -> None:
    source, target = to_cerebras("llama_gqa", tmp_path)
    fewer = copy(target, tmp_path / "fewer", gone={K0})
    receipt = read_receipt(target)
    assert receipt
    verdict = roundtrip(source, fewer, receipt["plan"], receipt=receipt)
    assert f"{K0}: is missing in the target" in verdict.problems
    assert any(line.startswith(f"{HF_K0}: can't be compared") for line in verdict.problems)
    spec = TensorSpec((2,), "float32")
    more = copy(target, tmp_path / "more", extra={"model.more": (spec, np.zeros(2, np.uint32))})
    (problem,) = roundtrip(source, more, receipt["plan"], receipt=receipt).problems
    assert problem == "model.more: is in the target, but not in the plan"
    other = copy(target, tmp_path / "other", gone={K0}, extra={K0: (spec, np.zeros(2, np.uint32))})
    verdict = roundtrip(source, other, receipt["plan"], receipt=receipt)
    assert f"{K0}: is float32[2] in the target, float32[16, 32] in the plan" in verdict.problems


def test_a_leaf_that_no_step_brings_back_is_found(tmp_path: Path) -> None:
    source, target = to_cerebras("llama_gqa", tmp_path)
    receipt = read_receipt(target)
    assert receipt
    plan = receipt["plan"]
    plan["steps"] = [step for step in plan["steps"] if step["sources"][0]["key"] != HF_V0]
    verdict = roundtrip(source, target, plan, receipt=receipt)
    assert verdict.problems == (f"{HF_V0}: the plan doesn't say how to restore it",)


def test_a_source_that_changed_since_is_told_from_a_target_that_did(tmp_path: Path) -> None:
    source = copied(HERE / "llama_gqa" / "hf", tmp_path / "hf")
    target = converted(source, "cerebras/llama", tmp_path / "cs", format="safetensors")
    flip_a_bit(source, HF_K0)
    (problem,) = judged(source, target).problems
    says = "the source was changed since the conversion: the restored leaf is the one that the receipt records"
    assert problem.startswith(HF_K0) and problem.endswith(says)
    flip_a_bit(source, HF_K0)
    flip_a_bit(target, K0)
    (problem,) = judged(source, target).problems
    assert problem.startswith(HF_K0) and problem.endswith("the first at [15, 31]")


def test_a_source_that_changed_since_a_cast_is_another_one_even_within_the_bound(tmp_path: Path) -> None:
    source = copied(HERE / "llama_gqa" / "hf", tmp_path / "hf")
    target = converted(source, "cerebras/llama", tmp_path / "cs", format="safetensors", dtype="bfloat16")
    flip_a_bit(source, HF_K0)
    verdict = judged(source, target)
    assert verdict.state == "no" and "its digest differs from the receipt" in verdict.problems[0]


def test_a_digest_that_was_edited_is_found(tmp_path: Path) -> None:
    source, target = to_cerebras("llama_gqa", tmp_path)
    path = receipt_path(target)
    receipt = json.loads(path.read_text())
    digest = receipt["source"]["leaves"][HF_V0]["digest"]
    receipt["source"]["leaves"][HF_V0]["digest"] = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    path.write_text(json.dumps(receipt))
    (problem,) = judged(source, target).problems
    assert problem.startswith(f"{HF_V0}: its digest differs from the receipt")


def test_wrong_heads_in_a_plan_are_found(tmp_path: Path) -> None:
    source, target = to_cerebras("llama_gqa", tmp_path)
    receipt = read_receipt(target)
    assert receipt
    for step in receipt["plan"]["steps"]:
        if step["sources"][0]["key"] == HF_K0:
            step["sizes"] |= {"h": 1, "r": 8}
    (problem,) = roundtrip(source, target, receipt["plan"], receipt=receipt).problems
    assert problem.startswith(HF_K0)


def test_a_plan_with_a_hole_is_refused(tmp_path: Path) -> None:
    source, target = to_cerebras("llama_gqa", tmp_path)
    receipt = read_receipt(target)
    assert receipt
    del receipt["plan"]["source_leaves"][HF_K0]
    with pytest.raises(ConvkitError, match="the plan lacks"):
        roundtrip(source, target, receipt["plan"])


def test_a_plan_that_is_no_bijection_is_refused(tmp_path: Path) -> None:
    source, target = to_cerebras("llama_gqa", tmp_path)
    receipt = read_receipt(target)
    assert receipt
    receipt["plan"]["steps"][0]["targets"][0]["axes"] = "v e"
    with pytest.raises(ConvkitError, match="only one side has the piece"):
        roundtrip(source, target, receipt["plan"])


def test_a_target_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    source, target = to_cerebras("llama_gqa", tmp_path)
    receipt = read_receipt(target)
    assert receipt
    with pytest.raises(ConvkitError, match="no such file"):
        roundtrip(source, tmp_path / "elsewhere", receipt["plan"])


def test_a_check_that_sees_no_fault_has_shown_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = to_cerebras("llama_gqa", tmp_path)
    monkeypatch.setattr(module, "_problems", lambda *_: [])
    verdict = judged(source, target)
    assert verdict.measured["leaves_failing"] == 0 and not verdict.passed and verdict.state == "not shown"
    assert len(verdict.problems) == len(verdict.faults)
    assert verdict.sensitivity == f"caught 0 of {len(verdict.faults)}"


# --- what is lost, kept and computed again -----------------------------------------------------------------


def test_what_was_dropped_by_name_is_said(tmp_path: Path) -> None:
    extra = {"probe.weight": (TensorSpec((3,), "float32"), np.arange(3, dtype=np.uint32))}
    source = copied(HERE / "llama_gqa" / "hf", tmp_path / "hf", extra=extra)
    target = converted(source, "cerebras/llama", tmp_path / "cs", format="safetensors", drop=("probe.*",))
    verdict = judged(source, target)
    assert verdict.passed, verdict.problems
    assert verdict.details["lost"] == {"probe.weight": "dropped by name"}
    assert verdict.measured["leaves_dropped"] == 1
    assert judged(source, target, keep=tmp_path / "kept").passed
    assert "probe.weight" not in contents(tmp_path / "kept")


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A Cerebras checkpoint with things beside the model: two tensors and two values."""
    _, plain = to_cerebras("llama_gqa", tmp_path, "cerebras-h5")
    extra = {
        "optimizer.state.0.exp_avg": (TensorSpec((5, 3), "float32"), np.arange(15, dtype=np.uint32)),
        "optimizer.state.1.exp_avg": (TensorSpec((7,), "bfloat16"), np.arange(7, dtype=np.uint16)),
        "global_step": 1234,
        "note": "as it was",
    }
    shutil.copyfile(plain.with_suffix(".yaml"), tmp_path / "trained.yaml")
    return copy(plain, tmp_path / "trained.mdl", extra=extra)


def test_what_was_left_behind_comes_back_from_the_complement(trained: Path, tmp_path: Path) -> None:
    target = converted(trained, "hf/llama", tmp_path / "hf")
    assert_exact(judged(trained, target))
    again = converted(target, "cerebras/llama", tmp_path / "again.mdl")
    assert_exact(judged(target, again))

    flip_a_bit(complement_path(target), "optimizer.state.1.exp_avg")
    (problem,) = judged(trained, target).problems
    assert problem.startswith("optimizer.state.1.exp_avg: 1 of 7 elements differ from the complement")
    problems = judged(target, again).problems
    assert [line.split(":")[0] for line in problems] == ["optimizer.state.1.exp_avg"]

    receipt = read_receipt(target)
    assert receipt
    receipt["complement"]["values"]["global_step"] = 1235
    problems = roundtrip(trained, target, receipt["plan"], receipt=receipt).problems
    assert "global_step: is 1234, and comes back as 1235" in problems

    complement_path(target).unlink()
    problems = judged(trained, target).problems
    assert any("complement" in line for line in problems)
    assert sum(line.startswith("optimizer.state.") for line in problems) == 2

    by_others = roundtrip(trained, target, receipt["plan"])
    assert by_others.passed, by_others.problems
    assert set(by_others.details["lost"].values()) == {"left behind, and not kept"}
    assert by_others.measured["leaves_dropped"] == 4


@pytest.fixture
def buffered(tmp_path: Path) -> Path:
    """A GPT-2 with the buffers that transformers used to store, one of them not what it should be."""
    source = HERE / "gpt2" / "hf"
    positions = json.loads((source / "config.json").read_text())["n_positions"]
    mask = np.tril(np.ones((positions, positions), np.uint8))
    odd = mask.copy()
    odd[0, 1] = 1
    spec = TensorSpec((1, 1, positions, positions), "uint8")
    extra = {"transformer.h.0.attn.bias": (spec, mask), "transformer.h.1.attn.bias": (spec, odd)}
    return copied(source, tmp_path / "buffered", extra=extra)


def test_derived_leaves_are_computed_again_or_kept(buffered: Path, tmp_path: Path) -> None:
    target = converted(buffered, "cerebras/gpt2", tmp_path / "cs.mdl")
    assert complement_path(target).is_file()
    assert_exact(judged(buffered, target))
    again = converted(target, "hf/gpt2", tmp_path / "again")
    assert_exact(judged(target, again))
    flip_a_bit(again, "transformer.h.0.attn.bias", at=7)
    (problem,) = judged(target, again).problems
    assert problem.startswith("transformer.h.0.attn.bias: 1 of 1600 elements differ from recipe causal mask")
    receipt = read_receipt(target)
    assert receipt
    by_others = roundtrip(buffered, target, receipt["plan"])
    assert by_others.passed and list(by_others.details["lost"]) == ["transformer.h.1.attn.bias"]


# --- bounds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ("bfloat16", "float16"))
def test_a_narrowing_cast_is_judged_by_its_bound(dtype: str, tmp_path: Path) -> None:
    source, target = to_cerebras("llama_gqa", tmp_path, dtype=dtype)
    verdict = judged(source, target)
    assert verdict.passed, verdict.problems
    assert verdict.details["exactness"] == "within 0.5 ulp"
    assert verdict.measured["leaves_exact"] == 0 and verdict.measured["leaves_bounded"] == 21
    assert 0.4 < verdict.measured["max_ulp"] <= verdict.bound["max_ulp"] == 0.5
    flip_a_bit(target, K0, at=0)
    (problem,) = judged(source, target).problems
    assert problem.startswith(f"{HF_K0}: 1 of 512 elements lie more than 0.5 ulp from {K0}, the first at [0, 0]")


def test_a_widening_cast_is_exact(tmp_path: Path) -> None:
    source, target = to_cerebras("gpt2", tmp_path, dtype="float64")
    assert_exact(judged(source, target))


# --- the reconverted checkpoint, kept -----------------------------------------------------------------------


def contents(path: Path) -> dict[str, tuple[Any, Any]]:
    with open_checkpoint(path) as checkpoint:
        return {
            key: (leaf.spec, checkpoint.read(key).tobytes() if leaf.spec else leaf.value)
            for key, leaf in checkpoint.leaves.items()
        }


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_kept_is_the_source(format: str, trained: Path, tmp_path: Path) -> None:
    """Sources of each format: Hugging Face's, and a training checkpoint with values."""
    source = trained if format == "cerebras-h5" else copied(HERE / "gpt2" / "hf", tmp_path / "hf", format)
    target = converted(source, "hf/llama" if format == "cerebras-h5" else "cerebras/gpt2", tmp_path / "target")
    verdict = judged(source, target, keep=tmp_path / "kept", source_format=format)
    assert_exact(verdict)
    kept = tmp_path / "kept" / "trained.mdl" if format == "cerebras-h5" else tmp_path / "kept"
    assert contents(kept) == contents(source)
    assert not (tmp_path / "kept.partial").exists()
    with pytest.raises(UsageError, match="exists already"):
        judged(source, target, keep=tmp_path / "kept", source_format=format)


def test_nothing_is_kept_of_what_can_not_be_made_again(tmp_path: Path) -> None:
    source, target = to_cerebras("llama_gqa", tmp_path)
    fewer = copy(target, tmp_path / "fewer", gone={K0})
    receipt = read_receipt(target)
    assert receipt
    verdict = roundtrip(source, fewer, receipt["plan"], keep=tmp_path / "kept")
    assert any(line.startswith("the reconverted source can't be kept") for line in verdict.problems)
    assert not list(tmp_path.glob("kept*"))


def test_a_wrong_target_is_found_in_what_is_kept_too(tmp_path: Path) -> None:
    source, target = to_cerebras("llama_gqa", tmp_path)
    flip_a_bit(target, K0)
    (problem,) = judged(source, target, keep=tmp_path / "kept").problems
    assert problem.startswith(HF_K0)


# --- conversions made by others -------------------------------------------------------------------------------


def plan_of_others(source: Path, format: str, target: Path, to: str, release: str) -> dict[str, Any]:
    with open_source(source, format=format) as opened, open_checkpoint(target) as made:
        options = Options(format=made.format, release=parse_release(release), restore=False)
        return make_plan(opened, to, options=options).to_json()


@pytest.mark.golden
@pytest.mark.parametrize("format", ("torch", "safetensors"))
@pytest.mark.parametrize("recorded", [Recorded(m, r, here=False) for m, rs in MODELS.items() for r in rs], ids=str)
def test_the_originals_conversions_to_cerebras_make_the_round_trip(recorded: Recorded, format: str) -> None:
    target = recorded.mdl()
    assert target is not None
    plan = plan_of_others(recorded.hf, format, target, cerebras(recorded.family), recorded.release)
    verdict = roundtrip(recorded.hf, target, plan, source_format=format)
    if recorded.family == "gemma2":  # without our complement, norms stored minus one come back rounded
        assert verdict.passed and verdict.details["exactness"] == "within 1 ulp", verdict.problems
    else:
        assert_exact(verdict)
    assert verdict.details["digests_compared"] == 0
    assert verdict.faults and all(fault.caught for fault in verdict.faults)


@pytest.mark.golden
@pytest.mark.parametrize("release", ("2.1", "2.9"))
def test_the_originals_conversions_to_hugging_face_make_the_round_trip(release: str) -> None:
    recorded = Recorded("llama_mha", release, here=False)
    source = recorded.mdl()
    (target,) = (path for path in recorded.to_hf.iterdir() if path.is_dir())
    assert source is not None
    plan = plan_of_others(source, "cerebras-h5", target, "hf/llama", release)
    assert_exact(roundtrip(source, target, plan))


# --- size ------------------------------------------------------------------------------------------------------


def anonymous() -> int:
    """Bytes of this process that no file backs."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon:"))


@contextmanager
def growth() -> Iterator[list[int]]:
    """What anonymous memory grew by, at most."""
    start, peak, over = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            peak[0] = max(peak[0], anonymous() - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("axes", ("(h two r) d -> (h r two) d", "a b -> b a"))
def test_memory_does_not_grow_with_the_checkpoint(axes: str, tmp_path: Path) -> None:
    """300 MB a side, in leaves of 100 MB."""
    left, right = axes.split(" -> ")
    sizes = {"a": 10_000, "b": 5_000, "h": 50, "two": 2, "r": 100, "d": 5_000}
    shapes = {"a b": ((10_000, 5_000), (5_000, 10_000))}.get(left, ((10_000, 5_000), (10_000, 5_000)))
    keys = [f"leaf.{n}" for n in range(3)]
    random = np.random.default_rng(0).integers(0, 1 << 16, shapes[0], np.uint16)
    if left == "a b":
        turned = np.ascontiguousarray(random.T)
    else:
        turned = np.ascontiguousarray(random.reshape(50, 2, 100, 5_000).swapaxes(1, 2))
    plan: dict[str, Any] = {
        "mapping": "left <-> right",
        "source": {"format": "safetensors"},
        "target": {"format": "safetensors"},
        "steps": [
            {
                "rule": axes,
                "op": "rearrange",
                "exactness": "exact",
                "sources": [{"key": key, "axes": left, "at": {}}],
                "targets": [{"key": key, "axes": right, "at": {}}],
                "sizes": sizes,
            }
            for key in keys
        ],
        "derived": [],
        "owed": [],
    }
    for name, shape, data, fate in (("source", shapes[0], random, "fate"), ("target", shapes[1], turned, "origin")):
        leaves = [Leaf(key, TensorSpec(shape, "bfloat16")) for key in keys]
        folder = tmp_path / name
        folder.mkdir()
        writer = get_format("safetensors").create(folder, leaves, WriteOptions(shard_size=150 << 20))
        for key in keys:
            writer.write(key, 0, data.reshape(-1))
            writer.finish(key)
        writer.commit()
        writer.close()
        plan[f"{name}_leaves"] = {key: {"shape": list(shape), "dtype": "bfloat16", fate: "moved"} for key in keys}
    del random, turned
    with growth() as peak:
        assert_exact(roundtrip(tmp_path / "source", tmp_path / "target", plan))
    assert peak[0] < 64 << 20
