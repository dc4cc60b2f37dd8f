"""Every kind of tampering is caught, and called what it is: files, bundles, keys, policies, order and names."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.made import (
    BUNDLE,
    campaign,
    edit_envelope,
    edit_lines,
    edit_payload,
    found,
    keys,
    outputs,
    sign,
    sign_anew,
    verified,
)
from convkit.audit.dsse import line_of
from convkit.audit.keys import read_private
from convkit.audit.statements import VERDICTS
from convkit.cli import main

Tamper = Callable[[Path], Any]


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def verdict(statements: list[dict[str, Any]], check: str) -> dict[str, Any]:
    return statements[1]["predicate"][VERDICTS]["verdicts"][check]


def change_verdict(out: Path, edit: Callable[[dict[str, Any]], None], check: str = "equivalence") -> None:
    def change(statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
        edit(verdict(statements, check))
        return with_sign_off(statements)

    sign_anew(out / BUNDLE, "p256", change)


def with_sign_off(statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with a sign-off for what the others say now."""
    import hashlib

    subjects = [
        {"name": one["predicateType"], "digest": {"sha256": hashlib.sha256(line_of(one).payload).hexdigest()}}
        for one in statements[:-1]
    ]
    return [*statements[:-1], {**statements[-1], "subject": subjects}]


def swap(one: Path, other: Path) -> None:
    beside = one.with_name("swapped")
    one.rename(beside)
    other.rename(one)
    beside.rename(other)


def set_signature(envelope: dict[str, Any]) -> None:
    signature = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
    signature[-1] ^= 1
    envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()


def from_folder(out: Path) -> None:
    """The other output's bundle, with all its signatures."""
    shutil.copy(out / "folder.intoto.jsonl", out / BUNDLE)


def other_line(out: Path) -> list[str]:
    return (out / "folder.intoto.jsonl").read_text().splitlines()


#: tampering with an output that is one file: what is done, and the problems that are found, as kind and file
FILES: dict[str, tuple[Tamper, set[tuple[str, str]]]] = {
    "one bit of the weights": (
        lambda out: flip(out / "m.mdl", 100_000),
        {("changed file", "m.mdl"), ("changed file", "m.mdl.model.sig")},
    ),
    "one byte appended": (
        lambda out: (out / "m.mdl").write_bytes((out / "m.mdl").read_bytes() + b"\0"),
        {("changed file", "m.mdl"), ("changed file", "m.mdl.model.sig")},
    ),
    "the weights removed": (
        lambda out: (out / "m.mdl").unlink(),
        {("removed file", "m.mdl"), ("changed file", "m.mdl.model.sig")},
    ),
    "the config edited": (
        lambda out: (out / "m.yaml").write_text((out / "m.yaml").read_text() + "\n"),
        {("changed file", "m.yaml")},
    ),
    "the config removed": (lambda out: (out / "m.yaml").unlink(), {("removed file", "m.yaml")}),
    "the config renamed": (
        lambda out: (out / "m.yaml").rename(out / "m.mdl.companions/m.yaml"),
        {("renamed file", "m.yaml")},
    ),
    "a companion added": (
        lambda out: (out / "m.mdl.companions/evil.py").write_text("x"),
        {("added file", "m.mdl.companions/evil.py")},
    ),
    "a hidden companion added": (
        lambda out: (out / "m.mdl.companions/.gitattributes").write_text("x"),
        {("added file", "m.mdl.companions/.gitattributes")},
    ),
    "a companion replaced by a link": (
        lambda out: (
            (out / "m.mdl.companions/generation_config.json").rename(out / "g.json"),
            (out / "m.mdl.companions/generation_config.json").symlink_to(out / "g.json"),
        ),
        {("changed file", "m.mdl.companions/generation_config.json")},
    ),
    "the receipt edited": (
        lambda out: flip(out / "m.mdl.convkit.json", 200),
        {("changed file", "m.mdl.convkit.json")},
    ),
    "the receipt removed": (
        lambda out: (out / "m.mdl.convkit.json").unlink(),
        {("removed file", "m.mdl.convkit.json")},
    ),
    "the document of a verdict edited": (
        lambda out: flip(out / "m.mdl.equivalence.json", -5),
        {("changed file", "m.mdl.equivalence.json")},
    ),
    "the model signature removed": (
        lambda out: (out / "m.mdl.model.sig").unlink(),
        {("removed file", "m.mdl.model.sig")},
    ),
    "the model signature of another model": (
        lambda out: shutil.copy(out / "folder.model.sig", out / "m.mdl.model.sig"),
        {("changed file", "m.mdl.model.sig")},
    ),
}

