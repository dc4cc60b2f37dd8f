"""Words of the table and of the config: carried through exactly, or refused in one line; never run, never recorded."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sys
from base64 import b64encode
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from campaigns import COLUMNS, CONFIG, GOOD, REFUSED, ROOT, Campaign, claim
from fetch.file_server import serving
from snakemake.utils import format as formatted

QUOTE = '"'
RULES = ROOT / "workflow" / "rules"
#: what a shell, Snakemake's formatting, or a terminal would do something with; each would leave a file ``canary``
HOSTILE = (
    "$(touch canary)",
    "`touch canary`",
    "; touch canary #",
    "&& touch canary ||",
    "x > canary",
    "'; touch canary; '",
    '"; touch canary; "',
    "x\ntouch canary",
    "x\r\ttouch canary",
    "x\n",
    "x\x00y",
    "$HOME/*/?[a-z]~",
    "{wildcards.id} {x} {{y}} {",
    "<results>/<logs>",
    "-rf",
    "--help",
    "ﬀ ü\u2028🙂",
    "../../x",
)


def read_rules(directory: Path, rows: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch, **config: Any) -> Any:
    """What the rules share, for this table and config: its names, as Snakemake defines them."""
    Campaign(directory, "").write(rows, **config)
    monkeypatch.chdir(directory)
    monkeypatch.setenv("PATH", os.environ["PATH"])
    modifier = SimpleNamespace(modify_path=lambda path: path)
    workflow = SimpleNamespace(source_path=lambda path: RULES / path, modifier=modifier)
    names = {"config": CONFIG | config, "workflow": workflow}
    exec(compile((RULES / "common.smk").read_text(), "common.smk", "exec"), names)
    return SimpleNamespace(**names)


def make(path: str) -> None:
    """Put a file there, where the system knows such a path."""
    with contextlib.suppress(OSError, ValueError):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()


def in_a_shell(words: list[str]) -> list[str]:
    """Words of a rule after Snakemake's formatting and a shell's reading."""
    return shlex.split(formatted("{words:q}", words=words))


def words_of(cell: str) -> list[str]:
    """The words of a cell, if it has any."""
    try:
        return shlex.split(cell)
    except ValueError:
        return []


def cells(column: str) -> list[str]:
    """Hostile cells of a column: by themselves, and where this column takes any text."""
    open_ends = {
        "source": ["models/x.{}", "https://u:p@h/{}"],
        "options": ["--config {}", "--drop={}"],
        "checks": ["equivalence:stages=a:{}"],
        "target": ["out/x {}.mdl"],
    }
    ends = open_ends.get(column, [])
    return [
        *HOSTILE,
        *(end.replace("{}", shlex.quote(text) if column == "options" else text) for end in ends for text in HOSTILE),
    ]


@pytest.mark.parametrize("column", [*COLUMNS, "checks", "target", "fetch", "keep"])
def test_a_cell_is_carried_through_or_refused_in_one_line(tmp_path: Path, column: str, monkeypatch: pytest.MonkeyPatch):
    carried = 0
    for cell in cells(column):
        row = GOOD | {"checks": ""} | {column: cell}
        quoted = {name: f'"{text.replace(QUOTE, QUOTE * 2)}"' for name, text in row.items()}
        monkeypatch.chdir(tmp_path)
        named = [cell] if column == "source" else words_of(cell)[1:2] if cell.startswith("--config") else []
        named = [path for path in named if not path.startswith(("/", "../"))]
        for path in named:
            make(path)
        try:
            rules = read_rules(tmp_path, [quoted], monkeypatch)
        except SystemExit as refusal:
            assert re.fullmatch(r"(convkit: [^\n\r]+\n?)+", str(refusal)), cell
            assert "u:p@" not in str(refusal)
            continue
        carried += 1
        good = SimpleNamespace(id="good")
        assert rules.ROWS["good"] == {"target": "", "fetch": "", "keep": ""} | row
        assert in_a_shell([rules.target(good)]) == [row.get("target") or "results/good/target.mdl"]
        words = shlex.split(row["options"])
        assert in_a_shell(rules.request(good)) == ["--to", "cerebras/llama", *words]
        assert in_a_shell(rules.opening(good)) == ([f"--config={words[1]}"] if words[:1] == ["--config"] else [])
        stages = [f"--stages={cell.partition('=')[2]}"] if column == "checks" else []
        assert in_a_shell(rules.equivalence_options(good))[1:] == stages
        assert re.fullmatch(r"results/good/source(\.\w+)?", rules.fetched(good), re.ASCII), cell
        assert re.fullmatch("[0-9a-f]{64}", rules.claimed_source(good))
    assert (carried > 9) == (column in ("source", "options", "checks", "target"))


@pytest.mark.parametrize("key", CONFIG)
def test_a_setting_is_carried_through_or_refused_in_one_line(tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch):
    carried = set()
    for value in (*HOSTILE, 0, -1, 2.0, 2.5, True, None, [], {}, ["$(touch canary)"], "a//b", ""):
        if key == "checkpoints" and isinstance(value, str) and value and "/" not in value and "\0" not in value:
            (tmp_path / value).write_text("\t".join(GOOD) + "\n" + "\t".join(GOOD.values()) + "\n")
        try:
            shared = read_rules(tmp_path, [GOOD], monkeypatch, **{key: value})
            assert type(shared.config[key]) is not float
            carried.add(value)
        except SystemExit as refusal:
            assert re.fullmatch(r"convkit: config[^\n\r]+", str(refusal)), value
    plain = {"results": {"../../x", "a//b"}, "threads": {2.0}, "probe_length": {2.0}}
    assert carried == plain.get(key, set()) or key == "checkpoints"
    assert [in_a_shell([value])[0] for value in carried] == list(map(str, carried)) or key != "checkpoints"


def test_every_word_of_a_rule_is_quoted():
    """In the line for the shell; apart from those of its own."""
    rules = list(RULES.glob("*.smk"))
    lines = [line for rule in rules for line in re.findall(r"\n    shell:\n((?: {8}.*\n)+)", rule.read_text())]
    assert len(lines) == sum(rule.read_text().count("shell:") for rule in rules)
    assert [word for line in lines for word in re.findall(r"\{[^{}]*\}", line) if not word.endswith(":q}")] == []
    ways_round = re.compile(r"^ *(run:|shell\()|shell\.(prefix|suffix)", re.MULTILINE)
    assert not [rule for rule in (*rules, ROOT / "workflow/Snakefile") if ways_round.search(rule.read_text())]


def test_the_interpreter_may_lie_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = "/opt/it's $(touch canary) {x}"
    monkeypatch.setattr(sys, "executable", f"{folder}/python")
    read_rules(tmp_path, [GOOD], monkeypatch)
    assert os.environ["PATH"].split(os.pathsep)[-1] == folder


def test_nothing_is_run_and_nothing_is_changed_on_the_way(played: Campaign, monkeypatch: pytest.MonkeyPatch):
    """By a whole campaign, whose table's path and cells hold what a shell and Snakemake would do something with."""
    text = "$(touch canary)`touch canary`;touch canary;{wildcards.id}{x}'<results>\"*\\"
    table = "it's $(touch canary) ;&& `touch canary` *.tsv"
    row = GOOD | {
        "source": "models/$(touch${IFS}canary).{x};touch${IFS}canary&&`x`",
        "options": shlex.join(["--config", text, "--drop", "{x} " + text, f"--drop=--{text}"]),
        "checks": f"equivalence:stages={text}:",
    }
    played.write([{name: f'"{cell.replace(QUOTE, QUOTE * 2)}"' for name, cell in row.items()}], checkpoints=table)
    (played.directory / "claims.tsv").rename(played.directory / table)
    monkeypatch.chdir(played.directory)
    make(row["source"])
    make(text)
    done = played.run("--printshellcmds")
    assert done.returncode == 1, "the round trip was left out"
    calls = [json.loads(line) for line in (played.directory / "words.jsonl").read_text().splitlines()]
    stages = {name: words for name, *words in reversed(calls)}  # of two reports the first
    asked = ["--to", "cerebras/llama", "--config", text, "--drop", "{x} " + text, f"--drop=--{text}"]
    assert stages["fetch"] == [table, "results/good/source", "--row", "good", "--in-place", "--overwrite", "--json"]
    assert stages["inspect"] == ["results/good/fetch.json", f"--config={text}", "--json"]
    assert stages["plan"] == ["results/good/fetch.json", *asked, "--json"]
    assert stages["convert"][:9] == ["results/good/fetch.json", "results/good/target.mdl", *asked]
    assert f"--stages={text}:" in stages["equivalence"]
    assert stages["report"][:3] == ["results", "--table", table]
    assert not list(played.directory.rglob("canary*"))


