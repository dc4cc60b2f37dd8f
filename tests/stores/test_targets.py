"""Outputs are written to S3 and Google Cloud Storage: the same as on this machine, the receipt last; what isn't
finished is no checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import servers
from conftest import Bucket, Run, receipt
from faulty import Asked, Proxy

from convkit.fetch import fetch
from convkit.files.stores import outgoing, sending

#: how the source is made, where it is converted to, and in which format
KINDS = {
    "safetensors": ("generated://llama", ["--format", "safetensors"]),
    "shards": ("generated://llama", ["--format", "safetensors", "--shard-size", "100kB"]),
    "torch": ("generated://llama", ["--format", "torch"]),
    "torch-shards": ("generated://llama", ["--format", "torch", "--shard-size", "100kB"]),
    "orbax-v0": ("generated://llama", ["--format", "orbax-v0"]),
    "orbax-v1": ("generated://llama", ["--format", "orbax-v1"]),
    "t5x": ("generated://t5x", ["--format", "t5x"]),
    "pax": ("generated://pax", ["--format", "pax", "--size", "heads=6"]),
    "mdl": ("generated://llama", ["--format", "cerebras-h5"]),
}
#: many small objects, for which a stand-in takes long, or much like others
SLOW = ("orbax-v1", "pax", "torch-shards")
#: the kinds that are written to Google Cloud Storage, too
ALSO_GS = ("safetensors", "torch", "orbax-v0", "t5x", "mdl")
MIB = 1 << 20
both = pytest.mark.parametrize("scheme", ["s3", "gs"])
shards_and_mdl = pytest.mark.parametrize(("scheme", "kind"), [*product(["s3", "gs"], ["shards", "mdl"])])


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where outputs are made before they are sent."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)


def made(uri: str, folder: Path, convkit: Run, kind: str = "") -> tuple[Path, str]:
    """A checkpoint of the other side on this machine, and the layout that leads back."""
    fetch(uri, folder / "generated")
    if kind == "mdl":
        return folder / "generated", "cerebras/llama"
    family = {"generated://t5x": ("te/t5", "t5x/t5"), "generated://pax": ("te/pax", "pax/lm")}
    to, back = family.get(uri, ("cerebras/llama", "hf/llama"))
    code, said = convkit("convert", folder / "generated", folder / "other", "--to", to, "--format", "safetensors")
    if code:
        code, said = convkit("convert", folder / "generated", folder / "other.mdl", "--to", to)
        assert code == 0, said
        return folder / "other.mdl", back
    return folder / "other", back


def everything(bucket: Bucket) -> dict[str, Any]:
    """What lies in the bucket now: sizes and versions by key."""
    bucket.store.invalidate_cache()
    found = bucket.store.find(bucket.name, detail=True)
    version = "ETag" if bucket.scheme == "s3" else "generation"
    return {name.partition("/")[2]: (info["size"], f"{version} {info[version]}") for name, info in found.items()}


def listed(bucket: Bucket) -> dict[str, Any]:
    """The same, without parts of objects that aren't made yet."""
    return {name: found for name, found in everything(bucket).items() if ".convkit-parts/" not in name}


def remote_receipt(bucket: Bucket, name: str = "model") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bucket.store.cat_file(f"{bucket.name}/{name}.convkit.json"))
    return found


@pytest.mark.parametrize(
    ("scheme", "kind"),
    [pytest.param("s3", one, marks=[pytest.mark.slow] * (one in SLOW)) for one in KINDS]
    + [("gs", one) for one in ALSO_GS],
)
def test_a_store_gets_what_a_folder_gets(kind: str, bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run) -> None:
    uri, options = KINDS[kind]
    source, to = made(uri, tmp_path, convkit, kind)
    target = f"{bucket.scheme}://{bucket.name}/model"
    for place in (target, tmp_path / "local" / "model"):
        code, said = convkit("convert", source, place, "--to", to, *options, "--no-restore")
        assert code == 0, said
    there, here = remote_receipt(bucket), receipt(tmp_path / "local" / "model")
    assert there["target"] == here["target"]
    assert there["complement"] == here["complement"]
    written = {entry["name"]: (entry["bytes"], entry["version"]) for entry in there["written"]}
    assert {name: size for name, (size, _) in written.items()} == {
        entry["name"]: entry["bytes"] for entry in here["written"]
    }
    found = everything(bucket)
    assert {name: found[name] for name in written} == written
    assert set(found) - set(written) == {"model.convkit.json"}
    assert not list((tmp_path / "scratch").glob("convkit-*"))
    changes = [asked for asked in proxy.asked if asked.method in ("PUT", "DELETE", "POST") and not asked.part]
    names = [asked.key for asked in changes if not re.search(r"\?uploads|convkit-parts", unquote(asked.path))]
    assert names[0] == "model.convkit-unfinished"
    assert names[-2:] == ["model.convkit.json", "model.convkit-unfinished"]
    first = next((at for at, asked in enumerate(proxy.asked) if asked.completes), len(proxy.asked))
    assert not any(asked.part for asked in proxy.asked[first:])
    for words in (["inspect", target], ["digest", target], ["verify", target], ["roundtrip", source, target]):
        code, said = convkit(*words)
        assert code == 0, said
    assert convkit("diff", target, tmp_path / "local" / "model")[0] == 0


