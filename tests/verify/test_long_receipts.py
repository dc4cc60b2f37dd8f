"""Receipts with an entry for each of very many leaves: every command reads them, and says the same as of short ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from recorded import HERE

from convkit.checkpoint import json_text
from convkit.checkpoint.digests import digest_value
from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.files import long_document, seal
from convkit.files.document import Held
from convkit.files.receipt import read_receipt, receipt_path
from convkit.files.seal import sealed, write_sealed
from convkit.verify.documents import LeafReceipt, Plan, read, read_plan
from convkit.verify.receipts import verify

SOURCE = HERE / "llama_gqa" / "hf"
#: more than the checkpoint's own headers hold, and less than the receipt does
LIMIT = 400


@pytest.fixture
def target(tmp_path: Path) -> Path:
    assert main(["convert", str(SOURCE), str(tmp_path / "t.mdl"), "--to", "cerebras/llama"]) == 0
    return tmp_path / "t.mdl"


def shorten(patch: pytest.MonkeyPatch, limit: int = LIMIT) -> None:
    """Have receipts of few leaves be too long to be made at once."""
    patch.setattr(json_text, "VALUES_LIMIT", limit)


def held_in(value: Any) -> int:
    inner = [held_in(one) for one in value.values()] if type(value) is dict else []
    return isinstance(value, Held) + sum(inner)


def test_a_long_receipt_is_held_as_text_and_typed_alike(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = read_receipt(target)
    shorten(monkeypatch)
    long = read_receipt(target)
    assert short is not None and long is not None
    assert (held_in(short), held_in(long)) == (0, 5)
    assert read(LeafReceipt, long, target).source == read(LeafReceipt, short, target).source
    assert read_plan(Plan, long["plan"], target) == read_plan(Plan, short["plan"], target)
    assert digest_value("sha256", long["plan"]) == digest_value("sha256", short["plan"]) == short["plan_digest"]
    assert sealed(long)[1] == sealed(short)[1]  # also where a plan goes on into another receipt


def test_a_document_is_written_as_it_is_sealed(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = json.loads(receipt_path(target).read_bytes())
    for chunk in (1 << 20, 64):  # whole, and so that the seal begins in a chunk of its own
        monkeypatch.setattr(seal, "_CHUNK", chunk)
        place = target.with_name("again.json")
        assert write_sealed(place, document) == document
        assert place.read_bytes() == sealed(document)[1] == receipt_path(target).read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "TARGET"),
        ("roundtrip", "SOURCE", "TARGET"),
        ("equivalence", "SOURCE", "TARGET", "--probe-length", "4"),
        ("diff", "TARGET", "TARGET"),
        ("digest", "TARGET"),
        ("inspect", "TARGET"),
        ("plan", "TARGET", "--to", "hf/llama"),
        ("roundtrip", "SOURCE", "TARGET", "--part", "1/1"),
        ("equivalence", "SOURCE", "TARGET", "--probe-length", "4", "--part", "1/1"),
    ],
    ids=" ".join,
)
def test_a_command_says_the_same_of_a_long_receipt(
    words: tuple[str, ...], target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"SOURCE": str(SOURCE), "TARGET": str(target)}

    def said() -> dict[str, Any]:
        capsys.readouterr()
        assert main([places.get(word, word) for word in words] + ["--json"]) == 0
        return {name: value for name, value in json.loads(capsys.readouterr().out).items() if name not in OF_THE_RUN}

    short = said()
    shorten(monkeypatch)
    assert said() == short


#: what is of a run, and not of what it says
OF_THE_RUN = ("seconds", "started")


def test_parts_are_joined_and_finished_by_a_long_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = str(SOURCE), str(tmp_path / "t")
    convert = ["convert", source, target, "--to", "cerebras/llama", "--format", "safetensors"]
    shorten(monkeypatch)
    assert [main([*convert, "--part", "1/1"]), main([*convert, "--finish"])] == [0, 0]
    assert main([*convert, "--finish", "--overwrite", "--json"]) == 0  # it is there, by its receipt
    assert [main(["roundtrip", source, target, *words]) for words in (["--part", "1/1"], ["--finish"])] == [0, 0]


def test_a_long_receipt_restores_what_a_conversion_lost(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)
    back = target.with_name("back")
    assert main(["convert", str(target), str(back), "--to", "hf/llama"]) == 0
    assert main(["diff", str(SOURCE), str(back)]) == 0


def test_damage_to_a_long_receipt_is_a_verdict(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = receipt_path(target)
    whole = path.read_bytes()
    shorten(monkeypatch)
    assert verify(target).passed
    path.write_bytes(whole.replace(b'"fate": "moved"', b'"fate": "mOved"', 1))
    assert "the receipt isn't as it was written" in verify(target).problems[0]
    document = json.loads(whole)
    document["plan"]["source_leaves"].popitem()
    path.write_bytes(sealed(document)[1])
    assert any("it was edited" in problem for problem in verify(target).problems)


@pytest.mark.parametrize("command", ["verify", "roundtrip", "equivalence"])
def test_a_long_receipt_of_another_form_is_one_clear_error(
    command: str, target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = receipt_path(target)
    document = json.loads(path.read_bytes())
    key = next(iter(document["plan"]["source_leaves"]))
    document["plan"]["source_leaves"][key]["shape"] = "wide"
    path.write_bytes(sealed(document)[1])
    shorten(monkeypatch)
    sides = [str(target)] if command == "verify" else [str(SOURCE), str(target)]
    assert main([command, *sides]) == 3
    said = capsys.readouterr().err
    assert f"{path}: $.plan.source_leaves['{key}'].shape: expected array | null, got str" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (json.dumps({"schema": "convkit.receipt/2", "other": [[]] * 900}), "values, over 400"),
        (json.dumps({"plan": {"source_leaves": {f"k{i}": {} for i in range(900)}}}), "900 keys, over 800"),
        (json.dumps({"plan": {"steps": [[]] * 900}})[:-3], "truncated"),
        (json.dumps({"plan": {"steps": [[]] * 900}}).replace("[[", '["\\ud8'), "malformed|invalid|truncated"),
        ('{"plan": {"steps": [' + "[" * 5000, "nested too deeply|truncated"),
    ],
    ids=["many values outside of tables", "many keys", "cut short", "damaged", "deep"],
)
def test_a_hostile_receipt_is_refused(text: str, why: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receipt_path(target).write_text(text)
    shorten(monkeypatch)
    monkeypatch.setattr(long_document, "TABLE_KEYS_LIMIT", 800)
    with pytest.raises(ConvkitError, match=why) as caught:
        read_receipt(target)
    assert caught.value.path == str(receipt_path(target)) and caught.value.remedy == "restore it, or remove it"
