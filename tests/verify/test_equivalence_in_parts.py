"""An equivalence check whose stages are shared among parts gives the verdict of one run, and claims no more."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paired_models import bert, llama
from test_equivalence import NO_FAULTS, agrees, generated_pair, plant, write
from test_walk import KilledError, killed_after

from convkit.cli import main
from convkit.errors import ConvkitError, UsageError
from convkit.files.part import Part
from convkit.oracles.tensors import Alive
from convkit.verify.equivalence import in_parts, journal
from convkit.verify.equivalence.check import equivalence
from convkit.verify.equivalence.in_parts import equivalence_joined, equivalence_part
from convkit.verify.equivalence.walk import Choices, Walk
from convkit.verify.verdict import Verdict

torch.set_num_threads(1)

Both = tuple[Path, Path]

PAIRS = {
    "llama": lambda folder: write(llama(), folder),
    "bert": lambda folder: write(bert("pretraining"), folder),
    "mixtral": partial(generated_pair, "mixtral?layers=3", to="cerebras/mixtral"),
    "t5, of two stacks": partial(generated_pair, "t5", to="cerebras/t5"),
}


def part(both: Both, number: int, count: int, **how: Any) -> dict[str, Any]:
    return equivalence_part(*both, Part(number, count), **how)


def said(verdict: Verdict) -> dict[str, Any]:
    """A verdict without times, without who made it, and without what follows from which faults were planted."""
    document = verdict.to_json()
    details = {name: value for name, value in document["details"].items() if name != "in_parts"}
    return document | {"seconds": 0, "faults": (), "sensitivity": "", "details": details}


def kinds(verdict: Verdict) -> set[str]:
    return {fault.name for fault in verdict.faults if fault.caught}


def planted(verdict: Verdict) -> list[str]:
    return [path.name for path in Path(verdict.target).parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("family", PAIRS)
def test_the_verdict_is_that_of_one_run(family: str, tmp_path: Path) -> None:
    both = PAIRS[family](tmp_path)
    whole = equivalence(*both)
    assert whole.passed and whole.stages
    for count in (1, 2, len(whole.stages) + 2) if family == "llama" else (3,):
        documents = [part(both, number, count) for number in range(count, 0, -1)]
        assert [document["problems"] for document in documents] == [[]] * count
        verdict = equivalence_joined(*both)
        assert verdict.passed, verdict.problems
        assert said(verdict) == said(whole)
        assert kinds(verdict) == kinds(whole) and all(fault.caught for fault in verdict.faults)
        assert {fault.stage for fault in verdict.faults} >= {fault.stage for fault in whole.faults if fault.stage}
        named = [name for document in documents[::-1] for name in document["stages"]]
        assert named == [stage.name for stage in whole.stages]
        assert [made["part"] for made in verdict.details["in_parts"]] == list(range(1, count + 1))
        assert planted(verdict) == []


@pytest.mark.parametrize("forwards", [True, False])
def test_a_part_begins_where_the_one_before_ended_if_that_is_known(
    forwards: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = write(llama(layers=4), tmp_path)
    whole, walked = equivalence(*both), list[list[str]]()
    for number in (1, 2, 3) if forwards else (3, 2, 1):
        with killed_after("", monkeypatch, in_parts) as stages:
            part(both, number, 3)
        walked.append(stages)
    names = [stage.name for stage in whole.stages or ()]
    assert [stage for stages in walked for stage in stages] == names if forwards else walked[0] == names
    assert said(equivalence_joined(*both)) == said(whole)


def test_a_part_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = write(llama(layers=4), tmp_path)
    whole = equivalence(*both)
    part(both, 1, 2)
    for stage in ("layers.1", "layers.2", "layers.3"):
        (tmp_path / ".cs.convkit-equivalence/part-1-of-2.journal").unlink(missing_ok=True)
        with killed_after(stage, monkeypatch, in_parts) as before, pytest.raises(KilledError):
            part(both, 2, 2)
        with pytest.raises(UsageError, match=r"some are missing: 2 .*--part 2/2"):
            equivalence_joined(*both)
    assert before == ["layers.3"]
    with killed_after("", monkeypatch, in_parts) as after:
        part(both, 2, 2)
    assert after == ["head"]
    assert said(equivalence_joined(*both)) == said(whole)


@pytest.mark.parametrize(("count", "forwards"), [(1, True), (3, True), (3, False), (6, False)])
def test_a_wrong_stage_is_named_whichever_part_has_it(count: int, forwards: bool, tmp_path: Path) -> None:
    pair = llama(hidden=48)
    plant(pair.cs, "gate and up")
    both = write(pair, tmp_path)
    numbers = range(1, count + 1)
    found = [part(both, number, count)["problems"] for number in (numbers if forwards else reversed(numbers))]
    assert sum(map(bool, found)) == 1
    verdict, whole = equivalence_joined(*both), equivalence(*both)
    assert verdict.state == "no" and said(verdict) == said(whole)
    assert [stage.name for stage in verdict.stages or () if stage.problems] == ["layers.1"]
    assert kinds(verdict) == kinds(whole)


def test_rows_that_the_input_does_not_use_are_compared_by_the_first_part(tmp_path: Path) -> None:
    pair = llama(vocab=5000)
    key = "model.embedding_layer.word_embeddings.weight"
    pair.cs[key] = pair.cs[key].clone()
    pair.cs[key][4001] += 1
    both = write(pair, tmp_path)
    first, second = (part(both, number, 2, probe_length=32)["problems"] for number in (1, 2))
    assert second == [] and first == list(equivalence(*both, probe_length=32).problems) != []
    assert equivalence_joined(*both, probe_length=32).problems == tuple(first)


class TestWhatIsNotANumber:
    @pytest.mark.parametrize("count", [2, 6])
    def test_nothing_is_claimed_behind_it(self, count: int, tmp_path: Path) -> None:
        pair = llama()
        pair.hf["model.layers.1.mlp.down_proj.weight"][0, 0] = float("nan")
        both = write(pair, tmp_path)
        for number in range(count, 0, -1):
            part(both, number, count)
        verdict, whole = equivalence_joined(*both), equivalence(*both)
        assert verdict.state == "no" and said(verdict) == said(whole)
        assert [stage.name for stage in verdict.stages or ()] == ["embedding", "layers.0", "layers.1"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return write(llama(layers=1), tmp_path_factory.mktemp("small"))


@pytest.fixture
def fresh(small: Both) -> Iterator[Both]:
    yield small
    for path in (small[1].parent / ".cs.convkit-equivalence").glob("*"):
        path.unlink()


class TestRefused:
    def made(self, both: Both, count: int = 2, **how: Any) -> None:
        for number in range(1, count + 1):
            part(both, number, count, **{"choices": NO_FAULTS, "probe_length": 16, **how})

    def joined(self, both: Both, **how: Any) -> Verdict:
        return equivalence_joined(*both, **{"choices": NO_FAULTS, "probe_length": 16, **how})

    def test_missing_parts(self, fresh: Both) -> None:
        with pytest.raises(UsageError, match="no part of its equivalence was made"):
            self.joined(fresh)
        part(fresh, 2, 3, choices=NO_FAULTS, probe_length=16)
        with pytest.raises(UsageError, match=r"of the 3 parts of its equivalence some are missing: 1, 3 .*--part 1/3"):
            self.joined(fresh)
        part(fresh, 1, 2, choices=NO_FAULTS, probe_length=16)
        with pytest.raises(UsageError, match="there are parts of 2 and 3"):
            self.joined(fresh)

    @pytest.mark.parametrize(
        "how",
        [{"probe_length": 17}, {"seed": 1}, {"choices": Choices(faults="none", stages="1:")}, {"choices": Choices()}],
    )
    def test_other_settings(self, how: dict[str, Any], fresh: Both) -> None:
        self.made(fresh)
        with pytest.raises(UsageError, match="part 1/2 of its equivalence was made with other settings"):
            self.joined(fresh, **how)
        part(fresh, 2, 2, **{"choices": NO_FAULTS, "probe_length": 16, **how})
        with pytest.raises(UsageError, match="some are missing: 1"):
            self.joined(fresh, **how)

    def test_another_convkit_or_torch(self, fresh: Both, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made(fresh, commit="one")
        with pytest.raises(UsageError, match="is about another output, source or convkit"):
            self.joined(fresh, commit="two")
        others = journal.versions() | {"torch": "1.0"}
        monkeypatch.setattr(in_parts, "versions", lambda: others)
        with pytest.raises(UsageError, match="was made with other versions of the frameworks"):
            self.joined(fresh, commit="one")

    @pytest.mark.parametrize("side", [0, 1])
    def test_other_files(self, side: int, fresh: Both) -> None:
        self.made(fresh)
        (file,) = fresh[side].glob("*.safetensors")
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
        with pytest.raises(UsageError, match="is about another output, source or convkit"):
            self.joined(fresh)

    def test_parts_that_lack_a_stage_or_read_other_bytes(self, fresh: Both) -> None:
        for number in (2, 1):
            part(fresh, number, 2, choices=NO_FAULTS, probe_length=16)
        first, file = ((fresh[1].parent / ".cs.convkit-equivalence" / f"part-{n}-of-2.json") for n in (1, 2))
        document = json.loads(text := file.read_text())
        document["record"]["stages"].pop()
        file.write_text(json.dumps(document))
        with pytest.raises(ConvkitError, match="the parts don't fit together"):
            self.joined(fresh)
        document = json.loads(text)
        key = next(key for key in json.loads(first.read_text())["digests"]["target"])
        document["digests"]["target"][key] = "xxh3-128:" + 32 * "0"
        file.write_text(json.dumps(document))
        with pytest.raises(ConvkitError, match="changed while it was read"):
            self.joined(fresh)

    def test_a_file_that_changes_while_a_part_runs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        both = write(llama(layers=1), tmp_path)
        (file,) = both[0].glob("*.safetensors")
        real = Walk.run

        def run(self: Walk) -> Iterator[str]:
            yield from real(self)
            os.utime(file)

        monkeypatch.setattr(Walk, "run", run)
        assert part(both, 1, 1, probe_length=16)["problems"] == ["a file was changed while it was read"]


class TestStages:
    def test_the_stages_that_are_asked_for_are_shared_out(self, tmp_path: Path) -> None:
        both, asked = write(llama(layers=4), tmp_path), Choices(stages="layers.1:layers.3")
        for number in (2, 1):
            assert "embedding" not in part(both, number, 2, choices=asked)["stages"]
        verdict, whole = equivalence_joined(*both, choices=asked), equivalence(*both, choices=asked)
        assert said(verdict) == said(whole) and verdict.covered == "layers.1:layers.3"


class TestFaults:
    def test_a_config_that_shows_nowhere_in_a_part_counts_where_it_shows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Faults of configs leave no trace in the first layers here, as if these didn't depend on them."""
        both = write(llama(layers=4), tmp_path)
        real = Walk._lane

        def lane(self: Walk, kind: Any) -> Any:
            early = self.record.done < 3
            return self.models.target if kind.config is not None and early else real(self, kind)

        monkeypatch.setattr(Walk, "_lane", lane)
        whole = equivalence(*both)
        assert whole.passed, whole.problems
        for number in (1, 2, 3):
            part(both, number, 3)
        verdict = equivalence_joined(*both)
        assert verdict.passed, verdict.problems
        assert said(verdict)["stages"] == said(whole)["stages"] and kinds(verdict) == kinds(whole)

    def test_all_or_none(self, tmp_path: Path) -> None:
        both = write(llama(layers=2), tmp_path)
        for mode in ("all", "none"):
            for number in (2, 1):
                part(both, number, 2, choices=Choices(faults=mode))
            verdict, whole = (make(*both, choices=Choices(faults=mode)) for make in (equivalence_joined, equivalence))
            assert said(verdict) == said(whole) and kinds(verdict) == kinds(whole)
            assert agrees(verdict) if mode == "none" else verdict.passed


