"""What only Google Cloud Storage has: generations, its own credentials, and two clients that each look for them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from conftest import Bucket, Run
from faulty import Asked, Proxy
from test_streamed import made

from convkit.fetch import fetch

sys.path.insert(0, str(Path(__file__).parent.parent / "fetch"))

from file_server import listening


@pytest.fixture
def scheme() -> str:
    return "gs"


@contextmanager
def tokens() -> Iterator[tuple[str, list[str]]]:
    """A stand-in for the service that gives access tokens to accounts; and those that it gave."""
    given: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        out: ClassVar[list[str]] = given

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.out.append(f"token-{len(self.out)}-hunter22")
            body = json.dumps({"access_token": self.out[-1], "expires_in": 3600, "token_type": "Bearer"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silent."""

    with listening(Handler) as url:
        yield url, given


def account(file: Path, url: str) -> Path:
    """The file of a service account."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    said = {"type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": pem}
    file.write_text(json.dumps({**said, "client_email": "me@p.iam", "client_id": "1", "token_uri": f"{url}/token"}))
    return file


def test_each_range_is_of_the_generation_that_was_listed(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run
) -> None:
    fetch("generated://llama", tmp_path / "here")
    uri = bucket.put(tmp_path / "here")
    generation = bucket.store.info(f"{bucket.name}/model/model.safetensors")["generation"]
    assert convkit("inspect", uri, "--digest")[0] == 0
    reads = [asked for asked in proxy.asked if asked.reads and asked.name.endswith("model.safetensors")]
    assert reads
    assert all(f"generation={generation}" in asked.path for asked in reads)


def test_a_token_that_expires_is_renewed(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convkit: Run
) -> None:
    """The account's token is refused from its third use on; the next one is taken, and none is printed."""
    fetch("generated://llama", tmp_path / "here")
    uri = bucket.put(tmp_path / "here")
    monkeypatch.delitem(fsspec.config.conf, "gs")
    with tokens() as (url, given):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account(tmp_path / "account.json", url)))

        def fault(asked: Asked) -> str | None:
            used = sum(one.reads for one in proxy.asked if one.signer == given[0])
            return "expired" if asked.reads and asked.signer == given[0] and used > 2 else None

        proxy.fault = fault
        code, said = convkit("convert", uri, tmp_path / "out.mdl", "--to", "cerebras/llama")
    assert code == 0, said
    assert "expired" in proxy.done
    assert {asked.signer for asked in proxy.asked if asked.reads} == set(given)
    assert len(given) > 1
    assert "hunter22" not in said + "".join(path.read_text() for path in tmp_path.glob("*.json"))


@pytest.mark.parametrize("fault", ["expired", "forbidden"])
def test_who_may_not_read_is_told_at_once(
    fault: str, bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run
) -> None:
    uri = bucket.put(made("orbax-v0", tmp_path, convkit))
    proxy.asked.clear()
    proxy.fault = lambda asked: fault if asked.reads else None
    code, said = convkit("convert", uri, tmp_path / "out.mdl", "--to", "cerebras/llama")
    assert (code, said.count("\n")) == (3, 1), said
    assert said.startswith(f"convkit: {uri}/")
    assert "access denied (check its credentials" in said
    assert len([asked for asked in proxy.asked if asked.reads]) <= 2, "it was tried again"
    assert not (tmp_path / "out.mdl").exists()


def test_an_emulator_of_one_client_only_is_refused(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convkit: Run
) -> None:
    """The objects would be listed at one place, and the arrays read at another."""
    uri = bucket.put(made("orbax-v0", tmp_path, convkit))
    monkeypatch.delenv("TENSORSTORE_GCS_HTTP_URL")
    code, said = convkit("digest", uri)
    assert (code, "set TENSORSTORE_GCS_HTTP_URL to the URL of that server, too" in said) == (2, True), said


def test_tensorstore_may_be_refused_where_gcsfs_is_not(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run
) -> None:
    uri = bucket.put(made("orbax-v0", tmp_path, convkit))
    proxy.fault = lambda asked: "forbidden" if asked.reads and asked.signer == "a-token" else None
    code, said = convkit("digest", uri)
    assert (code, said.count("\n")) == (3, 1), said
    assert said.startswith(f"convkit: {uri}")
    assert "PERMISSION_DENIED" in said
    assert "check its credentials" in said
    assert "http_response_body" not in said
