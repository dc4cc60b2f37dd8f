"""Packages that bring formats, oracles and families which can't be used: one line says why, where they are meant."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.formats import detect_format, get_format
from convkit.generate import generate, get_family
from convkit.mappings import look_again
from convkit.oracles import get_oracle, layouts
from convkit.oracles.frameworks import framework_of

Install = Callable[[str, str, str], None]

FORMAT = """
from convkit.checkpoint import Format

class Beads(Format):
    name, folder, summary = "beads", False, "beads"
    def detect(self, path): {detect}
    def open(self, path): raise NotImplementedError
    def create(self, path, leaves, options, *, resume=False): raise NotImplementedError

class Old(Format):
    name, folder, summary = "old", False, "of an older convkit"
    def detect(self, path): return None

class Silent(Beads):
    summary = property()
    name = "silent"

FORMAT = Beads()
"""
ORACLE = """
from convkit.oracles.oracle import Oracle
from convkit.oracles.hub.decoder import HubDecoder

class Own(HubDecoder):
    layout = "beads/model"

class Half(Oracle):
    layout = "beads/model"
"""
FAMILY = """
from dataclasses import dataclass
from convkit.generate import Generator

class Plain(Generator):
    def write(self, folder): pass

RACK = 3

@dataclass(frozen=True, kw_only=True)
class Half(Generator):
    beads: int = 3

