"""Model signatures: the field's own tool checks ours, we check its, and the specification's forms are told apart."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.made import keys, outputs
from convkit.audit.dsse import MalformedError
from convkit.audit.files import digested, files_in
from convkit.audit.keys import read_private, read_public
from convkit.audit.oms import read_signature, statement_of, write_signature

CURVES = ("p256", "p384", "p521")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "sub").mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "sub" / "weights.bin").write_bytes(b"w" * 1000)
    (made / "empty").write_text("")
    (made / ".gitattributes").write_text("*.bin lfs")
    return made


def signed(model: Path, kind: str = "p256") -> Path:
    path = model.with_name("model.model.sig")
    write_signature(path, model.name, digested(files_in(model)), read_private(keys() / f"{kind}.pem"))
    return path


def their_check(model: Path, signature: Path, kind: str = "p256", *, unsigned: bool = False) -> None:
    import model_signing

    config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=keys() / f"{kind}.pub.pem")
    config.set_ignore_unsigned_files(unsigned).verify(model, signature)


@pytest.mark.parametrize("kind", CURVES)
def test_model_signing_checks_ours(model: Path, kind: str) -> None:
    their_check(model, signed(model, kind), kind)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda model: (model / "config.json").write_text("{ }"),
        lambda model: (model / "empty").unlink(),
        lambda model: (model / "more").write_text(""),
        lambda model: (model / "config.json").rename(model / "other.json"),
    ],
)
def test_both_refuse_the_same(model: Path, tamper: Callable[[Path], Any]) -> None:
    path = signed(model)
    tamper(model)
    with pytest.raises(ValueError, match="Signature mismatch"):
        their_check(model, path)
    assert [*read_signature(path.read_bytes()).differing(digested(files_in(model)))]


@pytest.mark.parametrize("kind", CURVES)
def test_we_check_theirs(model: Path, kind: str) -> None:
    import model_signing

    path = model.with_name("their.sig")
    model_signing.signing.Config().use_elliptic_key_signer(private_key=keys() / f"{kind}.pem").sign(model, path)
    found, public = read_signature(path.read_bytes()), read_public(keys() / f"{kind}.pub.pem")
    assert found.of(public)
    assert found.made_by(public)
    assert not found.unreadable()
    assert not [*found.differing(digested(files_in(model)))]
    (model / "config.json").write_text("{ }")
    assert [*found.differing(digested(files_in(model)))] == ["config.json has another sha256"]
    assert not found.made_by(read_public(keys() / "other.pub.pem"))


def test_what_they_sign_otherwise_is_called_what_it_is(model: Path) -> None:
    import model_signing

    hashing = model_signing.hashing
    for config in (
        hashing.Config().use_file_serialization(hashing_algorithm="blake3"),
        hashing.Config().use_shard_serialization(shard_size=100),
    ):
        path = model.with_name("their.sig")
        signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=keys() / "p256.pem")
        signer.set_hashing_config(config).sign(model, path)
        assert "isn't checked here" in read_signature(path.read_bytes()).unreadable()


def test_an_output_that_is_a_folder() -> None:
    their_check(outputs() / "folder", outputs() / "folder.model.sig")


def test_an_output_that_is_one_file() -> None:
    """The specification calls it by its name, model-signing 1.1.1 by a dot: so its folder is checked, as docs say."""
    their_check(outputs(), outputs() / "m.mdl.model.sig", unsigned=True)


@pytest.mark.slow  # a process that imports sigstore
def test_the_command_of_model_signing(model: Path) -> None:
    path, public = signed(model), str(keys() / "p256.pub.pem")
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(model)]
    options = ["--signature", str(path), "--public_key", public]
    assert subprocess.run([*command, *options], capture_output=True, check=False).returncode == 0
    (model / "config.json").write_text("{ }")
    assert subprocess.run([*command, *options], capture_output=True, check=False).returncode == 1


def test_the_root_digest_is_the_specifications() -> None:
    """The two files and the root of the example in the specification's appendix."""
    files = {
        "weights.bin": "4555555dc68d872c2270ba89ecc5f6f094812f65372b37e50071fe5168031c49",
        "config.json": "5e472403951781d18d5f790aa5b3316a5f535fc37a1052f6659c9c6af82e3643",
    }
    import hashlib

    root = hashlib.sha256(bytes.fromhex(files["config.json"] + files["weights.bin"])).hexdigest()
    assert statement_of("my-model", files)["subject"] == [{"name": "my-model", "digest": {"sha256": root}}]


