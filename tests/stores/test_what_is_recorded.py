"""A source that stays in its store is named by its record, in a campaign and to every command; and by ``prove``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Bucket, Run, receipt

from convkit.fetch import fetch


@pytest.fixture
def uri(bucket: Bucket, tmp_path: Path) -> str:
    fetch("generated://llama", tmp_path / "here")
    return bucket.put(tmp_path / "here")


def test_a_record_names_the_source(uri: str, tmp_path: Path, convkit: Run) -> None:
    code, said = convkit("fetch", uri, tmp_path / "m", "--stream")
    assert (code, "3 objects" in said) == (0, True), said
    assert [path.name for path in tmp_path.glob("m*")] == ["m.fetch.json"]
    record = json.loads((tmp_path / "m.fetch.json").read_text())
    assert (record["schema"], record["uri"]) == ("convkit-stream/1", uri)
    assert all(file["version"].startswith('ETag "') for file in record["files"])
    assert convkit("convert", tmp_path / "m.fetch.json", tmp_path / "out.mdl", "--to", "cerebras/llama")[0] == 0
    assert receipt(tmp_path / "out.mdl")["source"]["path"] == uri


def test_a_record_of_what_has_changed_is_refused(uri: str, bucket: Bucket, tmp_path: Path, convkit: Run) -> None:
    assert convkit("fetch", uri, tmp_path / "m", "--stream")[0] == 0
    bucket.store.pipe_file(f"{uri.removeprefix('s3://')}/config.json", b"{}")
    code, said = convkit("inspect", tmp_path / "m.fetch.json")
    assert (code, f"{uri}/config.json: changed since it was recorded" in said) == (3, True), said


def test_the_row_of_a_table_says_it(uri: str, tmp_path: Path, convkit: Run) -> None:
    table = tmp_path / "checkpoints.tsv"
    table.write_text(f"id\tsource\tto\tfetch\na\t{uri}\tcerebras/llama\tstream\n")
    code, said = convkit("fetch", table, tmp_path / "m", "--row", "a", "--in-place", "--overwrite", "--json")
    assert code == 0, said
    assert json.loads(said)["schema"] == "convkit-stream/1"


def test_secrets_are_never_recorded(tmp_path: Path, convkit: Run) -> None:
    code, said = convkit("fetch", "s3://me:hunter22@bucket/model", tmp_path / "m", "--stream")
    assert code == 2
    assert "hunter22" not in said
    assert not list(tmp_path.iterdir())


def test_prove_reads_it_in_its_store(uri: str, tmp_path: Path, convkit: Run) -> None:
    code, said = convkit(
        "prove", uri, tmp_path / "out.mdl", "--to", "cerebras/llama", "--fetch", "stream", "--probe-length", "16"
    )
    assert code == 0, said
    assert not (tmp_path / "out.mdl.source").exists()
    code, said = convkit(
        "prove", uri, tmp_path / "out.mdl", "--to", "cerebras/llama", "--fetch", "stream", "--probe-length", "16"
    )
    assert (code, "is there, and as it would be made now" in said) == (0, True), said