@both
def test_equivalence_of_a_target_in_a_store(bucket: Bucket, tmp_path: Path, convkit: Run) -> None:
    source, to = made("generated://llama", tmp_path, convkit)
    target = f"{bucket.scheme}://{bucket.name}/model"
    assert convkit("convert", source, target, "--to", to)[0] == 0
    code, said = convkit("equivalence", source, target)
    assert (code, "equivalence: yes" in said) == (0, True), said


#: in which format the target lies; the object of it that grows by a byte, once one of these is read
REPLACED = {"safetensors": ("config.json", "model.safetensors"), "orbax-v0": ("d/", "d/")}


@both
@pytest.mark.parametrize("kind", REPLACED)
def test_an_object_that_changes_during_a_check_fails_it(
    kind: str, bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run
) -> None:
    source, to = made("generated://llama", tmp_path, convkit)
    target = f"{bucket.scheme}://{bucket.name}/model"
    assert convkit("convert", source, target, "--to", to, "--format", kind)[0] == 0
    grows, once_read = REPLACED[kind]
    path = next(name for name in listed(bucket) if f"/{grows}" in name)
    whole, done = bucket.store.cat_file(f"{bucket.name}/{path}"), []

    def replace(asked: Asked) -> None:
        if asked.reads and f"/{once_read}" in asked.key and not done:
            done.append(asked)
            bucket.store.pipe_file(f"{bucket.name}/{path}", whole + b" ")

    for check in ("roundtrip", "equivalence", "verify", "digest"):
        bucket.store.pipe_file(f"{bucket.name}/{path}", whole)
        done.clear()
        proxy.before = replace
        code, said = convkit(*((check, source, target) if check in ("roundtrip", "equivalence") else (check, target)))
        proxy.before = lambda asked: None
        assert (code, len(done)) == (3, 1), (check, said)
        assert "/".join((target, path.partition("/")[2])) + ": changed while it was read" in said


@both
def test_verify_reads_all_of_it_again(bucket: Bucket, tmp_path: Path, convkit: Run) -> None:
    source, to = made("generated://llama", tmp_path, convkit)
    target = f"{bucket.scheme}://{bucket.name}/model"
    assert convkit("convert", source, target, "--to", to)[0] == 0
    path = f"{bucket.name}/model/model.safetensors"
    data = bytearray(bucket.store.cat_file(path))
    data[-1] ^= 1
    bucket.store.pipe_file(path, bytes(data))
    code, said = convkit("verify", target)
    assert (code, "verify: NO" in said) == (1, True), said


@both
def test_what_is_there_is_protected(bucket: Bucket, tmp_path: Path, convkit: Run) -> None:
    source, to = made("generated://llama", tmp_path, convkit)
    target = f"{bucket.scheme}://{bucket.name}/model"
    assert convkit("convert", source, target, "--to", to, "--shard-size", "100kB")[0] == 0
    before = listed(bucket)
    code, said = convkit("convert", source, target, "--to", to)
    assert (code, f"{target}: exists" in said) == (2, True), said
    bucket.store.pipe_file(f"{bucket.name}/model/notes.txt", b"mine")
    code, said = convkit("convert", source, target, "--to", to, "--overwrite")
    assert (code, "holds notes.txt, which convkit didn't write" in said) == (2, True), said
    bucket.store.rm_file(f"{bucket.name}/model/notes.txt")
    assert listed(bucket) == before
    bucket.store.pipe_file(f"{bucket.name}/model-2/notes.txt", b"mine")
    assert convkit("convert", source, target, "--to", to, "--overwrite")[0] == 0
    assert {name for name in listed(bucket) if name.startswith("model/")} == {
        *("model/config.json", "model/model.safetensors"),
        *(entry["name"] for entry in remote_receipt(bucket)["written"] if entry["name"].startswith("model/")),
    }
    assert bucket.store.cat_file(f"{bucket.name}/model-2/notes.txt") == b"mine"
    assert convkit("verify", target)[0] == 0
    foreign = f"{bucket.scheme}://{bucket.name}/model-2"
    code, said = convkit("convert", source, foreign, "--to", to, "--overwrite")
    assert (code, f"{foreign}: is a folder that convkit didn't write" in said) == (2, True), said


