"""The table of claims and the config: all mistakes are found before anything runs, and named with row and column."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from campaigns import BACK, GOOD, ROOT, Campaign, claim, scripts
from test_workflow_words import read_rules

from convkit.cli import known
from convkit.report.checks import checks_asked_for
from convkit.report.table import read_rows

cells = scripts("cells")
#: a mapping of another package
THEIRS = """
from msgspec.structs import replace
from convkit.config import ConfigTable, Field
from convkit.mapping import Mapping, Verbatim
from convkit.mappings.cerebras.llama import MAPPING as OURS
LLAMA = OURS.left
RULES = (Verbatim("{rest:*}"),)
MAPPING = Mapping(LLAMA, replace(LLAMA, name="theirs/llama"), RULES, ConfigTable((Field("", "", name="config"),)))
"""
LLAMA = claim(id="llama", source="generated://llama", **{"from": "hf/llama"})


def refused(directory: Path, rows: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch, **config: Any) -> list[str]:
    """The lines of what is said of a table."""
    with pytest.raises(SystemExit) as refusal:
        read_rules(directory, rows, monkeypatch, **config)
    return str(refusal.value).splitlines()


@pytest.mark.parametrize(
    ("rows", "config", "message"),
    [
        ([GOOD, BACK | {"to": "hf/a/b"}], {}, "row 2, column to: 'hf/a/b' is not a layout such as cerebras/llama"),
        ([GOOD | {"to": "cerebra"}], {}, "row 1, column to: no layout is called 'cerebra'"),
        ([GOOD | {"from": "pax/lm", "to": "hf"}], {}, "column to: no mapping leads from pax/lm into hf"),
        ([GOOD | {"options": "--through cerebra"}], {}, "column options: no layout is called 'cerebra'"),
        ([GOOD | {"id": "a b"}], {}, "row 1, column id: 'a b' is not a name of letters, digits, ., - and _"),
        ([GOOD | {"id": "report.html"}], {}, "row 1, column id: 'report.html' is not a name of letters"),
        ([GOOD | {"sha256": "12"}], {}, "row 1, column sha256: '12' is not 64 hexadecimal digits, or empty"),
        ([GOOD | {"options": "2.9"}], {}, "row 1, column options: '2.9' is not a list of options of convkit plan"),
        ([GOOD | {"to": "cerebras/lama"}], {}, "row 1, column to: no layout is called 'cerebras/lama'"),
        ([GOOD | {"from": "hf/lama"}], {}, "row 1, column from: no layout is called 'hf/lama'"),
        ([GOOD | {"format": "zip"}], {}, "row 1, column format: no format is called 'zip'"),
        ([GOOD | {"options": "--relaese 2.9"}], {}, "row 1, column options: unrecognized arguments: --relaese 2.9"),
        ([GOOD | {"options": "--config 'a b"}], {}, 'row 1, column options: "--config \'a b": No closing quotation'),
        ([GOOD | {"source": "generated://lama"}], {}, "row 1, column source: no family is called 'lama'"),
        ([GOOD | {"source": "s4://bucket/m"}], {}, "row 1, column source: no driver fetches the scheme 's4'"),
        ([GOOD | {"to": "fix-checkpoint-spek", "options": "--copy-healthy"}], {}, "row 1, column to: no layout is"),
        ([GOOD | {"to": "data-iter-state"}], {}, "row 1, column options: the following arguments are required: -w"),
        (
            [GOOD | {"checks": "equivalance"}],
            {},
            "row 1, column checks: 'equivalance' names no check (known are roundtrip, equivalence; none ",
        ),
        (
            [GOOD | {"checks": "equivalence:colour=red"}],
            {},
            "row 1, column checks: 'equivalence:colour=red': equivalence takes no option colour here (allowed are ",
        ),
        (
            [GOOD | {"checks": "equivalence:probe-length=1"}],
            {},
            "column checks: 'equivalence:probe-length=1': argument --probe-length: '1' isn't a whole number from 2 on",
        ),
        (
            [GOOD | {"checks": "equivalence:faults=some"}],
            {},
            "'equivalence:faults=some': argument --faults: invalid choice: 'some' (choose from",
        ),
        ([GOOD | {"checks": "equivalence:memory=much"}], {}, "'equivalence:memory=much': 'much' isn't a size"),
        ([GOOD | {"checks": "equivalence:stages=3"}], {}, "'3' isn't the first and the last stage, as A:B"),
        ([GOOD | {"checks": "none,roundtrip"}], {}, "column checks: 'none' beside other words"),
        ([GOOD | {"checks": "roundtrip:seed=3"}], {}, "column checks: 'roundtrip:seed=3': roundtrip takes no option"),
        (
            [claim(id="fixed", source="old.mdl", to="fix-checkpoint-spec", checks="equivalence")],
            {},
            "row 1, column checks: 'equivalence' isn't a check of a repair (it takes roundtrip)",
        ),
        (
            [claim(id="orbax", source="run", to="", format="orbax-v1", checks="equivalence:faults=all")],
            {},
            "column checks: 'equivalence:faults=all': equivalence takes no option faults here (write ",
        ),
        ([GOOD, GOOD], {}, "row 2, column id: 'good' is taken by an earlier row"),
        ([BACK, GOOD], {}, "row 1, column source: 'row:good' names no earlier row"),
        ([{"id": "good", "to": "hf/llama"}], {}, "claims.tsv: column source: is missing (columns are id, source, "),
        ([{"id": "good", "source": "generated://llama"}], {}, "row 1, column to: names no layout (only formats "),
        ([GOOD | {"colour": "red"}], {}, "claims.tsv: column 'colour': isn't known (columns are id, source, sha256"),
        ([GOOD | {"Layout_to": "", "check": ""}], {}, "claims.tsv: column 'check': isn't known; did you mean checks?"),
        (
            [GOOD | {"options": "--release 2.99"}],
            {},
            "column options: release 2.99 isn't supported (releases 1.9 ... 2.10)",
        ),
        ([GOOD | {"options": "--release two"}], {}, "column options: 'two' isn't a release (write it as 2.9)"),
        (
            [claim(id="pax", source="generated://pax", to="te/pax", options="--release 2.9", **{"from": "pax/lm"})],
            {},
            "column options: --release: the layouts are the same in every release",
        ),
        (
            [GOOD | {"options": "--dtype floaty"}],
            {},
            "column options: 'floaty' isn't a floating-point dtype; did you mean",
        ),
        ([GOOD | {"options": "--size layers"}], {}, "column options: --size layers (write NAME=VALUE)"),
        ([GOOD | {"options": "--size layers=0"}], {}, "column options: --size layers=0 (a size is a number above 0)"),
        (
            [GOOD | {"options": "--shard-size large"}],
            {},
            "column options: 'large' isn't a size (write 5GB, 500MB or 2GiB)",
        ),
        ([GOOD | {"options": "--threads 4"}], {}, "column options: --threads: config.yaml gives it for all rows"),
        ([GOOD | {"options": "--config no/such.json"}], {}, "column options: --config: there is no no/such.json"),
        ([GOOD | {"source": "models/none"}], {}, "row 1, column source: there is no models/none"),
        ([GOOD | {"source": "file:///models/none"}], {}, "row 1, column source: there is no such file or folder"),
        (
            [GOOD | {"source": "~/none"}],
            {},
            "column source: there is no ~/none; ~ isn't replaced: write the whole path",
        ),
        ([LLAMA | {"to": "hf/gpt2"}], {}, "column to: there is no mapping between hf/llama and hf/gpt2"),
        ([GOOD | {"to": "cerebras/gpt2"}], {}, "column to: there is no mapping between hf/llama and cerebras/gpt2"),
        (
            [GOOD, BACK | {"to": "hf/bert"}],
            {},
            "row 2, column to: there is no mapping between cerebras/llama and hf/bert",
        ),
        (
            [GOOD | {"to": "cerebras"}, BACK | {"to": "te/t5"}],
            {},
            "row 2, column to: there is no mapping between cerebras/llama and te/t5",
        ),
        (
            [claim(id="t5", source="generated://t5x", to="te")],
            {},
            "column to: 2 mappings lead from t5x/t5 into te (say which: te/t5, te/t5-fused)",
        ),
        (
            [claim(id="orbax", source="run", to="", format="orbax-v1", options="--release 2.9")],
            {},
            "column options: --release without a layout in column to",
        ),
        (
            [GOOD | {"source": "generated://llama?layer=1"}],
            {},
            "'layer' isn't an option of llama; did you mean layers?",
        ),
        (
            [GOOD | {"source": "generated://llama?layers=one"}],
            {},
            "column source: layers can't be 'one' (it is of type int)",
        ),
        ([GOOD | {"source": "generated://llama?rope=x"}], {}, "column source: rope can't be 'x' (choices: default, "),
        ([GOOD], {"threads": "two"}, "config: threads: 'two' is not a number of threads"),
        ([GOOD], {"digest": "md5"}, "config: digest: 'md5' is not one of xxh3-128, blake3, sha256"),
        ([GOOD], {"color": 1}, "config: color: is not known"),
        ([GOOD], {"thread": 1}, "config: thread: is not known; did you mean threads?"),
        ([GOOD], {"checkpoints": "none.tsv"}, "config: checkpoints: there is no file none.tsv"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path,
    rows: list[dict[str, str]],
    config: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
):
    lines = refused(tmp_path, rows, monkeypatch, **config)
    assert [line for line in lines if message in line] == lines[-1:]
    assert all(line.startswith("convkit: ") for line in lines)
    assert len(lines) == 1 or "columns are" in lines[0]


def test_all_mistakes_are_listed_before_anything_runs(played: Campaign):
    rows = [
        GOOD,
        claim(id="second", source="models/none", sha256="12", to="cerebras/lama", options="--dtype floaty"),
        claim(id="third", source="s3://user:password@bucket/m ?sig=secret", to="hf/a/b", checks="equivalance"),
        GOOD | {"options": "--release 9.9 --config 'no $where.json'"},
    ]
    played.write([row | {"checks": row.get("checks", "")} for row in rows])
    done = played.run("--dry-run", "--quiet", "all")
    assert done.returncode == 1
    places = [line.split(": ")[2] for line in done.stderr.splitlines() if line.startswith("convkit: claims.tsv: row ")]
    assert places == [
        "row 2, column sha256",
        "row 2, column source",
        "row 2, column to",
        "row 2, column options",
        "row 3, column to",
        "row 3, column checks",
        "row 4, column id",
        "row 4, column options",
    ]
    assert "password" not in done.stderr + done.stdout


def test_what_a_table_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Only two columns, dots in ids, spaces in sources, a byte order mark, comments, empty rows, upper-case digests."""
    (tmp_path / "my models").mkdir()
    text = "\ufeff# what we have\r\nid\tsource\tsha256\tto\r\n#out\tmodels/none\r\n\t\t\t\r\n"
    text += f"llama-3.1.v2\tmy models\t{'AB' * 32}\tcerebras/llama\n"
    text += "far\ts3://bucket/my model/x\t\thf\n"
    read_rules(tmp_path, [GOOD], monkeypatch)
    (tmp_path / "other.tsv").write_text(text, newline="")
    rules = read_rules(tmp_path, [GOOD], monkeypatch, checkpoints="other.tsv")
    assert list(rules.ROWS) == ["llama-3.1.v2", "far"]
    row = rules.ROWS["llama-3.1.v2"]
    assert (row["source"], row["sha256"], row["checks"]) == ("my models", "ab" * 32, "")
    assert [row["id"] for row in read_rows("other.tsv")] == ["llama-3.1.v2", "far"]


