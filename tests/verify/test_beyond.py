"""What no stage shows on the input is compared too: unused rows, limits, heads of one side, the dtype of a cast."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from paired_models import bert, gpt2, llama
from safetensors.torch import load_file, save_file
from test_equivalence import NO_FAULTS, agrees, generated_pair, write

from convkit.cli import main
from convkit.verify.equivalence.check import equivalence

torch.set_num_threads(1)


def test_a_row_that_the_input_does_not_use(tmp_path: Path) -> None:
    pair = llama(vocab=4000)
    row = 1234
    pair.cs["model.embedding_layer.word_embeddings.weight"] = pair.cs[
        "model.embedding_layer.word_embeddings.weight"
    ].clone()
    pair.cs["model.embedding_layer.word_embeddings.weight"][row] += 1
    verdict = equivalence(*write(pair, tmp_path), choices=NO_FAULTS, probe_length=16)
    assert verdict.state == "no" and all(not stage.problems for stage in verdict.stages or ())
    assert f"embedding: 1 rows differ that the input doesn't use, the first is {row}" in verdict.problems


def test_positions_beyond_the_input(tmp_path: Path) -> None:
    pair = gpt2(positions=300)
    key = next(key for key in pair.cs if "position_embeddings" in key)
    pair.cs[key] = pair.cs[key].clone()
    pair.cs[key][280:] = 9
    verdict = equivalence(*write(pair, tmp_path), choices=NO_FAULTS)
    assert verdict.state == "no" and verdict.problems == (
        "positions: 20 rows differ that the input doesn't use, the first is 280",
    )


@pytest.mark.parametrize("limit, state", [(2, "not shown"), (299, "yes"), (100_000, "yes")])
def test_another_limit_of_positions(limit: int, state: str, tmp_path: Path) -> None:
    pair = llama(positions=300)
    pair.cs_config["max_position_embeddings"] = limit
    verdict = equivalence(*write(pair, tmp_path))
    said = f"the source allows 300 positions, the target {limit}"
    assert verdict.state == state
    assert any(said in line for line in (*verdict.problems, *verdict.details["notes"]))


def test_a_head_that_only_the_target_has(tmp_path: Path) -> None:
    pair = llama()
    del pair.hf["lm_head.weight"]
    pair.hf = {key.removeprefix("model."): value for key, value in pair.hf.items()}
    pair.hf_config["architectures"] = ["LlamaModel"]
    verdict = equivalence(*write(pair, tmp_path))
    assert verdict.problems == ("lm of the target isn't compared: the source has no tensors for it",)


def test_a_source_without_pooler_has_nothing_to_show_at_its_end(tmp_path: Path) -> None:
    pair = bert("none")
    pair.hf = {key: value for key, value in pair.hf.items() if "pooler" not in key}
    verdict = equivalence(*write(pair, tmp_path), choices=NO_FAULTS)
    assert agrees(verdict), verdict.problems


def test_a_config_that_was_edited_since_is_noted(tmp_path: Path) -> None:
    source, target = generated_pair("llama?layers=2", tmp_path)
    file = target.with_suffix(".yaml")
    config = yaml.safe_load(file.read_text())
    config["model"]["dropout_rate"] = 0.25
    file.write_text(yaml.safe_dump(config))
    notes = equivalence(source, target, choices=NO_FAULTS).details["notes"]
    assert [note for note in notes if "model.dropout_rate is 0.25, the receipt says" in note]


def test_a_cast_is_judged_by_the_dtype_that_was_planned(tmp_path: Path) -> None:
    _, target = generated_pair("llama?layers=2", tmp_path)
    assert main(["convert", str(target), str(tmp_path / "back"), "--to", "hf/llama", "--dtype", "bfloat16"]) == 0
    file = next((tmp_path / "back").glob("*.safetensors"))
    stored = {key: value.to(torch.float8_e5m2) for key, value in load_file(file).items()}
    save_file(stored, file, metadata={"format": "pt"})
    assert equivalence(target, tmp_path / "back", choices=NO_FAULTS).state == "no"


@pytest.mark.parametrize("option", [("--memory", "inf"), ("--memory", "nan"), ("--threads", "99999999999")])
def test_odd_options(option: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hf, cs = write(llama(layers=1), tmp_path)
    ended = main(["equivalence", str(hf), str(cs), "--faults", "none", *option])
    assert ended == (2 if option[0] == "--memory" else 1)
    assert ("isn't a size" in capsys.readouterr().err) == (option[0] == "--memory")


def test_no_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hf, cs = write(llama(layers=1), tmp_path)
    config = json.loads((hf / "config.json").read_text()) | {"num_hidden_layers": 0}
    (hf / "config.json").write_text(json.dumps(config))
    assert main(["equivalence", str(hf), str(cs)]) == 3
    assert "num_hidden_layers" in capsys.readouterr().err
