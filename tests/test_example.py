"""The example of a package of one's own, installed as users install it: listed, proved both ways, in a campaign."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from campaigns import QUICK, ROOT, Campaign, claim

from convkit.audit.dsse import Line, read_lines
from convkit.audit.keys import generate, write_pair
from convkit.cli import main
from convkit.generate import generate as generate_model
from convkit.generate.weights import fill
from convkit.mappings import look_again
from convkit.testing.generators import check_proved
from convkit.testing.oracles import ORACLE_LAWS, OracleLaw

EXAMPLE = ROOT / "examples" / "convkit-example"
EXTENDING = ROOT / "docs" / "how-to" / "extending.md"
VERSION = "convkit-example 0.1.0"
#: what the package brings: the commands that need it, and what they say without it
WITHOUT = {
    ("fetch", "generated://acorn", "made"): "no family is called 'acorn'",
    ("plan", "model", "--to", "hf/llama"): "holds a config and no weights: config.json, model.acorn",
    ("convert", "model", "x", "--source-format", "acorn", "--to", "hf/llama"): "no format is called 'acorn'",
    ("plan", "llama", "--to", "acorn/decoder"): "no layout is called 'acorn/decoder'",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has installed the package, beside what is installed already."""
    folder = tmp_path_factory.mktemp("example")
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder / "site", source], check=True, capture_output=True, timeout=300)
    return folder / "site"


