"""A walk goes on where it was killed, covers the part that was asked for, and spreads its faults over all layers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import pytest
import torch
from paired_models import gpt2, llama
from test_equivalence import NO_FAULTS, agrees, generated_pair, plant, write

from convkit.cli import main
from convkit.errors import UsageError
from convkit.verify.equivalence import check, walk
from convkit.verify.equivalence.check import equivalence
from convkit.verify.equivalence.walk import Choices, Walk

torch.set_num_threads(1)

PART = Choices(faults="none", stages="layers.0:layers.1")


class KilledError(Exception):
    """What a kill is here: nothing runs after it."""


@contextmanager
def killed_after(stage: str, monkeypatch: pytest.MonkeyPatch, by: ModuleType = check) -> Iterator[list[str]]:
    """A run that ends as soon as the stage after this one begins; the stages that it has finished."""
    finished: list[str] = []
    real = Walk.run

    def run(self: Walk) -> Iterator[str]:
        for name in real(self):
            finished.append(name)
            yield name
            if name == stage:
                raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(by.Walk, "run", run)
        yield finished


class TestJournal:
    @pytest.fixture
    def pair(self, tmp_path: Path) -> tuple[Path, Path]:
        return write(llama(), tmp_path)

    @pytest.mark.parametrize("stage", ["embedding", "layers.1"])
    def test_a_killed_run_goes_on_from_its_last_whole_stage(
        self, stage: str, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = pair[1].with_name("cs.equivalence-journal")
        whole = equivalence(*pair)
        assert not journal.exists()
        with killed_after(stage, monkeypatch) as before, pytest.raises(KilledError):
            equivalence(*pair)
        assert before[-1] == stage and journal.is_file()
        with killed_after("", monkeypatch) as after:
            resumed = equivalence(*pair)
        assert [*before, *after] == [one.name for one in whole.stages or ()]
        assert not journal.exists()
        one, other = (verdict.to_json() | {"seconds": 0} for verdict in (whole, resumed))
        assert one == other

    @pytest.mark.parametrize("side", ["hf", "cs"])
    def test_a_journal_of_other_bytes_does_not_count(
        self, side: str, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with killed_after("layers.1", monkeypatch), pytest.raises(KilledError):
            equivalence(*pair)
        file = next((pair[0].parent / side).glob("*.safetensors"))
        data = bytearray(file.read_bytes())
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        key = next(key for key in header if "layers.0" in key and "norm" in key and not key.endswith("_"))
        data[start + header[key]["data_offsets"][0] + 2] ^= 64
        file.write_bytes(data)
        with killed_after("", monkeypatch) as after:
            verdict = equivalence(*pair)
        assert after[0] == "embedding" and verdict.state == "no"

    @pytest.mark.parametrize("spoil", [b"", b"\x00" * 99])
    def test_a_broken_journal_does_not_count(
        self, spoil: bytes, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with killed_after("layers.0", monkeypatch), pytest.raises(KilledError):
            equivalence(*pair, choices=NO_FAULTS)
        pair[1].with_name("cs.equivalence-journal").write_bytes(spoil)
        with killed_after("", monkeypatch) as after:
            assert agrees(equivalence(*pair, choices=NO_FAULTS))
        assert after[0] == "embedding"

    def test_another_question_starts_anew(self, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        with killed_after("layers.0", monkeypatch), pytest.raises(KilledError):
            equivalence(*pair, choices=NO_FAULTS)
        with killed_after("", monkeypatch) as after:
            equivalence(*pair, choices=NO_FAULTS, probe_length=32)
        assert after[0] == "embedding"


class TestAPart:
    def test_only_its_stages_are_compared_and_it_says_so(self, tmp_path: Path) -> None:
        pair = llama(hidden=48)
        plant(pair.cs, "value")  # in layer 1
        hf, cs = write(pair, tmp_path)
        for stages, names, state in (
            ("layers.1:head", ["layers.1", "layers.2", "head"], "no"),
            ("layers.2:", ["layers.2", "head"], "not shown"),
            (":1", ["embedding", "layers.0"], "not shown"),
        ):
            verdict = equivalence(hf, cs, choices=Choices(faults="none", stages=stages))
            assert [one.name for one in verdict.stages or ()] == names and verdict.state == state
            assert verdict.covered == f"{names[0]}:{names[-1]}"

    @pytest.mark.parametrize("stages", ["layers.1", "layers.9:", "2:layers.0", "layers.0:x"])
    def test_what_is_no_part_is_refused(self, stages: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=f"--stages {stages}"):
            equivalence(*write(gpt2(), tmp_path), choices=Choices(stages=stages))


class TestMemory:
    def test_the_head_is_read_in_thinner_slices(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cut: list[int] = []

        def pieces(*args: Any) -> Any:
            found = real(*args)
            cut.append(len(found))
            return found

        real = walk.pieces
        monkeypatch.setattr(walk, "pieces", pieces)
        pair = write(llama(vocab=60_000, layers=1), tmp_path)
        whole = equivalence(*pair, choices=NO_FAULTS, probe_length=32)
        assert max(cut) == 1
        sliced = equivalence(*pair, choices=Choices(faults="none", memory=460_000_000), probe_length=32)
        assert max(cut) > 1
        assert agrees(whole) and agrees(sliced)
        for name in ("max_rel", "free_max_rel", "max_kl"):
            assert sliced.measured[name] == pytest.approx(whole.measured[name])

    def test_too_little_is_refused_with_what_is_needed(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"--memory: 100 MB .* \(at least 4\d\d MB are needed\)"):
            equivalence(*write(gpt2(), tmp_path), choices=Choices(memory=100_000_000))


class TestFaults:
    def test_every_layer_gets_one_and_each_kind_a_layer(self, tmp_path: Path) -> None:
        hf, cs = write(llama(layers=12), tmp_path)
        spread = equivalence(hf, cs)
        assert spread.passed, spread.problems
        layers = {fault.stage for fault in spread.faults} - {"embedding", "head"}
        assert layers == {f"layers.{i}" for i in range(12)}
        every = equivalence(hf, cs, choices=Choices(faults="all"))
        assert every.passed, every.problems
        assert {fault.name for fault in every.faults} == {fault.name for fault in spread.faults}
        assert len(every.faults) > 5 * len(spread.faults)

    def test_none_shows_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        hf, cs = write(llama(), tmp_path)
        assert main(["equivalence", str(hf), str(cs), "--faults", "none"]) == 1
        said = capsys.readouterr().out
        assert said.startswith("equivalence: not shown: ") and "--faults none" in said


@pytest.mark.parametrize("stage", ["embedding", "layers.0", "layers.1", "layers.2", "head"])
def test_a_fault_in_a_stage_is_seen_in_that_stage_and_in_no_other(stage: str, tmp_path: Path) -> None:
    pair = llama()
    keys = {"embedding": "embedding_layer.word_embeddings.weight", "head": "lm_head.weight"}
    layer = f"transformer_decoder.{stage}.ffn.ffn.0.linear_layer.weight"
    key = f"model.{keys.get(stage, layer)}"
    pair.cs[key] = pair.cs[key] * (1 + 1e-3)
    verdict = equivalence(*write(pair, tmp_path), choices=NO_FAULTS)
    assert verdict.state == "no"
    wrong = [one.name for one in verdict.stages or () if one.problems]
    assert wrong == [stage], verdict.problems
    assert key in verdict.problems[0]


def test_it_judges_what_lies_there_and_says_that_the_receipt_records_other_bytes(tmp_path: Path) -> None:
    source, target = generated_pair("llama?layers=2", tmp_path, "cerebras/llama")
    assert equivalence(source, target, choices=NO_FAULTS).details["notes"] == []
    key = "model.transformer_decoder.layers.1.norm1.weight"
    with h5py.File(target, "r+") as file:
        file[key][0] *= 2
    verdict = equivalence(source, target, choices=NO_FAULTS)
    assert verdict.state == "no" and [one.name for one in verdict.stages or () if one.problems] == ["layers.1"]
    assert verdict.details["notes"] == [f"the target isn't what the receipt records: {key}; what lies there was judged"]


def test_a_source_that_was_changed_since_is_another_one_however_little_it_differs(tmp_path: Path) -> None:
    source, target = generated_pair("llama?layers=1", tmp_path, "cerebras/llama")
    flip_a_bit(source / "model.safetensors")
    verdict = equivalence(source, target, choices=NO_FAULTS)
    assert verdict.state == "no" and not [one.name for one in verdict.stages or () if one.problems]
    (problem,) = verdict.problems
    assert re.match(r"the source was changed since the conversion: \S+ \(convert again", problem)


def flip_a_bit(file: Path) -> None:
    """The last bit that counts for least in the last tensor."""
    data = bytearray(file.read_bytes())
    data[-4] ^= 1
    file.write_bytes(data)