def test_a_part_holds_no_more_than_a_whole_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both, counts = write(llama(layers=6, hidden=96, ffn=256), tmp_path), list[Alive]()
    real = Alive.__init__

    def init(self: Alive, *args: Any) -> None:
        real(self, *args)
        counts.append(self)

    monkeypatch.setattr(Alive, "__init__", init)

    def peak() -> list[int]:
        found = [count.peak for count in counts]
        counts.clear()
        return found

    equivalence(*both)
    most = peak()
    for number in (3, 2, 1):
        part(both, number, 3)
        assert all(own <= whole for own, whole in zip(peak(), most, strict=True))


class TestCommand:
    def test_it_is_made_by_the_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source, target = generated_pair("llama?layers=2", tmp_path)
        words = ["equivalence", str(source), str(target)]
        capsys.readouterr()
        assert main([*words, "--part", "1/2", "--threads", "1"]) == 0
        assert capsys.readouterr().out.startswith("equivalence: part 1/2: nothing is wrong in ")
        assert main([*words, "--part", "2/2", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["schema"] == "convkit.share/1" and document["stages"][-1] == "head"
        assert main([*words, "--finish", "--json"]) == 0
        verdict = json.loads(capsys.readouterr().out)
        assert verdict["state"] == "yes" and verdict["receipt"] == document["about"]["receipt"]

    def test_recorded_logits_are_for_the_last_step(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source, target = write(llama(layers=1), tmp_path)
        words, logits = ["equivalence", str(source), str(target)], tmp_path / "logits.npz"
        given = {"input_ids": np.array([[1, 5, 7]])}
        np.savez(ids := tmp_path / "ids.npz", **given)
        assert main(["logits", str(source), "--ids", str(ids), "--out", str(logits)]) == 0
        np.savez(logits, **given, **np.load(logits))
        assert main([*words, "--part", "1/1", "--source-recorded", str(logits)]) == 2
        assert "--source-recorded is not for a part (give it to --finish" in capsys.readouterr().err
        assert main([*words, "--part", "1/1"]) == 0
        capsys.readouterr()
        assert main([*words, "--finish", "--source-recorded", str(logits), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["measured"]["source_recorded_max_rel"] < 1e-6

    def test_there_is_no_part_0(self, small: Both, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["equivalence", *map(str, small), "--part", "0/2"]) == 2
        assert "a check has no part 0" in capsys.readouterr().err
