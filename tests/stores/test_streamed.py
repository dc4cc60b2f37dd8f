"""Checkpoints in S3 and Google Cloud Storage are read where they lie: the same outputs as from a copy, and nothing else
on the disk.
"""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import servers
from conftest import Bucket, Run, receipt
from faulty import Asked, Proxy
from packed_mdl import pack

from convkit.fetch import fetch

#: how a checkpoint is made -> where it is converted to
KINDS = {
    "safetensors": ("generated://llama", [], "cerebras/llama"),
    "shards": ("generated://llama", ["--shard-size", "100kB"], "cerebras/llama"),
    "torch": ("generated://llama", ["--format", "torch"], "cerebras/llama"),
    "torch-shards": ("generated://llama", ["--format", "torch", "--shard-size", "100kB"], "cerebras/llama"),
    "orbax-v0": ("generated://llama", ["--format", "orbax-v0"], "cerebras/llama"),
    "orbax-v1": ("generated://llama", ["--format", "orbax-v1"], "cerebras/llama"),
    "t5x": ("generated://t5x", [], "te/t5"),
    "pax": ("generated://pax", [], "te/pax"),
    "mdl": ("generated://llama", [], "hf/llama"),
    "packed-mdl": ("generated://llama", [], "hf/llama"),
    "old-mdl": ("generated://cerebras-old", [], "hf/llama"),
}


