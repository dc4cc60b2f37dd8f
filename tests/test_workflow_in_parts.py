"""Campaigns that convert rows in parts."""

from __future__ import annotations

import json
from pathlib import Path

from campaigns import GOOD, Campaign, claim

PARTS = [f"good: part {number} of 3" for number in (1, 2, 3)]
SHARES = [f"good: {check}, part {number} of 3" for number in (1, 2, 3) for check in ("round trip", "equivalence")]
JOINED = {"good: round trip, of all parts", "good: equivalence, of all parts"}


def test_a_row_in_parts_is_proved_as_any_other_and_is_the_same(real: Campaign):
    whole = claim(id="whole", source="generated://llama?kv_heads=2&tied=false")
    real.write([GOOD, whole], parts={"into": 3, "rows": ["good"]})
    planned = real.jobs("--dry-run", "results/good/convert.json")
    assert planned >= {"good: begin 3 parts", *PARTS, "good: check the parts, and publish"}
    assert "good: convert" not in planned
    assert real.jobs("--dry-run") >= {*PARTS, *SHARES, *JOINED, "whole: round trip", "whole: equivalence"}
    done = real.run("--cores", "2")
    assert done.returncode == 0, done.stderr
    assert real.verdicts() == {"good": "yes", "whole": "yes"}
    trips = [real.document(f"{id}/roundtrip.json") for id in ("good", "whole")]
    assert trips[0]["measured"] == trips[1]["measured"]
    models = [real.document(f"{id}/equivalence.json") for id in ("good", "whole")]
    assert models[0]["measured"] == models[1]["measured"] and models[0]["sensitivity"] == models[1]["sensitivity"]
    assert [part["part"] for part in models[0]["details"]["in_parts"]] == [1, 2, 3]
    one, parts = (real.directory / "results" / id / "target.mdl" for id in ("whole", "good"))
    assert one.read_bytes() == parts.read_bytes()
    assert [part["part"] for part in real.document("good/convert.json")["in_parts"]["made"]] == [1, 2, 3]
    assert not real.jobs("--cores", "2")

    parts.write_bytes(one.read_bytes()[:-8])
    assert real.jobs("--cores", "2") >= {"good: begin 3 parts", *PARTS, "good: check the parts, and publish"}
    assert one.read_bytes() == parts.read_bytes()


def test_a_part_that_fails_fails_its_row_alone_and_is_made_again(real: Campaign):
    whole = claim(id="whole", source="generated://llama?kv_heads=2&tied=false")
    real.write([GOOD, whole], parts={"into": 2, "rows": ["good"]})
    assert real.run("--cores", "2", "results/good/parts/1.json").returncode == 0
    (shared,) = (real.directory / "results/good").glob(".target.mdl.convkit-parts")
    (agreed := shared / "parts.json").write_text(agreed.read_text().replace('"commit": "', '"commit": "0'))
    assert real.run("--cores", "2").returncode == 1
    assert real.verdicts() == {"good": "stopped", "whole": "yes"}
    assert "its parts were begun by convkit" in real.document("good/convert.json")["error"]
    assert real.run("--cores", "2").returncode == 0
    assert real.verdicts() == {"good": "yes", "whole": "yes"}


def test_large_sources_on_this_machine_are_converted_in_parts(played: Campaign, tmp_path: Path):
    for name, length in (("large", 2000), ("small", 20)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(bytes(length))
    rows = [claim(id=name, source=str(tmp_path / name)) for name in ("large", "small")]
    rows.append(claim(id="migrated", source=str(tmp_path / "large"), to="", format="orbax-v1"))
    played.write(rows, parts={"into": 2, "above": "1kB"})
    jobs = played.jobs("--dry-run")
    assert {job for job in jobs if ("part" in job or "convert" in job) and "trip" not in job and "equi" not in job} == {
        *("large: begin 2 parts", "large: part 1 of 2", "large: part 2 of 2", "large: check the parts, and publish"),
        *("small: convert", "migrated: convert"),
    }


def test_what_the_config_says_of_parts_is_checked(played: Campaign):
    for parts, said in (
        ({"into": 1, "rows": ["good"]}, "is not a number of parts (into), from 2 on"),
        ({"into": 2}, "is not a number of parts (into), from 2 on"),
        ({"into": 2, "above": "much"}, "'much' is not a number of parts (into), from 2 on"),
        ({"into": 2, "rows": ["god"]}, "config: parts: god is no row that converts; did you mean good?"),
    ):
        played.write([GOOD], parts=parts)
        done = played.run("--dry-run")
        assert done.returncode == 1
        assert said in done.stderr, json.dumps(parts)