@contextmanager
def on_the_path(site: Path) -> Iterator[None]:
    """The package in the environment of every command, until it is uninstalled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, sys.path)]))
        patch.syspath_prepend(str(site))
        look_again()
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("convkit_example", "qwen_for_convkit")]:
        del sys.modules[name]
    look_again()


@pytest.fixture
def installed(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with on_the_path(site):
        yield


def listed(capsys: pytest.CaptureFixture[str], what: str) -> list[dict[str, Any]]:
    assert main(["list", what, "--json"]) == 0
    shown = capsys.readouterr()
    assert not shown.err
    found: list[dict[str, Any]] = json.loads(shown.out)
    return found


def test_what_comes_from_it_is_listed(installed: None, capsys: pytest.CaptureFixture[str]) -> None:
    brought = {row["brings"] for row in listed(capsys, "packages") if row["package"] == VERSION}
    assert brought == {"format acorn", "mapping acorn", "oracle acorn/decoder", "generated family acorn"}
    for what, name in (("formats", "acorn"), ("layouts", "acorn/decoder"), ("oracles", "acorn/decoder")):
        rows = {row.get("name", row.get("layout")): row["package"] for row in listed(capsys, what)}
        assert {name: package for name, package in rows.items() if package} == {name: VERSION}
    assert {"family": "acorn", "package": VERSION} in listed(capsys, "generated")


def test_it_is_recorded_and_without_it_each_name_is_one_line(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with on_the_path(site):
        assert main(["fetch", "generated://acorn?depth=1", "model"]) == 0
        assert main(["convert", "model", "llama", "--to", "hf/llama"]) == 0
        assert main(["roundtrip", "model", "llama"]) == 0
    receipt = json.loads((tmp_path / "llama.convkit.json").read_text())
    brought = ["mapping acorn", "format acorn"]
    assert receipt["packages"] == [{"name": "convkit-example", "version": "0.1.0", "brought": brought}]
    for words, why in WITHOUT.items():
        capsys.readouterr()
        assert main([*words]) in (2, 3)
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 and why in said


def test_made_again_by_an_auditor_it_has_to_be_there(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pair(generate("p256"), tmp_path / "key.pem", None)
    again = ["audit", "rederive", "model", "llama", "--public-key", "key.pub.pem"]
    with on_the_path(site):
        assert main(["fetch", "generated://acorn?depth=1", "model"]) == 0
        assert main(["convert", "model", "llama", "--to", "hf/llama"]) == 0
        assert main(["audit", "sign", "llama", "--key", "key.pem"]) == 0
        assert main(again) == 0
        assert "convkit-example" not in capsys.readouterr().err
    statement = next(line.statement for line in read_lines(Path("llama.intoto.jsonl")) if isinstance(line, Line))
    assert statement["predicate"]["runDetails"]["builder"]["version"]["convkit-example"] == "0.1.0"
    assert main(again) == 3
    said = (
        "was made with the code of convkit-example 0.1.0, which isn't installed (pip install 'convkit-example==0.1.0')"
    )
    assert said in capsys.readouterr().err
    later = shutil.copytree(site, tmp_path / "later")
    metadata = next(later.glob("*.dist-info")) / "METADATA"
    metadata.write_text(metadata.read_text().replace("\nVersion: 0.1.0\n", "\nVersion: 0.1.1\n"))
    with on_the_path(later):
        assert main(again) == 0
        assert "llama: was made with convkit-example 0.1.0, here is 0.1.1" in capsys.readouterr().err
        rules = later / "convkit_example" / "mapping.py"
        # of another length, so that Python sees within a second that it was changed
        rules.write_text(rules.read_text().replace('"part f d -> (part f) d"', '"part f d -> (f part) d"') + "\n")
    with on_the_path(later):
        assert main(again) == 1
        assert "was made with convkit-example 0.1.0, here is 0.1.1" in capsys.readouterr().out


def blocks(document: Path, language: str) -> list[str]:
    """The document's blocks of code in a language."""
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_documents_quotes_are_from_the_example() -> None:
    quoted = [block.split("\n", 1) for block in blocks(EXTENDING, "python") if block.startswith("# ")]
    sources = {path.name: path.read_text(encoding="utf-8") for path in EXAMPLE.rglob("*.py")}
    assert len(quoted) > 5
    for place, text in quoted:
        assert text in sources[place.rpartition("/")[2]], text
    for block in blocks(EXTENDING, "toml"):
        assert block in (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("document", [EXTENDING, EXAMPLE / "README.md"], ids=lambda path: path.name)
def test_the_documents_commands_run(document: Path, installed: None) -> None:
    (block,) = blocks(document, "sh")
    install, *commands = block.splitlines()
    assert install == "pip install ./examples/convkit-example" and (ROOT / install.split()[2] / "src").is_dir()
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "convkit" and main(words) == 0, command


@pytest.mark.slow
@pytest.mark.parametrize("law", ORACLE_LAWS, ids=lambda law: law.__name__)
def test_another_family_of_transformers_is_a_row(law: OracleLaw, tmp_path: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    (row,) = (block for block in blocks(EXTENDING, "python") if "class Qwen2" in block)
    metadata = tmp_path / "site" / "qwen_for_convkit-1.dist-info"
    metadata.mkdir(parents=True)
    (tmp_path / "site" / "qwen_for_convkit.py").write_text(row)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: qwen-for-convkit\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[convkit.oracles]\nhf/qwen2 = qwen_for_convkit:Qwen2\n")
    sizes = {"hidden_size": 60, "intermediate_size": 84, "num_hidden_layers": 2, "num_attention_heads": 6}
    config = Qwen2Config(**sizes, num_key_value_heads=2, vocab_size=211, max_position_embeddings=320, rope_theta=5e3)
    model = Qwen2ForCausalLM(config)
    fill(model, seed=0)
    model.save_pretrained(tmp_path / "model")
    with on_the_path(tmp_path / "site"):
        law("hf/qwen2", tmp_path / "model", tmp_path)


#: law: what is wrong in the example then, as another text in one of its modules
WRONG = {
    "shares_no_code_with_mappings": ("oracle", "\n_NEEDED = ", "\nimport convkit_example.mapping\n_NEEDED = "),
    "gives_every_tensor_a_role": ("oracle", "        self.refuse(", "        print("),
    "runs_a_stage_at_a_time": ("oracle", 'given["ids"]]', 'given["ids"]] + 0 * self.weights["norm_final.weight"]'),
    "reads_no_more_than_a_stage_needs": ("oracle", "self.refuse(", 'self.part("head.lm.weight"), self.refuse('),
    "depends_on_every_role": ("oracle", 'linear("head.lm"', 'linear("embedding"'),
    "shows_faults_where_they_are": ("oracle", '{"activation": "gelu"}', '{"activation": "silu"}'),
    "equals_itself_with_no_fault_missed": ("oracle", '"head.lm", x)', '"head.lm", x) * 0'),
}  # fmt: skip
#: what the two sides' models show, and no round trip
WRONG_MEANING = {
    "another rotary in the oracle": ("oracle", "x[..., ::2], x[..., 1::2]", "x.chunk(2, -1)"),
    "gate and up swapped in the mapping": ("mapping", "{part:gate|up}", "{part:up|gate}"),
    "rotary halves kept in the mapping": ("mapping", "(h r two + g r two + g s)", "(h two r + g two r + g s)"),
}


@contextmanager
def with_a_fault(site: Path, folder: Path, fault: tuple[str, str, str]) -> Iterator[None]:
    """The package with a text of one of its modules replaced."""
    module, before, after = fault
    other = shutil.copytree(site, folder / "site", ignore=shutil.ignore_patterns("__pycache__"))
    file = other / "convkit_example" / f"{module}.py"
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1
    file.write_text(text.replace(before, after), encoding="utf-8")
    with on_the_path(other):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("law", ORACLE_LAWS, ids=lambda law: law.__name__)
def test_each_law_of_oracles_is_broken_by_a_wrong_one(law: OracleLaw, site: Path, tmp_path: Path) -> None:
    with with_a_fault(site, tmp_path, WRONG[law.__name__]):
        generate_model("generated://acorn?depth=2", tmp_path / "model")
        with pytest.raises(AssertionError):
            law("acorn/decoder", tmp_path / "model", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG_MEANING)
def test_a_wrong_meaning_is_seen_by_the_models(wrong: str, site: Path, tmp_path: Path) -> None:
    with with_a_fault(site, tmp_path, WRONG_MEANING[wrong]), pytest.raises(AssertionError, match=r"^equivalence of"):
        check_proved("generated://acorn?depth=1", "hf/llama", tmp_path)


@pytest.mark.slow
def test_its_own_tests_pass(installed: None, tmp_path: Path) -> None:
    tests = shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tests]
    done = subprocess.run(pytest_, cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout and "skipped" not in done.stdout


@pytest.mark.slow
def test_a_campaign_proves_it_there_and_back(installed: None, tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, f"{Path(sys.executable).parent}:{os.environ['PATH']}", "snakemake", *QUICK)
    there = claim(id="there", source="generated://acorn?depth=2&seed=4", to="hf/llama")
    back = claim(id="back", source="row:there", to="acorn/decoder")
    tied = claim(id="tied", source="generated://acorn?depth=1&tied=true&dtype=bfloat16", to="hf/llama")
    campaign.write([there, back, tied])
    done = campaign.run()
    assert done.returncode == 0, done.stderr
    assert campaign.verdicts() == dict.fromkeys(("there", "back", "tied"), "yes")
    for row in ("there", "back", "tied"):
        verdict = campaign.document(f"{row}/equivalence.json")
        assert verdict["state"] == "yes" and all(fault["caught"] for fault in verdict["faults"])
        assert {package["name"] for package in verdict["packages"]} == {"convkit-example"}
        assert "oracle acorn/decoder" in verdict["packages"][0]["brought"]
        assert {fault["name"] for fault in verdict["faults"]} >= {
            "wrong rotary",
            "swap gate and up",
            "wrong rotary base",
        }
    assert VERSION in (tmp_path / "results" / "report.html").read_text()