@pytest.fixture(params=["s3", "gs"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(kind: str, folder: Path, convkit: Run) -> Path:
    """A checkpoint of a kind, made on this machine."""
    uri, options, _ = KINDS[kind]
    fetch(uri, folder / "generated")
    if kind in ("mdl", "packed-mdl"):
        target = folder / "made" / "m.mdl"
        code, said = convkit("convert", folder / "generated", target, "--to", "cerebras/llama")
        assert code == 0, said
        if kind == "packed-mdl":
            pack(target)
        return folder / "made"
    if not options:
        return folder / "generated"
    code, said = convkit("convert", folder / "generated", folder / "mdl.mdl", "--to", "cerebras/llama")
    assert code == 0, said
    code, said = convkit("convert", folder / "mdl.mdl", folder / "made", "--to", "hf/llama", *options, "--no-restore")
    assert code == 0, said
    return folder / "made"


#: many small objects, for which a stand-in takes long, or much like others
SLOW = ("orbax-v1", "pax", "t5x", "torch-shards")


@pytest.mark.parametrize("kind", [pytest.param(one, marks=[pytest.mark.slow] * (one in SLOW)) for one in KINDS])
def test_a_stream_gives_what_a_copy_gives(
    kind: str, bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run
) -> None:
    here, to = made(kind, tmp_path, convkit), KINDS[kind][2]
    uri = bucket.put(here)
    (tmp_path / "out").mkdir()
    streamed, copied = tmp_path / "out" / "streamed.mdl", tmp_path / "copied.mdl"
    for source, target in ((uri, streamed), (here, copied)):
        code, said = convkit("convert", source, target, "--to", to, "--format", "cerebras-h5", "--no-restore")
        assert code == 0, said
    ours, theirs = receipt(streamed), receipt(copied)
    assert ours["source"]["leaves"] == theirs["source"]["leaves"]
    assert ours["target"]["leaves"] == theirs["target"]["leaves"]
    assert ours["source"]["path"] == uri
    sizes = {file["name"]: file["bytes"] for file in theirs["source"]["files"]}
    assert {file["name"]: file["bytes"] for file in ours["source"]["files"]} == sizes
    assert all(file["version"].startswith(bucket.tag) for file in ours["source"]["files"])
    assert convkit("roundtrip", uri, streamed)[0] == 0
    assert convkit("verify", streamed)[0] == 0
    assert {path.name.partition(".")[0] for path in (tmp_path / "out").iterdir()} <= {"streamed", "config", "params"}


def test_plan_inspect_digest_and_diff_say_the_same(bucket: Bucket, tmp_path: Path, convkit: Run) -> None:
    fetch("generated://llama", tmp_path / "here")
    uri = bucket.put(tmp_path / "here")
    for words in (["inspect", "--digest"], ["digest"], ["plan", "--to", "cerebras/llama"]):
        code, said = convkit(words[0], uri, *words[1:])
        assert code == 0, said
        assert said.replace(uri, "HERE") == convkit(words[0], tmp_path / "here", *words[1:])[1].replace(
            str(tmp_path / "here"), "HERE"
        )
    assert convkit("diff", uri, tmp_path / "here")[0] == 0


def test_equivalence_runs_the_model_from_the_store(bucket: Bucket, tmp_path: Path, convkit: Run) -> None:
    fetch("generated://llama", tmp_path / "here")
    uri = bucket.put(tmp_path / "here")
    assert convkit("convert", uri, tmp_path / "out.mdl", "--to", "cerebras/llama")[0] == 0
    code, said = convkit("equivalence", uri, tmp_path / "out.mdl", "--faults", "spread")
    assert (code, "equivalence: yes" in said) == (0, True), said


@pytest.mark.parametrize("name", ["model.safetensors", "m.mdl"])
def test_each_range_is_read_once(name: str, bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run) -> None:
    """A pass over a checkpoint asks for each byte of the tensors once, whichever threads ask for them.

    The index of a ``.mdl`` lies between its tensors, and comes in pages of its own.
    """
    fetch("generated://llama?layers=4&hidden=600", tmp_path / "here")
    if name == "m.mdl":
        assert convkit("convert", tmp_path / "here", tmp_path / "there" / name, "--to", "cerebras/llama")[0] == 0
    here, to = next(tmp_path.rglob(name)), "hf/llama" if name == "m.mdl" else "cerebras/llama"
    uri = bucket.put(here.parent)
    proxy.asked.clear()
    assert convkit("convert", uri, tmp_path / "out", "--to", to, "--format", "safetensors")[0] == 0
    large = [asked.range for asked in proxy.asked if asked.reads and asked.name.endswith(name)]
    assert max(Counter(large).values()) == 1, large
    size = here.stat().st_size
    spans = [tuple(map(int, asked.removeprefix("bytes=").split("-"))) for asked in large]
    assert sum(stop + 1 - start for start, stop in spans) < size * 1.15


@pytest.mark.parametrize("kind", ["safetensors", "torch", "orbax-v0", "mdl", "packed-mdl"])
def test_what_passes_is_tried_again(kind: str, bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run) -> None:
    uri = bucket.put(made(kind, tmp_path, convkit))
    proxy.every(3, "slow down", "error", "reset", "truncate")
    code, said = convkit("convert", uri, tmp_path / "out", "--to", KINDS[kind][2], "--format", "safetensors")
    assert code == 0, said
    proxy.fault = lambda asked: None
    assert convkit("roundtrip", uri, tmp_path / "out")[0] == 0
    assert proxy.done


#: in which file reading fails, and after how many reads: of a .mdl, in the midst of its index
LASTING = [("safetensors", "model.safetensors", 0), ("mdl", "m.mdl", 0), ("mdl", "m.mdl", 4)]


@pytest.mark.parametrize("case", [*product(["slow down", "error", "reset", "truncate"], LASTING)])
def test_what_lasts_ends_in_one_line(
    case: tuple[str, tuple[str, str, int]], bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run
) -> None:
    fault, (kind, name, after) = case
    uri, reads = bucket.put(made(kind, tmp_path, convkit)), 0

    def fails(asked: Asked) -> str | None:
        nonlocal reads
        reads += (concerned := asked.reads and asked.name.endswith(name))
        return fault if concerned and reads > after else None

    proxy.fault = fails
    code, said = convkit("convert", uri, tmp_path / "out", "--to", KINDS[kind][2], "--format", "safetensors")
    assert code == 3
    errors = [line for line in said.splitlines() if line.startswith("convkit: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"convkit: {uri}/{name}: ")
    assert "gave up after 6 attempts; try again later" in errors[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["safetensors", "orbax-v0", "mdl", pytest.param("t5x", marks=pytest.mark.slow)])
def test_an_object_that_is_replaced_fails(
    kind: str, bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run
) -> None:
    """It is replaced when its first bytes are asked for by another object of the same size."""
    here, to = made(kind, tmp_path, convkit), KINDS[kind][2]
    uri = bucket.put(here)
    largest = max((file for file in here.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    name = largest.relative_to(here).as_posix()
    replaced: list[str] = []

    def replace(asked: Asked) -> None:
        if asked.reads and asked.name.endswith(name) and not replaced:
            replaced.append(name)
            data = largest.read_bytes()
            bucket.store.pipe_file(f"{bucket.name}/model/{name}", data[:-1] + bytes([data[-1] ^ 1]))

    proxy.before = replace
    code, said = convkit("convert", uri, tmp_path / "out", "--to", to, "--format", "safetensors")
    assert code == 3
    assert f"convkit: {uri}/{name}: changed while it was read (let nothing write to the source" in said
    assert not (tmp_path / "out").exists()


def test_an_object_that_is_removed_fails(bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run) -> None:
    fetch("generated://llama", tmp_path / "here")
    uri = bucket.put(tmp_path / "here")
    proxy.before = lambda asked: asked.reads and bucket.store.rm_file(f"{bucket.name}/model/model.safetensors")
    code, said = convkit("convert", uri, tmp_path / "out.mdl", "--to", "cerebras/llama")
    assert (code, f"{uri}/model.safetensors: is gone since it was read" in said) == (3, True), said


def test_credentials_that_expire_end_in_one_line(bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run) -> None:
    fetch("generated://llama", tmp_path / "here")
    uri = bucket.put(tmp_path / "here")
    reads: list[Asked] = []
    proxy.fault = lambda asked: "expired" if asked.reads and (reads.append(asked), len(reads) > 2)[1] else None
    code, said = convkit("convert", uri, tmp_path / "out.mdl", "--to", "cerebras/llama")
    assert (code, "the credentials may have expired" in said) == (3, True), said
    assert not (tmp_path / "out.mdl").exists()


@pytest.mark.parametrize("scheme", ["s3"])
def test_credentials_that_are_renewed_meanwhile_are_taken(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convkit: Run
) -> None:
    """The credentials' file is written anew, as tools that log in do, when the first ones expire."""
    fetch("generated://llama", tmp_path / "here")
    uri = bucket.put(tmp_path / "here")
    file = tmp_path / "credentials"
    write = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n".format
    file.write_text(write(servers.KEY, servers.SECRET))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    state = {"reads": 0, "expired": False}

    def fault(asked: Asked) -> str | None:
        state["reads"] += asked.reads
        if asked.reads and 2 < state["reads"] <= 4:
            return "expired"
        return None

    proxy.fault = fault
    code, said = convkit("convert", uri, tmp_path / "out.mdl", "--to", "cerebras/llama")
    assert code == 0, said
    assert proxy.done == ["expired", "expired"]


def test_no_access_is_said_at_once(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convkit: Run
) -> None:
    fetch("generated://llama", tmp_path / "here")
    uri = bucket.put(tmp_path / "here")
    proxy.fault = lambda asked: "expired"
    code, said = convkit("inspect", uri)
    assert (code, "access denied" in said) == (3, True), said


def test_what_isnt_there_is_said(bucket: Bucket, convkit: Run) -> None:
    uri = f"{bucket.scheme}://{bucket.name}/nothing"
    code, said = convkit("inspect", uri)
    assert (code, said) == (3, f"convkit: {uri}: no such file or folder (check the URI)\n")


def test_a_file_is_named_as_a_folder_is(bucket: Bucket, tmp_path: Path, convkit: Run) -> None:
    here = made("mdl", tmp_path, convkit)
    uri = f"{bucket.put(here)}/m.mdl"
    for words in (["inspect", "--digest"], ["digest"], ["plan", "--to", "hf/llama"]):
        code, said = convkit(words[0], uri, *words[1:])
        assert code == 0, said
        same = convkit(words[0], here / "m.mdl", *words[1:])[1]
        assert said.replace(uri.removesuffix("/m.mdl"), "HERE") == same.replace(str(here), "HERE")
    for words in (["verify", uri], ["diff", uri, here / "m.mdl"], ["roundtrip", tmp_path / "generated", uri]):
        code, said = convkit(*words)
        assert code == 0, said
    code, said = convkit("equivalence", tmp_path / "generated", uri, "--faults", "spread")
    assert (code, "equivalence: yes" in said) == (0, True), said