#: tampering with a bundle
BUNDLES: dict[str, tuple[Tamper, set[tuple[str, str]]]] = {
    "the bundle removed": (lambda out: (out / BUNDLE).unlink(), {("missing file", BUNDLE)}),
    "the bundle emptied": (lambda out: (out / BUNDLE).write_text(""), {("missing line", BUNDLE)}),
    "the bundle of another output": (from_folder, {("another subject", BUNDLE)}),
    "the provenance's line removed": (
        lambda out: edit_lines(out / BUNDLE, lambda lines: lines[1:]),
        {("missing line", BUNDLE)},
    ),
    "the test result's line removed": (
        lambda out: edit_lines(out / BUNDLE, lambda lines: [lines[0], lines[2]]),
        {("missing line", BUNDLE)},
    ),
    "the sign-off's line removed": (
        lambda out: edit_lines(out / BUNDLE, lambda lines: lines[:2]),
        {("missing line", BUNDLE)},
    ),
    "a line replayed": (
        lambda out: edit_lines(out / BUNDLE, lambda lines: [lines[0], *lines]),
        {("added line", BUNDLE)},
    ),
    "the lines in another order": (
        lambda out: edit_lines(out / BUNDLE, lambda lines: [lines[1], lines[0], lines[2]]),
        {("lines out of order", BUNDLE)},
    ),
    "a line that isn't JSON": (
        lambda out: edit_lines(out / BUNDLE, lambda lines: [*lines, "{"]),
        {("malformed line", BUNDLE)},
    ),
    "a line of another output, signed by the same key": (
        lambda out: edit_lines(out / BUNDLE, lambda lines: [lines[0], other_line(out)[1], lines[2]]),
        {("another subject", BUNDLE), ("contradiction", BUNDLE)},
    ),
    "the verdict in the payload edited": (
        lambda out: edit_payload(out / BUNDLE, 1, lambda said: said["predicate"].update(result="FAILED")),
        {("changed payload", BUNDLE)},
    ),
    "a digest in the payload edited": (
        lambda out: edit_payload(out / BUNDLE, 0, lambda said: said["subject"][1]["digest"].update(sha256="0" * 64)),
        {("changed payload", BUNDLE)},
    ),
    "the name of who is responsible edited": (
        lambda out: edit_payload(
            out / BUNDLE, 2, lambda said: said["predicate"]["signersClaim"].update(responsible="Z")
        ),
        {("changed payload", BUNDLE)},
    ),
    "a signature edited": (
        lambda out: edit_envelope(out / BUNDLE, 0, set_signature),
        {("changed signature", BUNDLE)},
    ),
    "the signatures of two lines swapped": (
        lambda out: swap_signatures(out / BUNDLE),
        {("changed signature", BUNDLE)},
    ),
    "a signature removed": (
        lambda out: edit_envelope(out / BUNDLE, 0, lambda envelope: envelope.update(signatures=[])),
        {("wrong key", BUNDLE)},
    ),
    "the type of a payload changed": (
        lambda out: edit_envelope(out / BUNDLE, 0, lambda envelope: envelope.update(payloadType="text/plain")),
        {("malformed line", BUNDLE), ("missing line", BUNDLE)},
    ),
    "a second payload under the same name": (
        lambda out: edit_lines(
            out / BUNDLE, lambda lines: [lines[0].replace('{"payload":', '{"payload":"e30=","payload":'), *lines[1:]]
        ),
        {("malformed line", BUNDLE), ("missing line", BUNDLE)},
    ),
    "everything signed anew by another key": (
        lambda out: sign_anew(out / BUNDLE, "other", lambda said: said),
        {("wrong key", BUNDLE)},
    ),
    "a sign-off by a key that signed nothing else": (
        lambda out: edit_lines(out / BUNDLE, lambda lines: [*lines, stranger(lines[2])]),
        {("added line", BUNDLE)},
    ),
}


def swap_signatures(path: Path) -> None:
    def change(lines: list[str]) -> list[str]:
        one, other, *rest = map(json.loads, lines)
        one["signatures"], other["signatures"] = other["signatures"], one["signatures"]
        return [json.dumps(envelope) for envelope in (one, other, *rest)]

    edit_lines(path, change)


