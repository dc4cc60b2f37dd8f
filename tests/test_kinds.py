"""One receipt beside an output, whatever made it and whatever it replaced; earlier receipts are read."""

from __future__ import annotations

import gzip
import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from test_schemas import validator

from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.files.receipt import CONVERSION, MIGRATION, REPAIR, read_receipt, receipt_path
from convkit.generate.old_mdl import write_old

KINDS = (CONVERSION, REPAIR, MIGRATION)
#: what release 0.4's receipts are called, by kind: `4f3a413` wrote those in this folder
EARLIER = Path(__file__).parent / "data" / "receipts"
OLD_NAMES = {CONVERSION: ".convkit.json", REPAIR: ".state.json", MIGRATION: ".migration.json"}
OLD_SCHEMAS = {CONVERSION: "convkit.receipt/1", REPAIR: "convkit.state/1", MIGRATION: "convkit.migration/1"}
#: a model of one layer, the same on every machine
MODEL = "generated://llama?layers=1&hidden=8&heads=2&intermediate=8&vocab=16"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Something that each kind of work takes."""
    pytest.importorskip("orbax.checkpoint")
    folder = tmp_path_factory.mktemp("sources")
    assert main(["fetch", MODEL, str(folder / "model")]) == 0
    assert main(["fetch", "generated://orbax-v0", str(folder / "orbax")]) == 0
    write_mdl(folder / "old.mdl")
    return {CONVERSION: folder / "model", REPAIR: folder / "old.mdl", MIGRATION: folder / "orbax"}


def write_mdl(path: Path) -> None:
    """A checkpoint of release 1.7 that needs repairs."""
    weight = np.arange(12, dtype="f4").reshape(4, 3)
    model = {"embedding_layer.word_embeddings.weight": weight, "lm_head.weight": weight, "b": np.ones(3)}
    state: dict[str, Any] = {"model": model, "lr_scheduler": {"last_epoch": 1}, "global_step": 15}
    write_old(path, state, "1.7", ["model.lm_head.weight"])


def work(kind: str, source: Path, target: Path) -> int:
    """Do some work of that kind, whatever has the target's name."""
    commands = {
        CONVERSION: ["convert", str(source), str(target), "--to", "cerebras/llama", "--format", "cerebras-h5"],
        REPAIR: ["cerebras", "fix-checkpoint-spec", str(source), "--fixed_checkpoint_path", str(target)],
        MIGRATION: ["orbax", "migrate", str(source), str(target), "--to", "v1", "--no-restore"],
    }
    return main([*commands[kind], "--overwrite"])


def receipts(target: Path) -> dict[str, str]:
    """Every document beside the target that says what it is, and its kind."""
    found = {path.name: json.loads(path.read_text()) for path in target.parent.glob(f"{target.name}.*.json")}
    return {name: document.get("kind", "?") for name, document in found.items() if "plan" in document}


def as_before(target: Path) -> Path:
    """Give the target the receipt that an earlier release would have left."""
    receipt = json.loads(receipt_path(target).read_text())
    kind = receipt.pop("kind")
    if kind != CONVERSION:
        receipt.pop("resumed", None)
    receipt_path(target).unlink()
    path = target.with_name(target.name + OLD_NAMES[kind])
    path.write_text(json.dumps(receipt | {"schema": OLD_SCHEMAS[kind]}))
    return path


