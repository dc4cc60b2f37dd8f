"""What is claimed of how a target was made, and how what is made again differs from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convkit.audit.bundle import read_bundle
from convkit.audit.dsse import Line, read_lines
from convkit.audit.evidence import output_set
from convkit.audit.files import digested
from convkit.audit.findings import Problem
from convkit.audit.inside import object_in, objects_in, sha256_in
from convkit.audit.keys import PublicKey
from convkit.audit.policy import Policy
from convkit.audit.statements import KINDS, PROVENANCE
from convkit.checkpoint.digests import digest_value
from convkit.errors import ConvkitError
from convkit.files.receipt import side_of
from convkit.files.written import called_today
from convkit.plugins import version_of

#: most leaves and files that are named one by one
_NAMED = 20


@dataclass(frozen=True)
class Claimed:
    """The provenance beside a target, and what is wrong with its signatures, if keys were given."""

    provenance: dict[str, Any] | None
    problems: tuple[Problem, ...] = ()

    @property
    def plan_digest(self) -> str:
        """The digest of the plan, ``sha256:`` and hexadecimal digits."""
        return str(object_in(self._definition, "internalParameters").get("planDigest"))

    @property
    def source_files(self) -> dict[str, str]:
        """The sha256 of each file of the source, by its path in it; empty where they weren't known."""
        found = {str(one.get("name")): sha256_in(one) for one in objects_in(self._definition, "resolvedDependencies")}
        return {name.partition("/")[2]: digest for name, digest in found.items() if name.startswith("source/")}

    @property
    def _definition(self) -> Mapping[str, Any]:
        return object_in(self.provenance, "predicate", "buildDefinition")


def claimed_in(path: Path, keys: Sequence[PublicKey]) -> Claimed:
    """The provenance in a bundle; with keys, only one that they signed.

    Raises:
        ConvkitError: nothing is signed there.
    """
    if not path.is_file():
        remedy = "convkit audit sign signs it; convkit verify compares it with its receipt"
        raise ConvkitError("isn't there: nothing is signed", path=path, remedy=remedy)
    if keys:
        read = read_bundle(path, KINDS, keys, Policy())
        return Claimed(read.statements.get(PROVENANCE), read.problems)
    lines = [line for line in read_lines(path) if isinstance(line, Line)]
    found = next((line.statement for line in lines if line.predicate_type == PROVENANCE), None)
    if found is None:
        raise ConvkitError("has no provenance", path=path, remedy="convkit audit verify says what is wrong")
    return Claimed(found)


def other_versions(receipt: Mapping[str, Any]) -> list[str]:
    """The packages that took part, beside convkit, and are of another version here: what was, and what is.

    Raises:
        ConvkitError: one isn't installed.
    """
    found = []
    for package in objects_in(receipt, "packages"):
        name, version = str(package.get("name")), str(package.get("version"))
        here = version_of(name)
        if here is None:
            problem = f"was made with the code of {name} {version}, which isn't installed"
            raise ConvkitError(problem, remedy=f"pip install '{name}=={version}'")
        if here != version:
            found.append(f"was made with {name} {version}, here is {here}")
    return found


def same_plan(digest: str, recorded: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    """Whether the plan of a receipt has the digest that is signed, and is the one that was made now.

    Plans of repairs name the path of the source, which may be another now.
    """
    plans = [{**plan, "source": {**plan["source"], "path": None}} for plan in (recorded, made)]
    return digest_value("sha256", recorded) == digest and plans[0] == plans[1]


def source_differs(now: Mapping[str, str], signed: Mapping[str, str]) -> Iterator[Problem]:
    """Whether the source is the one that is signed; its files may have other names, for their bytes are signed."""
    if gone := Counter(signed.values()) - Counter(now.values()):
        names = [name for name, digest in signed.items() if digest in gone]
        for name in names[:_NAMED]:
            said = "isn't there" if name not in now else "its sha256 isn't the signed one"
            yield Problem(kind="another source", file=name, check="rederive", problem=f"{said}, in the source")


def differing_leaves(there: Mapping[str, str], made: Mapping[str, str], where: str = "target") -> Iterator[Problem]:
    """The leaves that differ between what lies there and what was made again, by their digests."""
    wrong = [key for key in sorted({*there, *made}) if there.get(key) != made.get(key)]
    for key in wrong[:_NAMED]:
        said = "isn't there" if key not in there else "isn't made" if key not in made else "has another digest"
        yield Problem(kind="another result", file=key, check="rederive", problem=f"{said}, in the {where}")
    if len(wrong) > _NAMED:
        said = f"and {len(wrong) - _NAMED} leaves more"
        yield Problem(kind="another result", file="", check="rederive", problem=said)


def differing_files(
    target: Path, receipt: Mapping[str, Any], again: Path, made: Mapping[str, Any]
) -> Iterator[Problem]:
    """The files that differ between an output and the same made again, by their sha256."""
    one = digested(output_set(target, receipt))
    other = {
        called_today(name, again.name, target.name): digest
        for name, digest in digested(output_set(again, made)).items()
    }
    if own := side_of(receipt, "target").get("config"):  # of a command that calls the config otherwise
        usual = Path(target.name).with_suffix(Path(own).suffix).name
        other |= {own: other.pop(usual)} if usual in other else {}
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            said = "isn't there" if name not in one else "isn't made" if name not in other else "has other bytes"
            yield Problem(kind="another result", file=name, check="rederive", problem=said)
