"""Signing and checking what nobody tampered with."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from audit.made import BUNDLE, OUTPUTS, campaign, edit_lines, found, keys, outputs, sign, verified
from convkit.audit.dsse import Line, read_lines
from convkit.audit.keys import KINDS
from convkit.audit.statements import KINDS as STATEMENTS
from convkit.audit.statements import PROVENANCE, TEST_RESULT, VERDICTS
from convkit.cli import main
from convkit.report import build_report


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(outputs(), tmp_path / "out"))


def statements(path: Path) -> dict[str, dict[str, Any]]:
    lines = [line for line in read_lines(path) if isinstance(line, Line)]
    return {line.predicate_type: line.statement for line in lines}


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_is_signed_holds(copied: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = verified(copied / name, capsys)
    assert (code, document["problems"]) == (0, [])
    (signer,) = document["signers"]
    assert signer["verified"]
    assert signer["responsible"] == "A. Reviewer"
    assert signer["claimed_time"]
    assert document["files"] >= 2


def test_the_statements_say_what_was_made_of_what() -> None:
    said = statements(outputs() / "folder.intoto.jsonl")
    assert list(said) == list(STATEMENTS.values())
    provenance, test_result = said[PROVENANCE], said[TEST_RESULT]
    assert provenance["subject"] == test_result["subject"]
    names = {one["name"] for one in provenance["subject"]}
    assert {".", "folder/config.json" if (outputs() / "folder/config.json").exists() else "."} <= names
    definition = provenance["predicate"]["buildDefinition"]
    receipt = json.loads((outputs() / "folder.convkit.json").read_text())
    assert definition["externalParameters"]["mapping"] == receipt["plan"]["mapping"]
    assert definition["internalParameters"]["planDigest"] == receipt["plan_digest"]
    dependencies = {one["name"]: one for one in definition["resolvedDependencies"]}
    assert dependencies["source"]["uri"].startswith("generated://llama")
    assert len(dependencies["source/model.safetensors"]["digest"]["sha256"]) == 64
    assert dependencies["plan"]["digest"]["sha256"] == receipt["plan_digest"].removeprefix("sha256:")
    assert provenance["predicate"]["runDetails"]["byproducts"][0]["name"] == "folder.convkit.json"


@pytest.mark.parametrize("check", ["roundtrip", "equivalence"])
def test_numbers_survive_exactly(check: str) -> None:
    said = statements(outputs() / "m.mdl.intoto.jsonl")[TEST_RESULT]["predicate"]
    document = json.loads((outputs() / f"m.mdl.{check}.json").read_text())
    assert said[VERDICTS]["verdicts"][check] == document
    assert said["result"] == "PASSED"
    assert said["passedTests"] == ["roundtrip", "equivalence"] or sorted(said["passedTests"]) == [
        "equivalence",
        "roundtrip",
    ]
    assert said[VERDICTS]["verdicts"]["equivalence"]["stages"][0]["noise"] is not None


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_key_signs(copied: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    target = copied / "m.mdl"
    for beside in ("intoto.jsonl", "model.sig"):
        (copied / f"m.mdl.{beside}").unlink()
    assert sign(target, kind) == 0
    assert (copied / "m.mdl.model.sig").exists() == (kind != "ed25519")
    assert verified(target, capsys, key=kind)[0] == 0
    code, document = verified(target, capsys, key="other")
    assert code == 1
    assert ("", "wrong key", "m.mdl.intoto.jsonl") in found(document)


def test_two_persons_sign_one_statement(copied: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = copied / "m.mdl"
    before = statements(copied / "m.mdl.intoto.jsonl")
    assert sign(target, "ed25519", "--responsible", "B. Auditor") == 0
    after = statements(copied / "m.mdl.intoto.jsonl")
    assert (after[PROVENANCE], after[TEST_RESULT]) == (before[PROVENANCE], before[TEST_RESULT])
    both = ("--public-key", str(keys() / "ed25519.pub.pem"))
    policy = tmp_path / "policy.yaml"
    policy.write_text("signatures: 2\nresponsible: true\n")
    code, document = verified(target, capsys, *both, "--policy", str(policy))
    assert (code, document["problems"]) == (0, [])
    assert [one["responsible"] for one in document["signers"]] == ["A. Reviewer", "B. Auditor"]
    # each alone is enough by the default, and too few by the policy
    for key in ("p256", "ed25519"):
        assert verified(target, capsys, key=key)[0] == 0
        code, document = verified(target, capsys, "--policy", str(policy), key=key)
        assert code == 1
        assert found(document) == {("", "too few signatures", "m.mdl.intoto.jsonl")}
    # one key given twice is one
    twice = ("--public-key", str(keys() / "p256.pub.pem"))
    assert verified(target, capsys, *twice, "--policy", str(policy))[0] == 1


def test_signing_again_replaces_the_own_sign_off(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = copied / "m.mdl"
    assert sign(target, "p256", "--responsible", "C. Later") == 0
    assert len((copied / "m.mdl.intoto.jsonl").read_text().splitlines()) == 3
    code, document = verified(target, capsys)
    assert code == 0
    assert document["signers"][0]["responsible"] == "C. Later"


def test_statements_that_say_something_else_are_replaced_only_on_request(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = copied / "m.mdl"
    (copied / "m.mdl.roundtrip.json").unlink()
    assert sign(target) == 2
    assert "says something else" in capsys.readouterr().err
    assert sign(target, "p256", "--overwrite") == 0
    code, document = verified(target, capsys)
    assert code == 1
    assert found(document) == {("", "missing check", "m.mdl.intoto.jsonl")}


def test_a_damaged_output_isnt_signed(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray((copied / "m.mdl").read_bytes())
    data[-1] ^= 1
    (copied / "m.mdl").write_bytes(data)
    assert sign(copied / "m.mdl") == 3
    assert "isn't what its receipt says" in capsys.readouterr().err


def test_the_time_of_signing_can_be_given(copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert sign(copied / "m.mdl") == 0
    assert verified(copied / "m.mdl", capsys)[1]["signers"][0]["claimed_time"] == "2023-11-14T22:13:20+00:00"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    assert sign(copied / "m.mdl") == 2


def test_what_is_signed_may_be_moved_together(copied: Path, tmp_path: Path, capsys: Any) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("m.mdl", "m.yaml", "m.mdl.companions", "m.mdl.convkit.json", "m.mdl.intoto.jsonl", "m.mdl.model.sig"):
        if (copied / name).exists():
            (copied / name).rename(moved / name)
    code, document = verified(moved / "m.mdl", capsys)
    assert (code, document["problems"]) == (0, [])


def test_a_campaign(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = verified(campaign(), capsys)
    assert (code, document["problems"]) == (0, [])
    assert document["rows"] == ["one", "two"]


def test_two_persons_sign_a_campaign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Path(shutil.copytree(campaign(), tmp_path / "results"))
    assert sign(results, "p384", "--responsible", "B. Auditor") == 0
    policy = tmp_path / "policy.yaml"
    policy.write_text("signatures: 2\nresponsible: true\n")
    both = ("--public-key", str(keys() / "p384.pub.pem"), "--policy", str(policy))
    code, document = verified(results, capsys, *both)
    assert (code, document["problems"]) == (0, [])
    assert len(document["signers"]) == 2
    # the second signature taken from a row, which the second person's campaign doesn't list, breaks the policy
    for name in ("target.mdl.intoto.jsonl", "target.mdl.model.sig"):
        shutil.copy(campaign() / "two" / name, results / "two" / name)
    code, document = verified(results, capsys, *both)
    assert code == 1
    assert found(document) == {("two", "too few signatures", "target.mdl.intoto.jsonl")}


def test_show_says_that_it_checks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "show", str(outputs() / "m.mdl")]) == 0
    shown = capsys.readouterr().out
    assert "A. Reviewer" in shown
    assert "no signature was checked" in shown
    assert main(["audit", "show", str(campaign()), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["row"] for one in document] == ["", "one", "two"]
    assert document[1]["contents"][0]["predicateType"] == PROVENANCE


def test_usage(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", str(copied / "m.mdl")]) == 2
    assert "--public-key" in capsys.readouterr().err
    public = ["--public-key", str(keys() / "p256.pub.pem")]
    assert main(["audit", "verify", str(copied / "none.mdl"), *public]) == 3
    assert main(["audit", "verify", str(copied / "m.mdl"), "--public-key", str(tmp_path / "none.pem")]) == 3
    assert main(["audit", "verify", str(copied / "m.mdl"), "--public-key", str(keys() / "p256.pem")]) == 3
    assert "is a private key" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize("kind", KINDS)
def test_openssl_alone_checks_each_signature(copied: Path, kind: str, tmp_path: Path) -> None:
    import base64

    bundle = copied / "m.mdl.intoto.jsonl"
    if kind != "p256":
        bundle.unlink()
        assert sign(copied / "m.mdl", kind, "--overwrite") == 0
    for line in bundle.read_text().splitlines():
        envelope = json.loads(line)
        payload = base64.b64decode(envelope["payload"])
        type = envelope["payloadType"].encode()
        (tmp_path / "pae").write_bytes(b"DSSEv1 %d %s %d %s" % (len(type), type, len(payload), payload))
        (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
        public = str(keys() / f"{kind}.pub.pem")
        hashed = {"p256": "-sha256", "p384": "-sha384", "p521": "-sha512"}.get(kind)
        command = (
            ["openssl", "dgst", hashed, "-verify", public, "-signature", "sig", "pae"]
            if hashed
            else [
                "openssl",
                "pkeyutl",
                "-verify",
                "-pubin",
                "-inkey",
                public,
                "-rawin",
                "-in",
                "pae",
                "-sigfile",
                "sig",
            ]
        )
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
        (tmp_path / "pae").write_bytes(b"DSSEv1 %d %s %d %s" % (len(type), type, len(payload), payload[:-1] + b" "))
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_the_page_says_what_is_signed_and_that_it_checked_nothing(copied: Path) -> None:
    page = build_report(copied / "m.mdl").read_text()
    assert "Signed evidence" in page
    assert "A. Reviewer" in page
    assert "No signature was checked for this page" in page
    edit_lines(copied / BUNDLE, lambda lines: [*lines, "<script>"])
    page = build_report(copied / "m.mdl").read_text()
    assert "line 4: it isn" in page
    assert "<script>{" not in page
    (copied / BUNDLE).unlink()
    assert "Signed evidence" not in build_report(copied / "m.mdl").read_text()