#: forms that the specification doesn't allow: a change of the bundle, and of its statement
BUNDLES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no envelope": lambda bundle: bundle.pop("dsseEnvelope"),
    "no material": lambda bundle: bundle.pop("verificationMaterial"),
    "an unknown field": lambda bundle: bundle.update(more=1),
    "another media type": lambda bundle: bundle.update(mediaType="text/plain"),
    "a key without a hint": lambda bundle: bundle.update(verificationMaterial={"publicKey": {}}),
    "keyless without a log": lambda bundle: bundle.update(verificationMaterial={"certificate": {"rawBytes": "AA=="}}),
    "no signature": lambda bundle: bundle["dsseEnvelope"].update(signatures=[]),
    "two signatures": lambda bundle: bundle["dsseEnvelope"].update(signatures=[{"sig": "AA=="}] * 2),
    "an empty payload": lambda bundle: bundle["dsseEnvelope"].update(payload=""),
    "a payload that isn't base64": lambda bundle: bundle["dsseEnvelope"].update(payload="*"),
    "another payload type": lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"),
}
STATEMENTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another predicate type": lambda said: said.update(predicateType="https://example.com/wrong/v1.0"),
    "another statement type": lambda said: said.update(_type="https://in-toto.io/Statement/v0.1"),
    "two subjects": lambda said: said["subject"].append(said["subject"][0]),
    "no subject": lambda said: said.update(subject=[]),
    "no files": lambda said: said["predicate"].update(resources=[]),
    "an unknown digest": lambda said: said["predicate"]["serialization"].update(hash_type="md5"),
    "shards without a size": lambda said: said["predicate"]["serialization"].update(method="shards"),
    "a file by another digest": lambda said: said["predicate"]["resources"][0].update(algorithm="blake3"),
    "files with a size": lambda said: said["predicate"]["serialization"].update(shard_size=1),
    "files out of order": lambda said: said["predicate"]["resources"].reverse(),
    "a file twice": lambda said: said["predicate"]["resources"].insert(0, said["predicate"]["resources"][0]),
    "a digest in upper case": lambda said: said["predicate"]["resources"][0].update(digest="AB"),
}


@pytest.mark.parametrize("name", [*BUNDLES, *STATEMENTS, "empty", "not JSON"])
def test_forms_that_the_specification_doesnt_allow(model: Path, name: str) -> None:
    bundle = json.loads(signed(model).read_text())
    if name in BUNDLES:
        BUNDLES[name](bundle)
    elif name in STATEMENTS:
        said = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        STATEMENTS[name](said)
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(said).encode()).decode()
    data = {"empty": b"", "not JSON": b"{"}.get(name, json.dumps(bundle).encode())
    with pytest.raises(MalformedError):
        read_signature(data)


@pytest.mark.parametrize(
    ("change", "method"),
    [
        (lambda bundle: bundle["verificationMaterial"].pop("tlogEntries"), ""),
        (lambda bundle: bundle["dsseEnvelope"]["signatures"][0].pop("keyid"), ""),
        (lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(keyid=None), ""),
        (lambda bundle: bundle.update(verificationMaterial={"publicKey": {"rawBytes": "AA=="}}), "key of an earlier"),
        (lambda bundle: bundle.update(verificationMaterial={"x509CertificateChain": {}}), "certificate"),
        (lambda bundle: bundle.update(verificationMaterial={"certificate": {}, "tlogEntries": [{}]}), "keyless"),
    ],
)
def test_forms_that_it_allows(model: Path, change: Callable[[dict[str, Any]], Any], method: str) -> None:
    bundle = json.loads(signed(model).read_text())
    change(bundle)
    found = read_signature(json.dumps(bundle).encode())
    assert found.other_method.startswith(method)
    assert bool(found.unreadable()) == bool(method)


VECTORS = Path(os.environ.get("CONVKIT_OMS_VECTORS", "no such folder"))


@pytest.mark.skipif(not VECTORS.is_dir(), reason="CONVKIT_OMS_VECTORS isn't the test-vectors/v1.0 of the specification")
def test_the_specifications_own_vectors() -> None:
    read = {path.parent.name: 0 for path in VECTORS.rglob("*.json")}
    for path in VECTORS.rglob("*.json"):
        read[path.parent.name] += 1
        if path.parent.name == "valid":
            assert read_signature(path.read_bytes()).resources
        else:
            with pytest.raises(MalformedError):
                read_signature(path.read_bytes())
    assert min(read["valid"], read["invalid"], read["invalid-payload"])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_checks_it(model: Path, tmp_path: Path) -> None:
    envelope = json.loads(signed(model).read_text())["dsseEnvelope"]
    payload, type = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    (tmp_path / "pae").write_bytes(b"DSSEv1 %d %s %d %s" % (len(type), type, len(payload), payload))
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    command = ["openssl", "dgst", "-sha256", "-verify", str(keys() / "p256.pub.pem"), "-signature", "sig", "pae"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