def test_the_source_is_never_the_target(bucket: Bucket, tmp_path: Path, convkit: Run) -> None:
    fetch("generated://llama", tmp_path / "here")
    uri = bucket.put(tmp_path / "here")
    before = listed(bucket)
    words = ("--to", "cerebras/llama", "--format", "safetensors", "--overwrite")
    for target in (uri, f"{bucket.scheme}://{bucket.name}"):
        code, said = convkit("convert", uri, target, *words)
        assert code == 2, said
    assert listed(bucket) == before


def test_what_cannot_be_written_there_is_refused(bucket: Bucket, tmp_path: Path, convkit: Run) -> None:
    source, to = made("generated://llama", tmp_path, convkit)
    fetch_to = f"{bucket.scheme}://{bucket.name}/model"
    for words, problem in {
        ("convert", source, "hf://org/model", "--to", to): "outputs aren't written to hf://",
        ("convert", source, "gs://bucket", "--to", to): "is a whole bucket",
        ("convert", source, "https://host/model", "--to", to): "outputs aren't written to https://",
        ("convert", source, fetch_to, "--to", to, "--part", "1/2"): "isn't made in parts",
        ("roundtrip", source, fetch_to, "--part", "1/2"): "isn't made in parts",
        ("equivalence", source, fetch_to, "--part", "1/2"): "isn't made in parts",
        ("prove", source, fetch_to, "--to", to): "is in a store",
        ("fetch", "generated://llama", fetch_to): "is in a store",
        ("convert", source, fetch_to, "--to", to, "--format", "folders"): "isn't read in a store",
    }.items():
        code, said = convkit(*words)
        assert (code, problem in said) == (2, True), said
    assert not listed(bucket)


def killed(words: Sequence[object], proxy: Proxy, when: Callable[[Asked], bool]) -> None:
    """Start convkit as a program of its own, and kill it when a request of this kind has been seen."""
    proxy.asked.clear()
    proxy.before = lambda asked: time.sleep(0.2 if asked.part or asked.completes else 0)
    command = [sys.executable, "-m", "convkit", *(str(word) for word in words)]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ.copy())
    try:
        while not any(when(asked) for asked in list(proxy.asked)):
            assert running.poll() is None, "it ended before it was killed"
            time.sleep(0.01)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
        proxy.before = lambda asked: None
        while proxy.passing:  # what was on its way arrives
            time.sleep(0.05)


def large(bucket: Bucket, tmp_path: Path, convkit: Run, kind: str) -> tuple[Path, str, tuple[object, ...]]:
    """A source, a target for it in several large objects, or one, and the words that convert it."""
    source, to = made("generated://llama?layers=4&hidden=960&vocab=16384", tmp_path, convkit, kind)
    target = f"{bucket.scheme}://{bucket.name}/model"
    how = ("--format", "cerebras-h5") if kind == "mdl" else ("--shard-size", "100MB")
    return source, target, ("convert", source, target, "--to", to, *how)


def assert_whole(bucket: Bucket, tmp_path: Path, convkit: Run) -> None:
    """Nothing of a run is left, in the store or here, except its output, which is right."""
    assert not uploads(bucket)
    assert not any("unfinished" in name for name in listed(bucket))
    assert not list((tmp_path / "scratch").glob("convkit-*"))
    assert convkit("verify", f"{bucket.scheme}://{bucket.name}/model")[0] == 0


def sent(proxy: Proxy) -> list[str]:
    """The parts that were sent, those twice that were sent twice."""
    return [asked.part for asked in proxy.asked if asked.part]