#: one in the place of a user, one of a password, and two of values in a query
SECRETS = ("s3cret-user", "s3cret/pass word", "s3cret-signature", "s3cret+token=")
WITH_SECRETS = "http://{0}:{1}@{host}/{path}?sig={2}&X-Amz-Token={3}&seed=1"


def test_credentials_are_nowhere(played: Campaign):
    """Neither in what a campaign writes, Snakemake's records included, nor in what it prints."""
    quoted = [quote(secret, safe="") for secret in SECRETS]
    forms = {*SECRETS, *quoted}
    with serving({"/m.safetensors": b"weights"}) as server:
        host = server.url.removeprefix("http://")
        good = WITH_SECRETS.format(*quoted, host=host, path="m.safetensors")
        absent = good.replace("m.safetensors", "none")
        changed = good.replace(quoted[3], "s3cret-new")
        rows = [claim(id="good", source=good), claim(id="absent", source=absent), REFUSED]
        rows.append(claim(id="stray", source=f"s3 {absent}"))
        played.write(rows[:3])
        runs = [played.run("--printshellcmds", "--verbose")]
        played.write([claim(id="good", source=changed), *rows[1:3]])
        runs.append(played.run("--dry-run", "--printshellcmds"))
        played.write(rows)
        runs.append(played.run())
    assert [run.returncode for run in runs] == [1, 0, 1]
    assert "good: fetch" in runs[1].stdout + runs[1].stderr
    assert "row 4, column source: " in runs[2].stderr
    asked = {headers.get("Authorization", "") for _, headers in server.requests}
    assert asked == {f"Basic {b64encode(':'.join(SECRETS[:2]).encode()).decode()}"}
    for file in played.directory.rglob("*"):
        if file.is_file() and file.name != "claims.tsv":
            content = file.read_bytes()
            assert not [form for form in forms if form.encode() in content], file
    for run in runs:
        assert not [form for form in {*forms, "s3cret-new"} if form in run.stdout + run.stderr]
    summary = played.document("summary.json")
    shown = f"http://{host}/m.safetensors?sig=***&X-Amz-Token=***&seed=***"
    assert summary["rows"][0]["source"] == shown
    assert shown in (played.directory / "results/checkpoints.tsv").read_text()
    assert summary["rows"][1]["problem"].startswith("fetch: convkit: http://")