def test_what_is_asked_for_says_what_a_checkpoint_is_if_nothing_in_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A DRAGON is a BERT by all that it holds, as for the command."""
    bert = claim(id="dragon", source="generated://bert?head=none", to="cerebras/dragon")
    back = claim(id="back", source="row:dragon", to="hf")
    rules = read_rules(tmp_path, [bert, back, back | {"id": "named", "to": "hf/dragon"}], monkeypatch)
    assert list(rules.ROWS) == ["dragon", "back", "named"]
    rules = read_rules(tmp_path, [bert | {"to": "cerebras"}, back | {"to": "hf/bert"}], monkeypatch)
    assert list(rules.ROWS) == ["dragon", "back"]
    said = refused(tmp_path, [bert | {"from": "hf/bert"}], monkeypatch)
    assert "there is no mapping between hf/bert and cerebras/dragon" in said[0]


def test_options_of_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``--shard-size`` is an option of convert, not of plan; what both take is given to both."""
    row = GOOD | {"options": "--release=2.9 --shard-size 5GB --drop 'a b' --dtype torch.BF16"}
    rules = read_rules(tmp_path, [row], monkeypatch)

    good = SimpleNamespace(id="good")
    plain = ["--to", "cerebras/llama", "--release=2.9", "--drop", "a b", "--dtype", "torch.BF16"]
    assert rules.plan_request(good) == plain
    assert rules.request(good) == [*plain[:3], "--shard-size", "5GB", *plain[3:]]


