"""Keys: which are made and read, how they lie on the disk, and where a passphrase comes from."""

from __future__ import annotations

import hashlib
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from convkit.audit.keys import KINDS, PASSPHRASE, generate, read_private, read_public
from convkit.cli import main
from convkit.errors import ConvkitError, UsageError


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private, public = tmp_path / "k.pem", tmp_path / "k.pub.pem"
    assert main(["audit", "keygen", str(private), "--kind", kind]) == 0
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    key, other = read_private(private), read_public(public)
    assert key.public.id == other.id
    assert (other.kind, other.made(key.sign(b"x"), b"x"), other.made(key.sign(b"x"), b"y")) == (kind, True, False)
    assert other.id in capsys.readouterr().out
    before = private.read_bytes()
    assert main(["audit", "keygen", str(private)]) == 2
    assert "a key is never replaced" in capsys.readouterr().err
    assert private.read_bytes() == before


def test_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(PASSPHRASE, raising=False)
    file, path = tmp_path / "passphrase", tmp_path / "k.pem"
    file.write_bytes("naïve 重み\nsecond line\n".encode())
    assert main(["audit", "keygen", str(path), "--passphrase-file", str(file)]) == 0
    assert b"ENCRYPTED" in path.read_bytes()
    with pytest.raises(UsageError, match="there is no passphrase"):
        read_private(path)
    with pytest.raises(ConvkitError, match="isn't opened by this passphrase"):
        read_private(path, b"wrong")
    assert read_private(path, "naïve 重み".encode()).public.kind == "p256"
    monkeypatch.setenv(PASSPHRASE, "from the environment")
    assert main(["audit", "keygen", str(tmp_path / "e.pem")]) == 0
    assert read_private(tmp_path / "e.pem", b"from the environment")
    file.write_text("\n")
    capsys.readouterr()
    assert main(["audit", "keygen", str(tmp_path / "f.pem"), "--passphrase-file", str(file)]) == 3
    assert not (tmp_path / "f.pem").exists()


@pytest.mark.parametrize("words", [["--passphrase", "s3cret"], ["--passphrase=s3cret"]], ids=len)
def test_no_passphrase_on_the_command_line(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is given all the same is refused, and isn't printed."""
    assert main(["audit", "keygen", str(tmp_path / "k.pem"), *words]) == 2
    said = capsys.readouterr()
    assert "--passphrase-file" in said.err and "s3cret" not in said.err + said.out
    assert not (tmp_path / "k.pem").exists()


@pytest.mark.parametrize("text", ["", "nothing", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key(text: str, tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    path.write_text(text)
    with pytest.raises(ConvkitError, match="isn't a private key"):
        read_private(path)
    with pytest.raises(ConvkitError, match=r"isn't a public key|is a private key"):
        read_public(path)
    with pytest.raises(ConvkitError, match="can't be read"):
        read_public(tmp_path / "none.pem")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_keys_that_openssl_makes(tmp_path: Path) -> None:
    def openssl(*words: str) -> bytes:
        return subprocess.run(["openssl", *words], cwd=tmp_path, capture_output=True, check=True).stdout

    for name, how in {
        "p256": ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "old": ["ecparam", "-name", "secp384r1", "-genkey"],
        "ed25519": ["genpkey", "-algorithm", "ed25519"],
    }.items():
        openssl(*how, "-out", f"{name}.pem")
        openssl("pkey", "-in", f"{name}.pem", "-pubout", "-out", f"{name}.pub.pem")
        key = read_private(tmp_path / f"{name}.pem")
        assert key.public.id == read_public(tmp_path / f"{name}.pub.pem").id
        der = openssl("pkey", "-pubin", "-in", f"{name}.pub.pem", "-outform", "DER")
        assert key.public.id == hashlib.sha256(der).hexdigest()
    openssl("genpkey", "-algorithm", "RSA", "-out", "rsa.pem")
    with pytest.raises(ConvkitError, match="is a key of another kind"):
        read_private(tmp_path / "rsa.pem")
    openssl("ecparam", "-name", "secp256k1", "-genkey", "-out", "k1.pem")
    with pytest.raises(ConvkitError, match="is a key of another kind"):
        read_private(tmp_path / "k1.pem")


def test_each_kind_signs_anew() -> None:
    for kind in KINDS:
        key = generate(kind)
        assert (key.sign(b"x") == key.sign(b"x")) == (kind == "ed25519")
