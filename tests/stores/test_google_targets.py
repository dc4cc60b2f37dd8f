"""What only targets in Google Cloud Storage have: parts that are objects of their own, and are composed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from conftest import Bucket, Run
from faulty import Asked, Proxy
from test_google import account, tokens

from convkit.errors import ConvkitError
from convkit.fetch import fetch
from convkit.files.stores import sending
from convkit.files.stores.path import opened
from convkit.files.stores.sending import Sending


@pytest.fixture
def scheme() -> str:
    return "gs"


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where outputs are made before they are sent."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PART", 1 << 20)


@pytest.fixture
def sender(bucket: Bucket) -> Sending:
    """Sends to ``model`` in the bucket."""
    return opened(f"gs://{bucket.name}/model").store.sending()


def names(bucket: Bucket) -> list[str]:
    bucket.store.invalidate_cache()
    return [name.partition("/")[2] for name in bucket.store.find(bucket.name)]


def converted(folder: Path, convkit: Run) -> Path:
    """A checkpoint of the other side, of more than one part."""
    fetch("generated://llama?hidden=960&vocab=8192", folder / "generated")
    words = ("convert", folder / "generated", folder / "other", "--to", "cerebras/llama", "--format", "safetensors")
    assert convkit(*words)[0] == 0
    return folder / "other"


@pytest.mark.parametrize("count", [1, 32, 33, 1025])
def test_parts_are_composed_in_order_however_many(count: int, bucket: Bucket, proxy: Proxy, sender: Sending) -> None:
    path = f"{bucket.name}/model/a b%/weights"
    data = {number: f"part {number};".encode() for number in range(count, 0, -1)}
    upload = sender.begin(path)
    said = {number: sender.part(path, upload, number, data[number]) for number in data}
    assert sender.parts(path, upload) == said
    whole = b"".join(data[number] for number in sorted(data))
    tag = sender.complete(path, upload, said, len(whole))
    assert bucket.store.cat_file(path) == whole
    assert tag == f"generation {bucket.store.info(path)['generation']}"
    assert names(bucket) == ["model/a b%/weights"]
    assert sender.parts(path, upload) is None
    (last,) = [asked for asked in proxy.asked if asked.completes]
    assert "ifGenerationMatch=0" in last.path


def test_an_object_of_somebody_else_is_not_replaced(bucket: Bucket, proxy: Proxy, sender: Sending) -> None:
    """The refusal is Google's; the emulator doesn't know the condition."""
    path = f"{bucket.name}/model/weights"
    upload = sender.begin(path)
    said = {1: sender.part(path, upload, 1, b"mine")}
    bucket.store.pipe_file(path, b"hers")
    proxy.fault = lambda asked: "exists" if asked.completes else None
    with pytest.raises(ConvkitError, match="something else writes the target, too"):
        sender.complete(path, upload, said, 4)
    assert bucket.store.cat_file(path) == b"hers"


def test_parts_are_discarded_except_those_that_are_kept(bucket: Bucket, sender: Sending) -> None:
    uploads = {}
    for name in ("model/weights", "model/weights-2", "model/config.json"):
        uploads[name] = sender.begin(f"{bucket.name}/{name}")
        sender.part(f"{bucket.name}/{name}", uploads[name], 1, b"a part")
    sender.discard(f"{bucket.name}/model/weights")
    assert len(names(bucket)) == 2
    sender.discard(f"{bucket.name}/model", keep=[uploads["model/config.json"]])
    (left,) = names(bucket)
    assert left == f"model.convkit-parts/model/config.json/{uploads['model/config.json']}/00001"
    sender.abort(f"{bucket.name}/model/config.json", uploads["model/config.json"])
    assert not names(bucket)


@pytest.mark.parametrize("kind", ["safetensors", "orbax-v0"])
@pytest.mark.usefixtures("small_parts")
def test_parts_are_no_checkpoint_and_the_old_output_stays(
    kind: str, bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run
) -> None:
    source, target = converted(tmp_path, convkit), f"gs://{bucket.name}/model"
    words = ("convert", source, target, "--to", "hf/llama", "--format", kind)
    assert convkit(*words)[0] == 0
    before = convkit("digest", target)
    proxy.fault = lambda asked: "slow down" if asked.part and asked.part[-1] == "3" else None
    assert convkit(*words, "--overwrite")[0] == 3
    proxy.fault = lambda asked: None
    parts = [name for name in names(bucket) if "convkit-parts" in name]
    assert parts
    assert convkit("digest", target) == before
    assert convkit("verify", target)[0] == 0
    for place in (parts[0], parts[0].rpartition("/")[0], "model.convkit-parts"):
        for others in (["inspect"], ["digest"], ["plan", "--to", "cerebras/llama"]):
            code, said = convkit(others[0], f"gs://{bucket.name}/{place}", *others[1:])
            assert (code, "isn't finished: " in said) == (3, True), said
    code, said = convkit(*words, "--overwrite")
    assert (code, "resumed" in said) == (0, True), said
    assert not any("convkit-parts" in name for name in names(bucket))
    assert convkit("roundtrip", source, target)[0] == 0
    assert convkit("verify", target)[0] == 0


@pytest.mark.usefixtures("small_parts")
def test_parts_that_a_kill_left_of_what_was_completed_are_removed(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run
) -> None:
    """The object is made; the run ends while its parts are removed."""
    source, target = converted(tmp_path, convkit), f"gs://{bucket.name}/model"
    words = ("convert", source, target, "--to", "hf/llama")

    def fault(asked: Asked) -> str | None:
        removes = asked.method == "DELETE" and "convkit-parts" in asked.key
        return "reset" if removes and asked.key.endswith("2") else None

    proxy.fault = fault
    assert convkit(*words)[0] == 3
    assert any("convkit-parts" in name for name in names(bucket))
    assert "model/model.safetensors" in names(bucket)
    proxy.fault = lambda asked: None
    proxy.asked.clear()
    code, said = convkit(*words)
    assert code == 0, said
    assert not any(asked.part for asked in proxy.asked)
    assert not any("convkit-parts" in name for name in names(bucket))
    assert convkit("verify", target)[0] == 0


@pytest.fixture
def account_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gs: Proxy) -> Iterator[list[str]]:
    """The tokens that an account was given."""
    monkeypatch.delitem(fsspec.config.conf, "gs")
    with tokens() as (url, given):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account(tmp_path / "account.json", url)))
        yield given


@pytest.mark.usefixtures("small_parts")
def test_a_token_that_expires_while_it_is_sent_is_renewed(
    account_tokens: list[str], bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run
) -> None:
    source, target = converted(tmp_path, convkit), f"gs://{bucket.name}/model"

    def fault(asked: Asked) -> str | None:
        used = sum(one.part is not None for one in proxy.asked if one.signer == account_tokens[0])
        return "expired" if asked.part and asked.signer == account_tokens[0] and used > 8 else None

    proxy.fault = fault
    code, said = convkit("convert", source, target, "--to", "hf/llama")
    proxy.fault = lambda asked: None
    assert code == 0, said
    assert "expired" in proxy.done
    assert len(account_tokens) > 1
    assert "hunter22" not in said + "".join(path.read_text() for path in tmp_path.rglob("*.json*"))
    assert convkit("verify", target)[0] == 0