@dataclass(frozen=True, kw_only=True)
class Odd(Half):
    rack: list = ()
    def write(self, folder): pass
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package of one module with these entry points."""
    site, before = tmp_path / "site", set(sys.modules)
    monkeypatch.syspath_prepend(str(site))

    def installed(name: str, entries: str, text: str) -> None:
        metadata = site / f"{name}-1.2.dist-info"
        metadata.mkdir(parents=True)
        (site / f"{name}.py").write_text(text)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (metadata / "entry_points.txt").write_text(entries)
        look_again()

    yield installed
    for name in set(sys.modules) - before:
        if name.startswith("abacus"):
            del sys.modules[name]
    look_again()


def entry(group: str, name: str, value: str) -> str:
    return f"[convkit.{group}]\n{name} = {value}\n"


@pytest.mark.parametrize(
    "case",
    [
        ("beads", "abacus:NOTHING", "", "AttributeError: module 'abacus' has no attribute 'NOTHING'"),
        ("beads", "abacus:FORMAT", "import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("beads", "abacus:FORMAT", "raise SystemExit(3)", "SystemExit: 3"),
        ("beads", "abacus:Beads", "", "not an instance of convkit.checkpoint.Format"),
        ("beads", "abacus:OLD", "OLD = Old()", "TypeError: Can't instantiate abstract class Old"),
        ("silent", "abacus:SILENT", "SILENT = Silent()", "it has no summary, as formats of this convkit have"),
        ("rods", "abacus:FORMAT", "", "it calls itself beads"),
    ],
)
def test_a_format_that_can_not_be_used(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: tuple[str, str, str, str]
) -> None:
    name, value, more, why = case
    install("abacus", entry("formats", name, value), FORMAT.format(detect="return None") + more)
    with pytest.raises(ConvkitError, match=f"^format {name} of abacus 1.2 can't be used: ") as refused:
        get_format(name)
    assert why in str(refused.value) and f"entry point {name} = {value} in convkit.formats" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    save_file({"w": np.zeros(2)}, tmp_path / "model.bin")
    assert detect_format(tmp_path / "model.bin")[0].name == "safetensors", "what doesn't need it isn't disturbed"
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ConvkitError, match=r"isn't a checkpoint of a known format.*of abacus 1.2 can't be used"):
        detect_format(tmp_path / "notes.txt")
    assert main(["list", "formats"]) == 0
    shown = capsys.readouterr()
    assert "safetensors" in shown.out and name not in shown.out and why in shown.err
    assert main(["list", "packages"]) == 0
    shown = capsys.readouterr()
    assert f"abacus 1.2  format {name}  {value}" in shown.out and why in shown.err


def test_a_format_that_fails_at_a_file_of_others_is_passed_over(install: Install, tmp_path: Path) -> None:
    install("abacus", entry("formats", "beads", "abacus:FORMAT"), FORMAT.format(detect="return path.rods"))
    save_file({"w": np.zeros(2)}, tmp_path / "model.safetensors")
    assert detect_format(tmp_path)[0].name == "safetensors"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConvkitError, match=r"is empty"):
        detect_format(tmp_path / "empty")


def test_the_names_of_convkit_are_its_own(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    own = get_format("torch"), get_oracle("hf/gpt2"), get_family("llama")
    entries = [("formats", "torch"), ("oracles", "hf/gpt2"), ("generate", "llama")]
    install("abacus", "".join(entry(group, name, "abacus:X") for group, name in entries), "X = 3")
    assert own == (get_format("torch"), get_oracle("hf/gpt2"), get_family("llama"))
    assert main(["list", "packages"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and all("of abacus 1.2 can't be used: convkit itself has one of this name" in x for x in said)


def test_two_packages_with_one_name_are_both_named(install: Install) -> None:
    install("abacus", entry("formats", "beads", "abacus:FORMAT"), FORMAT.format(detect="return None"))
    install("abacus_again", entry("formats", "beads", "abacus_again:FORMAT"), FORMAT.format(detect="return None"))
    why = "of abacus 1.2 can't be used: abacus_again 1.2 brings one of the same name"
    with pytest.raises(ConvkitError, match=why):
        get_format("beads")


@pytest.mark.parametrize(
    ("value", "more", "why"),
    [
        ("abacus:Own", "raise ImportError('no beads')", "ImportError: no beads"),
        ("abacus:FORMAT", "FORMAT = 3", "it is 3, not a subclass of convkit.oracles.oracle.Oracle"),
        ("abacus:Half", "", "it lacks __init__, start, step, wrong_configs, as oracles of this convkit have"),
        ("abacus:Own", "Own.layout = 'rods/model'", "it says that its layout is rods/model"),
    ],
)
def test_an_oracle_that_can_not_be_used(install: Install, value: str, more: str, why: str) -> None:
    install("abacus", entry("oracles", "beads/model", value), ORACLE + more)
    assert "beads/model" in layouts()
    with pytest.raises(ConvkitError, match=r"^oracle beads/model of abacus 1.2 can't be used: ") as refused:
        get_oracle("beads/model")
    assert why in str(refused.value)
    assert get_oracle("hf/gpt2") and framework_of(None, ["transformer.wte.weight"])


def test_an_oracle_shares_no_module_with_a_mapping(install: Install) -> None:
    entries = entry("oracles", "beads/model", "abacus:Own") + entry("mappings", "beads", "abacus:MAPPING")
    install("abacus", entries, ORACLE)
    with pytest.raises(ConvkitError, match=r"abacus also declares a mapping, with which an oracle shares no code"):
        get_oracle("beads/model")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Plain", "Plain wrote nothing"),
        ("Half", "family beads of abacus 1.2 can't be used: it lacks write, as families of this convkit have"),
        ("RACK", "family beads of abacus 1.2 can't be used: it is 3, not a subclass of convkit.generate.Generator"),
        ("Missing", "family beads of abacus 1.2 can't be used: AttributeError: module 'abacus' has no attribute"),
    ],
)
def test_a_family_that_can_not_be_used(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    install("abacus", entry("generate", "beads", f"abacus:{name}"), FAMILY)
    assert main(["fetch", "generated://beads", str(tmp_path / "made")]) == 3
    said = capsys.readouterr().err
    assert why in said and len(said.splitlines()) == 1
    assert main(["fetch", "generated://gpt2?layers=1", str(tmp_path / "gpt2")]) == 0


def test_an_option_of_a_family_that_nobody_could_write(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("abacus", entry("generate", "beads", "abacus:Odd"), FAMILY)
    assert main(["fetch", "generated://beads?rack=3", str(tmp_path / "made")]) == 3
    assert "rack is no number, text or choice" in capsys.readouterr().err


def test_what_nobody_installed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["list", "packages", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    generate("generated://gpt2?layers=1", tmp_path / "gpt2")
    for words, why in (
        (["plan", str(tmp_path / "gpt2"), "--to", "beads/model"], "no layout is called 'beads/model'"),
        (["inspect", str(tmp_path), "--source-format", "beads"], "no format is called 'beads'"),
        (["fetch", "generated://beads", str(tmp_path / "x")], "no family is called 'beads'"),
    ):
        assert main(words) in (2, 3)
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1 and why in said[0], words