def stranger(line: str) -> str:
    statement = json.loads(base64.b64decode(json.loads(line)["payload"]))
    return line_of(statement).signed(read_private(keys() / "other.pem")).text()


#: what the owner of the key signs, and the policy doesn't accept
CLAIMS: dict[str, tuple[Tamper, set[tuple[str, str]]]] = {
    "a check that failed": (
        lambda out: change_verdict(out, lambda said: said.update(state="no", problems=["x"])),
        {("failed check", BUNDLE)},
    ),
    "a check that showed nothing": (
        lambda out: change_verdict(out, lambda said: said.update(state="not shown")),
        {("failed check", BUNDLE)},
    ),
    "a planted fault that was missed": (
        lambda out: change_verdict(out, lambda said: said["faults"][0].update(caught=False)),
        {("missed fault", BUNDLE)},
    ),
    "no fault planted": (
        lambda out: change_verdict(out, lambda said: said.update(faults=[])),
        {("too few faults", BUNDLE)},
    ),
    "a verdict on another output": (
        lambda out: change_verdict(out, lambda said: said.update(receipt="sha256:" + "0" * 64)),
        {("contradiction", BUNDLE)},
    ),
    "a directory digest of other files": (
        lambda out: sign_anew(out / BUNDLE, "p256", other_directory),
        {("contradiction", "m.mdl")},
    ),
}