def test_a_table_of_a_proved_campaign_stays_right_without_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "results/good").mkdir(parents=True)
    record = tmp_path / "results/good/fetch.json"
    row = GOOD | {"source": "models/gone", "options": "--config gone.json"}
    record.write_text('{"schema": "convkit.error/1", "error": "no such file"}')
    assert len(refused(tmp_path, [row], monkeypatch)) == 2
    record.write_text('{"schema": "convkit.fetch/1"}')
    read_rules(tmp_path, [row], monkeypatch)


def test_layouts_of_other_packages_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "site" / "theirs-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[convkit.mappings]\ntheirs = theirs:MAPPING\n")
    (tmp_path / "site/theirs.py").write_text(THEIRS)
    row = GOOD | {"to": "theirs/llama"}
    assert "no layout is called 'theirs/llama'" in refused(tmp_path, [row], monkeypatch)[0]
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    assert list(read_rules(tmp_path, [row], monkeypatch).ROWS) == ["good"]


def test_what_is_known_is_what_the_package_has():
    assert (ROOT / "workflow/known.json").read_text(encoding="utf-8") == known.text(), "make schemas"


@pytest.mark.parametrize(
    "cell", ["", "none", " roundtrip", "equivalence:faults=all,equivalence:stages=a:b", "roundtrip,"]
)
def test_checks_are_read_as_the_report_reads_them(cell: str):
    def asked(read: Any) -> Any:
        try:
            return read(cell)
        except Exception:
            return "refused"

    assert asked(cells.asked_for) == asked(checks_asked_for)