@pytest.mark.parametrize("before", ["now", "an earlier release"])
@pytest.mark.parametrize("pair", list(product(KINDS, KINDS)), ids=" then ".join)
def test_one_receipt_is_left(
    pair: tuple[str, str], before: str, sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, (first, second) = tmp_path / "target.mdl", pair
    assert work(first, sources[first], target) == 0
    if before != "now":
        as_before(target)
    left = second
    if (first, second) == (MIGRATION, REPAIR):  # a repair makes a file, and replaces no folder
        assert work(second, sources[second], target) == 2
        assert "is a folder (name a file)" in capsys.readouterr().err
        left = first
    else:
        assert work(second, sources[second], target) == 0
        assert receipts(target) == {"target.mdl.convkit.json": left}
    assert (read_receipt(target) or {})["kind"] == left
    assert main(["verify", str(target)]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_receipt_obeys_its_schema(kind: str, sources: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "target.mdl"
    assert work(kind, sources[kind], target) == 0
    receipt = json.loads(receipt_path(target).read_text())
    validator("receipt").validate(receipt)
    other = KINDS[KINDS.index(kind) - 1]
    with pytest.raises(jsonschema.ValidationError):
        validator("receipt").validate(receipt | {"kind": other})
    assert not validator("receipt").is_valid({name: value for name, value in receipt.items() if name != "target"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_receipt_of_an_earlier_release_is_read(kind: str, sources: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "target.mdl"
    assert work(kind, sources[kind], target) == 0
    as_before(target)
    assert main(["verify", str(target)]) == 0
    assert main(["roundtrip", str(sources[kind]), str(target)]) == 0


def as_it_was(target: Path) -> None:
    """Put the file there that the earlier release wrote: its bytes lay otherwise."""
    target.write_bytes(gzip.decompress((EARLIER / f"{target.name}.gz").read_bytes()))


def test_a_repair_by_an_earlier_release_is_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "old.mdl", tmp_path / "new.mdl"
    write_mdl(source)
    assert main(["cerebras", "fix-checkpoint-spec", str(source), "--fixed_checkpoint_path", str(target)]) == 0
    receipt_path(target).unlink()
    as_it_was(target)
    shutil.copy(EARLIER / "new.mdl.state.json", tmp_path)
    assert main(["verify", str(target)]) == 0
    assert main(["roundtrip", str(source), str(target)]) == 0
    spoiled = json.loads((tmp_path / "new.mdl.state.json").read_text())
    spoiled["target"]["leaves"]["model.b"]["digest"] = "xxh3-128:" + "0" * 32
    (tmp_path / "new.mdl.state.json").write_text(json.dumps(spoiled))
    assert main(["verify", str(target)]) == 1
    assert "model.b: its digest differs from the receipt" in capsys.readouterr().out


def test_a_conversion_by_an_earlier_release_is_verified_and_undone(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model, made, back = tmp_path / "model", tmp_path / "made.mdl", tmp_path / "back"
    assert main(["fetch", MODEL, str(model)]) == 0
    assert main(["convert", str(model), str(made), "--to", "cerebras/llama"]) == 0
    as_it_was(made)
    shutil.copy(EARLIER / "made.mdl.convkit.json", tmp_path)
    assert main(["verify", str(made)]) == 0
    assert main(["roundtrip", str(model), str(made)]) == 0
    assert main(["convert", str(made), str(back), "--to", "hf/llama"]) == 0
    assert main(["diff", str(model), str(back)]) == 0


def test_of_two_receipts_the_later_work_counts(sources: dict[str, Path], tmp_path: Path) -> None:
    """A repair and then `convert --overwrite` left both; so did a repair where somebody had removed a migration."""
    target = tmp_path / "target.mdl"
    assert work(REPAIR, sources[REPAIR], target) == 0
    stale = as_before(target)
    kept = json.loads(stale.read_text())
    assert work(CONVERSION, sources[CONVERSION], target) == 0
    for started, kind in (("2020-01-01T00:00:00+00:00", CONVERSION), ("2999-01-01T00:00:00+00:00", CONVERSION)):
        stale.write_text(json.dumps(kept | {"started": started}))
        assert (read_receipt(target) or {})["kind"] == kind, "one of today's schema counts always"
        assert read_receipt(target, REPAIR) is None
        assert main(["verify", str(target)]) == 0
    as_before(target)
    for started, kind in (("2020-01-01T00:00:00+00:00", CONVERSION), ("2999-01-01T00:00:00+00:00", REPAIR)):
        stale.write_text(json.dumps(kept | {"started": started}))
        assert (read_receipt(target) or {})["kind"] == kind


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "upgrade"}, "is of a kind that this convkit doesn't know: 'upgrade' (use the convkit that wrote it)"),
        ({"kind": []}, "is of a kind that this convkit doesn't know: []"),
        ({"schema": "convkit.receipt/3"}, "is not a receipt of schema convkit.receipt/2 or convkit.receipt/1"),
        ({"schema": "convkit.state/1"}, "is not a receipt of schema"),
    ],
)
def test_what_comes_later_is_refused(
    change: dict[str, Any], says: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    target = tmp_path / "target.mdl"
    assert work(REPAIR, sources[REPAIR], target) == 0
    receipt = json.loads(receipt_path(target).read_text())
    receipt_path(target).write_text(json.dumps(receipt | change))
    with pytest.raises(ConvkitError, match=r"target\.mdl\.convkit\.json") as error:
        read_receipt(target)
    assert says in str(error.value)