def uploads(bucket: Bucket) -> list[str]:
    """What lies there of objects that aren't made yet."""
    if bucket.scheme == "gs":
        return sorted({*everything(bucket)} - {*listed(bucket)})
    found = bucket.store.call_s3("list_multipart_uploads", Bucket=bucket.name)
    return [each["Key"] for each in found.get("Uploads", ())]


@shards_and_mdl
def test_what_was_sent_before_a_kill_is_not_sent_again(
    kind: str, bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run
) -> None:
    source, target, words = large(bucket, tmp_path, convkit, kind)
    killed(words, proxy, lambda asked: len(sent(proxy)) > sending.THREADS + 1)
    assert uploads(bucket)
    assert not listed(bucket)
    before = sent(proxy)
    proxy.asked.clear()
    code, said = convkit(*words)
    assert (code, "resumed" in said) == (0, True), said
    after = sent(proxy)
    assert len(after) < len({*before, *after})
    assert_whole(bucket, tmp_path, convkit)
    assert convkit("roundtrip", source, target)[0] == 0


@shards_and_mdl
def test_a_kill_leaves_no_checkpoint_and_the_next_run_makes_it(
    kind: str, bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run
) -> None:
    source, target, words = large(bucket, tmp_path, convkit, kind)
    killed(words, proxy, lambda asked: asked.completes)
    assert "model.convkit.json" not in listed(bucket)
    for others in (
        ["inspect", target],
        ["digest", target],
        ["verify", target],
        ["roundtrip", source, target],
        ["equivalence", source, target],
        ["diff", target, target],
        ["plan", target, "--to", "cerebras/llama"],
        ["convert", target, tmp_path / "again.mdl", "--to", "cerebras/llama"],
        ["inspect", f"{target}/config.json" if kind == "shards" else target],
        ["fetch", target, tmp_path / "fetched"],
        ["fetch", target, tmp_path / "fetched", "--stream"],
    ):
        code, said = convkit(*others)
        assert (code, "isn't finished: " in said) == (3, True), (others, said)
    assert not list(tmp_path.glob("fetched*"))
    proxy.asked.clear()
    code, said = convkit(*words)
    assert (code, sent(proxy)) == (0, []), said
    assert_whole(bucket, tmp_path, convkit)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 takes no part below 5 MiB, except the last; two wait at a time."""
    monkeypatch.setattr(sending, "PART", 5 * MIB)
    monkeypatch.setattr(outgoing, "_WAITING", 2)


@pytest.mark.parametrize(
    ("scheme", "kind"), [("s3", one) for one in ("safetensors", "torch", "orbax-v0", "mdl")] + [("gs", "safetensors")]
)
@pytest.mark.usefixtures("small_parts")
def test_the_disk_never_holds_the_output(kind: str, bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run) -> None:
    source, to = made("generated://llama?layers=8&hidden=960&vocab=16384", tmp_path, convkit, kind)
    kind, most = {"mdl": "cerebras-h5"}.get(kind, kind), 0

    def look(asked: Asked) -> None:
        nonlocal most
        if asked.part:
            files = [file.stat(follow_symlinks=False) for file in (tmp_path / "scratch").rglob("*")]
            most = max(most, sum(512 * each.st_blocks for each in files))

    proxy.before = look
    target = f"{bucket.scheme}://{bucket.name}/model"
    code, said = convkit("convert", source, target, "--to", to, "--format", kind, "--threads", 1)
    assert code == 0, said
    whole = sum(entry["bytes"] for entry in remote_receipt(bucket)["written"])
    assert 0 < most < whole / 2


@shards_and_mdl
@pytest.mark.usefixtures("small_parts")
def test_what_passes_is_tried_again(kind: str, bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run) -> None:
    _, target, words = large(bucket, tmp_path, convkit, kind)
    writes = 0

    def fault(asked: Asked) -> str | None:
        nonlocal writes
        writes += asked.method in ("PUT", "POST")
        faults = ("slow down", "error", "reset")
        return faults[writes // 3 % 3] if asked.method in ("PUT", "POST") and writes % 3 == 0 else None

    proxy.fault = fault
    code, said = convkit(*words)
    assert code == 0, said
    proxy.fault = lambda asked: None
    assert len(proxy.done) >= 3
    assert sent(proxy)
    assert convkit("verify", target)[0] == 0
    assert not uploads(bucket)


@both
@pytest.mark.usefixtures("small_parts")
def test_a_completion_whose_answer_is_lost_is_found(bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run) -> None:
    source, to = made("generated://llama?hidden=960&vocab=8192", tmp_path, convkit)
    target = f"{bucket.scheme}://{bucket.name}/model"
    # Google refuses the next attempt, because the object is there; the emulator doesn't know this condition
    faults = ["lost"] if bucket.scheme == "s3" else ["lost", "exists"]
    proxy.fault = lambda asked: faults.pop(0) if asked.completes and faults else None
    code, said = convkit("convert", source, target, "--to", to)
    assert (code, proxy.done) == (0, ["lost"] if bucket.scheme == "s3" else ["lost", "exists"]), said
    assert not uploads(bucket)
    assert convkit("verify", target)[0] == 0


@both
@pytest.mark.usefixtures("small_parts")
def test_what_arrives_damaged_is_sent_again(
    server: servers.Server, bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run
) -> None:
    if bucket.scheme == "s3" and "stand-in" in server.name:
        pytest.skip("moto's stand-in doesn't compare what arrived with its MD5")
    source, to = made("generated://llama?hidden=960&vocab=8192", tmp_path, convkit)
    target = f"{bucket.scheme}://{bucket.name}/model"
    proxy.fault = lambda asked: "damage" if (asked.part or "").endswith(" 2") and len(proxy.done) < 2 else None
    code, said = convkit("convert", source, target, "--to", to)
    assert (code, proxy.done) == (0, ["damage", "damage"]), said
    assert convkit("verify", target)[0] == 0


@pytest.mark.parametrize(
    ("scheme", "fault"),
    [("s3", "slow down"), ("s3", "reset"), ("s3", "expired"), ("gs", "slow down"), ("gs", "reset")],
)
@pytest.mark.usefixtures("small_parts")
def test_what_lasts_ends_in_one_line(fault: str, bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run) -> None:
    source, to = made("generated://llama?hidden=960&vocab=8192", tmp_path, convkit)
    target = f"{bucket.scheme}://{bucket.name}/model"
    proxy.fault = lambda asked: fault if (asked.part or "").endswith(" 2") else None
    code, said = convkit("convert", source, target, "--to", to)
    assert code == 3, said
    errors = [line for line in said.splitlines() if line.startswith("convkit: ")]
    assert len(errors) == 1, said
    assert errors[0].startswith(f"convkit: {target}/model.safetensors: "), errors
    assert "gave up after 6 attempts; try again later" in errors[0]
    proxy.fault = lambda asked: None
    assert uploads(bucket)
    taken = {part for part in sent(proxy) if not part.endswith(" 2")}
    assert not listed(bucket)
    proxy.asked.clear()
    code, said = convkit("convert", source, target, "--to", to)
    assert (code, "resumed" in said) == (0, True), said
    assert taken and sent(proxy)
    assert not taken.intersection(sent(proxy))
    assert convkit("verify", target)[0] == 0


@pytest.mark.usefixtures("small_parts")
def test_credentials_that_expire_are_looked_up_again(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convkit: Run
) -> None:
    source, to = made("generated://llama?hidden=960&vocab=8192", tmp_path, convkit)
    target = f"{bucket.scheme}://{bucket.name}/model"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    file.write_text(f"[default]\naws_access_key_id={servers.KEY}\naws_secret_access_key={servers.SECRET}\n")
    refused = 0

    def fault(asked: Asked) -> str | None:
        nonlocal refused
        refused += bool(asked.part)
        return "expired" if asked.part and refused in (2, 3) else None

    proxy.fault = fault
    code, said = convkit("convert", source, target, "--to", to)
    assert (code, proxy.done) == (0, ["expired", "expired"]), said
    assert convkit("verify", target)[0] == 0


@both
def test_two_runs_that_write_the_same_target_are_noticed(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, convkit: Run
) -> None:
    source, to = made("generated://llama", tmp_path, convkit)
    target = f"{bucket.scheme}://{bucket.name}/model"

    def another(asked: Asked) -> None:
        if asked.completes and asked.key.endswith("/model.safetensors"):
            bucket.store.pipe_file(f"{bucket.name}/model.convkit-unfinished", b"of another run")

    proxy.before = another
    code, said = convkit("convert", source, target, "--to", to)
    assert (code, "something else writes the target, too" in said) == (3, True), said
    assert "model.convkit.json" not in listed(bucket)
