"""A composition of one's own: two encoders in folders, and a projector, become one checkpoint and come back."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.cli import main
from convkit.config import ConfigTable, Field
from convkit.execute import convert
from convkit.formats import get_format, open_checkpoint
from convkit.mapping import Component, Layout, Mapping, Rule, inverse, pack
from convkit.mappings import look_again
from convkit.plan import make_plan, open_source
from convkit.testing import Sample, bits, check_equal, write

APART = Layout("mine/apart", "two folders", "folders", "config.json")
WHOLE = Layout("mine/whole", "one file", "safetensors", "config.json")
ENCODER = Mapping(
    APART, WHOLE, (Rule("w", "W", "o d -> d o", o="width"),), config=ConfigTable((Field("width", "size", "width"),))
)
BOTH = pack(
    APART,
    WHOLE,
    {"image_encoder": ENCODER, "text_encoder": Component(ENCODER, right="words.", right_section="words")},
    ConfigTable((Field("text_encoder.projector", "projector", "out"),)),
    rules=(Rule("text_encoder.proj", "projector.weight", "p d -> p d", p="out", d="image_encoder.width"),),
)


def test_it_goes_there_and_back(tmp_path: Path) -> None:
    shapes = {"image_encoder.w": (3, 2), "text_encoder.w": (5, 4), "text_encoder.proj": (5, 3)}
    leaves = tuple(Leaf(key, TensorSpec(shape, "float32")) for key, shape in shapes.items())
    sample = Sample(leaves, {leaf.key: bits(leaf.spec, 0) for leaf in leaves if leaf.spec})
    config = {"image_encoder": {"width": 3}, "text_encoder": {"width": 5, "projector": 5}}
    write(get_format("folders"), tmp_path / "apart", sample, Random(0), options=WriteOptions(config=config))
    for here, there, mapping in (("apart", "whole", BOTH), ("whole", "back", inverse(BOTH))):
        with open_source(tmp_path / here) as source:
            convert(source, make_plan(source, mapping), tmp_path / there)
    with open_checkpoint(tmp_path / "whole") as whole:
        assert set(whole.leaves) == {"image_encoder.W", "words.W", "projector.weight"}
    with open_checkpoint(tmp_path / "back") as back:
        check_equal(back, sample)
        assert back.config == config


DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "how-to" / "adding-a-mapping.md"
#: a BERT of a recorded conversion
BERT = Path(__file__).parent.parent / "data" / "goldens" / "cerebras" / "bert" / "hf"
FOLDERS = ("question_encoder", "answer_encoder")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package that the document shows, installed, and a model of its own layout."""
    (text,) = re.findall(
        r"^```python\n(from.*?^MAPPING = pack\(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(text.splitlines()) <= 25
    metadata = tmp_path / "site" / "mine-1.dist-info"
    metadata.mkdir(parents=True)
    (tmp_path / "site" / "mine.py").write_text(text)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[convkit.mappings]\nmine = mine:MAPPING\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    look_again()
    for name in FOLDERS:
        (tmp_path / "model" / name).mkdir(parents=True)
        for file in ("config.json", "model.safetensors"):
            shutil.copy(BERT / file, tmp_path / "model" / name / file)
    yield tmp_path / "model"
    sys.modules.pop("mine", None)
    look_again()


def with_projector(folder: Path) -> Path:
    """Give the second encoder a projector, and other values than the first's."""
    file, config = folder / FOLDERS[1] / "model.safetensors", folder / FOLDERS[1] / "config.json"
    fields = json.loads(config.read_text())
    tensors = {key: tensor[::-1].copy() for key, tensor in load_file(file).items()}
    tensors["projector.weight"] = np.random.default_rng(0).random((7, fields["hidden_size"]), dtype="float32")
    save_file(tensors, file)
    config.write_text(json.dumps(fields | {"projector": 7}))
    return folder


def test_the_documents_composition_on_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, made = with_projector(folder), tmp_path / "mine.mdl"
    assert main(["convert", str(model), str(made), "--to", "mine/whole"]) == 0
    with open_source(made) as source:
        assert source.config and {*source.config["model"]} == {"name", "projector", "question_encoder", "answers"}
        assert source.config["model"]["projector"] == 7
        keys = {key for key, leaf in source.checkpoint.leaves.items() if leaf.spec}
        assert "model.projector.weight" in keys
        assert {key.split(".")[1] for key in keys} == {"question_encoder", "answers", "projector"}
    for check in (["roundtrip", str(model), str(made)], ["verify", str(made)]):
        assert main(check) == 0
    for receipt in (True, False):
        back = tmp_path / f"back-{receipt}"
        assert main(["convert", str(made), str(back), "--to", "mine/apart"]) == 0
        assert main(["roundtrip", str(made), str(back)]) == 0
        assert main(["diff", str(model), str(back)]) == (0 if receipt else 1)  # second names of a tied head
        fields = [[json.loads((one / name / "config.json").read_text()) for name in FOLDERS] for one in (model, back)]
        assert fields[0] == fields[1] if receipt else fields[1][1]["projector"] == 7
        made.with_name("mine.mdl.convkit.json").unlink(missing_ok=True)
    capsys.readouterr()
    for wrong, says in (
        ({"projector": 8}, "projector"),
        ({"hidden_size": 4}, "hidden_size"),
        ({"model_type": "x"}, "x"),
    ):
        file = model / FOLDERS[1] / "config.json"
        good = file.read_text()
        file.write_text(json.dumps(json.loads(good) | wrong))
        assert main(["convert", str(model), str(tmp_path / "no.mdl"), "--to", "mine/whole"]) == 3
        file.write_text(good)
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1


def test_a_composition_claims_nothing_that_it_does_not_know(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = with_projector(folder)
    file = model / FOLDERS[0] / "model.safetensors"
    save_file(load_file(file) | {"strange": np.zeros(3, "float32")}, file)
    assert main(["convert", str(model), str(tmp_path / "mine.mdl"), "--to", "mine/whole"]) == 3
    assert "question_encoder.strange: no rule of mine/apart <-> mine/whole claims it" in capsys.readouterr().err