def test_the_cells_take_every_layout_and_format():
    table = yaml.safe_load((ROOT / "workflow/schemas/checkpoints.schema.yaml").read_text())
    columns = {name: re.compile(table["properties"][name]["pattern"]) for name in ("from", "to", "format")}
    names = json.loads((ROOT / "workflow/known.json").read_text())
    refused = [name for name in names["layouts"] if not all(columns[one].search(name) for one in ("from", "to"))]
    assert refused == [] and "hf/gpt_neox" in names["layouts"]
    assert all(columns["format"].search(name) for name in names["formats"])


def test_a_table_is_checked_without_convkit(tmp_path: Path):
    """Snakemake's own process imports nothing of it."""
    Campaign(tmp_path, "").write([GOOD, BACK])
    code = """
import sys
from pathlib import Path
from types import SimpleNamespace
sys.modules["convkit"] = None
rules = Path(sys.argv[1])
modifier = SimpleNamespace(modify_path=str)
workflow = SimpleNamespace(source_path=lambda path: rules / path, modifier=modifier)
names = {"config": {"checkpoints": "claims.tsv"}, "workflow": workflow}
exec(compile((rules / "common.smk").read_text(), "common.smk", "exec"), names)
assert list(names["ROWS"]) == ["good", "back"]
assert names["config"] == names["DEFAULTS"] | {"checkpoints": "claims.tsv"}
assert names["DEFAULTS"] == names["yaml"].safe_load((rules.parents[1] / "config/config.yaml").read_text())
"""
    subprocess.run([sys.executable, "-c", code, str(ROOT / "workflow/rules")], check=True, cwd=tmp_path)