def other_directory(statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for one in statements[:2]:
        one["subject"][0]["digest"]["dirHash"] = "0" * 64
    return with_sign_off(statements)


ALL = {**FILES, **BUNDLES, **CLAIMS}


@pytest.mark.parametrize("name", ALL)
def test_it_is_caught_and_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(shutil.copytree(outputs(), tmp_path / "out", symlinks=True))
    tamper, expected = ALL[name]
    tamper(out)
    code, document = verified(out / "m.mdl", capsys)
    assert code == 1
    seen = {(kind, file) for _, kind, file in found(document)}
    assert seen == expected, document["problems"]
    assert all(one["check"] and one["problem"] for one in document["problems"])


def test_there_are_thirty_kinds() -> None:
    assert len(ALL) + len(CAMPAIGNS) + len(POLICIES) >= 45


def rename_all(out: Path) -> None:
    for path in [*out.iterdir()]:
        if path.name.startswith("folder"):
            path.rename(out / path.name.replace("folder", "new"))


#: of a folder
FOLDER: dict[str, tuple[Tamper, set[tuple[str, str]]]] = {
    "a file of the folder renamed": (
        lambda out: (out / "folder/params.yaml").rename(out / "folder/other.yaml"),
        {("renamed file", "folder/params.yaml"), ("changed file", "folder.model.sig")},
    ),
    "two files swapped": (
        lambda out: swap(out / "folder/params.yaml", out / "folder/model.safetensors"),
        {
            ("changed file", "folder/params.yaml"),
            ("changed file", "folder/model.safetensors"),
            ("changed file", "folder.model.sig"),
        },
    ),
    "what a model signature doesn't cover, added": (
        lambda out: (out / "folder/.gitattributes").write_text("x"),
        {("added file", "folder/.gitattributes")},
    ),
    "the folder renamed with all beside it": (rename_all, {("renamed file", "folder/params.yaml")}),
}


@pytest.mark.parametrize("name", FOLDER)
def test_it_is_caught_in_a_folder(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(shutil.copytree(outputs(), tmp_path / "out"))
    tamper, expected = FOLDER[name]
    tamper(out)
    code, document = verified(out / ("new" if name.startswith("the folder") else "folder"), capsys)
    assert code == 1
    seen = {(kind, file) for _, kind, file in found(document)}
    assert expected <= seen if name.startswith("the folder") else seen == expected, document["problems"]


STATEMENT = "campaign.intoto.jsonl"


def replace_row(results: Path) -> None:
    """Another statement about the row, by the same key: the verdict's document is gone."""
    (results / "one/roundtrip.json").rename(results / "kept.json")
    target = str(results / "one/target.mdl")
    assert sign(Path(target), "p256", "--documents", str(results / "one"), "--overwrite") == 0
    (results / "kept.json").rename(results / "one/roundtrip.json")


def drop_row(results: Path) -> None:
    table = results / "checkpoints.tsv"
    table.write_text("".join(line for line in table.read_text().splitlines(True) if not line.startswith("two")))


def add_row(results: Path) -> None:
    with (results / "checkpoints.tsv").open("a") as table:
        table.write("three\tgenerated://llama\tcerebras/llama\n")


def turn_rows(results: Path) -> None:
    head, *rows = (results / "checkpoints.tsv").read_text().splitlines(True)
    (results / "checkpoints.tsv").write_text("".join([head, *reversed(rows)]))


#: tampering with a campaign: what is done, and the problems, as row, kind and file
CAMPAIGNS: dict[str, tuple[Tamper, set[tuple[str, str, str]]]] = {
    "a row dropped from the table": (
        drop_row,
        {("two", "removed row", "checkpoints.tsv"), ("", "changed file", "checkpoints.tsv")},
    ),
    "a row added to the table": (
        add_row,
        {
            ("three", "added row", "checkpoints.tsv"),
            ("three", "unsigned row", ""),
            ("", "changed file", "checkpoints.tsv"),
        },
    ),
    "the rows in another order": (
        turn_rows,
        {("", "lines out of order", "checkpoints.tsv"), ("", "changed file", "checkpoints.tsv")},
    ),
    "the config edited": (
        lambda results: (results / "config.json").write_text('{"threads": 2}\n'),
        {("", "changed file", "config.json")},
    ),
    "the config removed": (
        lambda results: (results / "config.json").unlink(),
        {("", "removed file", "config.json")},
    ),
    "a row's bundle made anew": (
        replace_row,
        {("one", "changed bundle", "target.mdl.intoto.jsonl"), ("one", "missing check", "target.mdl.intoto.jsonl")},
    ),
    "who signed a row, replaced": (
        lambda results: sign_anew(results / "one/target.mdl.intoto.jsonl", "other", lambda said: said),
        {("one", "changed bundle", "target.mdl.intoto.jsonl"), ("one", "wrong key", "target.mdl.intoto.jsonl")},
    ),
    "a row's bundle removed": (
        lambda results: (results / "one/target.mdl.intoto.jsonl").unlink(),
        {("one", "missing file", "target.mdl.intoto.jsonl"), ("one", "unsigned row", "target.mdl")},
    ),
    "a row's weights changed": (
        lambda results: flip(results / "two/target.mdl", 100_000),
        {("two", "changed file", "target.mdl"), ("two", "changed file", "target.mdl.model.sig")},
    ),
    "the document of a row's verdict edited": (
        lambda results: (results / "two/roundtrip.json").write_text((results / "two/roundtrip.json").read_text() + " "),
        {("two", "changed file", "roundtrip.json")},
    ),
    "the campaign's statement removed": (
        lambda results: (results / STATEMENT).unlink(),
        {("", "missing file", STATEMENT)},
    ),
    "the campaign's statement edited": (
        lambda results: edit_payload(results / STATEMENT, 0, lambda said: said["predicate"]["rows"].pop()),
        {("", "changed payload", STATEMENT)},
    ),
    "a row's statement in the place of the campaign's": (
        lambda results: shutil.copy(results / "one/target.mdl.intoto.jsonl", results / STATEMENT),
        {("", "added line", STATEMENT), ("", "missing line", STATEMENT)},
    ),
}


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_it_is_caught_in_a_campaign(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Path(shutil.copytree(campaign(), tmp_path / "results"))
    tamper, expected = CAMPAIGNS[name]
    tamper(results)
    code, document = verified(results, capsys)
    assert code == 1
    assert found(document) == expected, document["problems"]


def test_two_rows_outputs_swapped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Path(shutil.copytree(campaign(), tmp_path / "results"))
    swap(results / "one", results / "two")
    code, document = verified(results, capsys)
    assert code == 1
    assert {("one", "changed bundle"), ("two", "changed bundle")} <= {(row, kind) for row, kind, _ in found(document)}


#: policies that what is signed doesn't meet
POLICIES: dict[str, tuple[str, set[tuple[str, str]]]] = {
    "more faults": ("least_caught: 1000", {("too few faults", BUNDLE)}),
    "two signatures": ("signatures: 2", {("too few signatures", BUNDLE)}),
    "another key": (f"keys: ['{'0' * 64}']", {("key not allowed", BUNDLE)}),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_that_isnt_met(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, expected = POLICIES[name]
    (tmp_path / "policy.yaml").write_text(text)
    code, document = verified(outputs() / "m.mdl", capsys, "--policy", str(tmp_path / "policy.yaml"))
    assert code == 1
    assert {(kind, file) for _, kind, file in found(document)} == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("signatures: 0", "signatures"),
        ("least_cought: 3", "least_cought"),
        ("checks: [roundtrip, roundtrip]", "twice"),
        ("checks: [verify]", "checks"),
        ("keys: [abc]", "64 hexadecimal digits"),
        ("keys: []", "keys"),
        ("statements: []", "statements"),
        (f"{{signatures: 2, keys: ['{'0' * 64}']}}", "fewer keys"),
        ("[", "isn't a policy"),
        ("schema: convkit.policy/2", "schema"),
    ],
)
def test_a_policy_that_was_weakened_by_mistake_is_refused(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    public = str(keys() / "p256.pub.pem")
    command = ["audit", "verify", str(outputs() / "m.mdl"), "--public-key", public]
    assert main([*command, "--policy", str(tmp_path / "policy.yaml")]) == 3
    assert said in capsys.readouterr().err


def test_deviations_by_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(shutil.copytree(outputs(), tmp_path / "out"))
    (tmp_path / "policy.json").write_text('{"deviations": []}')
    policy = ("--policy", str(tmp_path / "policy.json"))
    assert verified(out / "m.mdl", capsys, *policy)[0] == 0

    def deviate(statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
        statements[1]["predicate"][VERDICTS]["deviations"] = [{"field": "rope_theta", "side": "source"}]
        return with_sign_off(statements)

    sign_anew(out / BUNDLE, "p256", deviate)
    assert verified(out / "m.mdl", capsys)[0] == 0
    code, document = verified(out / "m.mdl", capsys, *policy)
    assert code == 1
    assert found(document) == {("", "deviation", BUNDLE)}
    (tmp_path / "policy.json").write_text('{"deviations": ["rope_theta"]}')
    assert verified(out / "m.mdl", capsys, *policy)[0] == 0


def test_a_conversion_made_again_isnt_what_was_signed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(shutil.copytree(outputs(), tmp_path / "out"))
    target = str(out / "m.mdl")
    assert main(["convert", str(out / "m.mdl.source"), target, "--to", "cerebras/llama", "--overwrite", "-q"]) == 0
    code, document = verified(out / "m.mdl", capsys)
    assert code == 1
    assert ("", "changed file", "m.mdl.convkit.json") in found(document)


#: fields that are signed in another form than they should be, as who has the key could: line and place
FORMS = [
    (0, ("predicate", "runDetails", "byproducts")),
    (0, ("predicate", "runDetails")),
    (0, ("predicate", "buildDefinition", "internalParameters")),
    (0, ("predicate", "buildDefinition", "externalParameters")),
    (0, ("predicate", "buildDefinition", "resolvedDependencies")),
    (0, ("subject", 1, "digest")),
    (0, ("subject", 1, "name")),
    (1, ("predicate", VERDICTS)),
    (1, ("predicate", VERDICTS, "verdicts")),
    (1, ("predicate", VERDICTS, "verdicts", "roundtrip")),
    (1, ("predicate", VERDICTS, "verdicts", "roundtrip", "faults")),
    (1, ("predicate", VERDICTS, "documents", "roundtrip", "digest")),
    (1, ("predicate", VERDICTS, "deviations")),
    (2, ("predicate", "files", 0, "digest")),
    (2, ("predicate", "files")),
    (2, ("predicate", "signersClaim")),
    (2, ("subject", 0, "digest")),
]


@pytest.mark.parametrize("value", [None, 1.5, "x", [1], {}], ids=repr)
def test_another_form_is_never_a_fault_of_convkit(
    value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(outputs(), tmp_path / "out"))
    signed = (out / BUNDLE).read_text()
    public = str(keys() / "p256.pub.pem")
    for number, place in FORMS:

        def change(statements: list[dict[str, Any]], number: int = number, place: Any = place) -> list[dict[str, Any]]:
            inner: Any = statements[number]
            for name in place[:-1]:
                inner = inner[name]
            inner[place[-1]] = value
            return statements if number == 2 else with_sign_off(statements)

        (out / BUNDLE).write_text(signed)
        sign_anew(out / BUNDLE, "p256", change)
        # a claim of nobody, and files that nobody vouches for, are as the policy has them
        assert main(["audit", "verify", str(out / "m.mdl"), "--public-key", public, "-q"]) in (0, 1), place
        assert main(["audit", "show", str(out / "m.mdl"), "-q"]) == 0, place
    assert "a fault of convkit" not in capsys.readouterr().err
