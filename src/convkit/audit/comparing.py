"""Compare the files of a target with what is signed of them: none other, none more, none less, none renamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from convkit.audit.dsse import MalformedError
from convkit.audit.evidence import CHECKS, document_places
from convkit.audit.files import THREADS, digested, directory_digest, sha256_of, total_bytes
from convkit.audit.findings import Kind, Problem
from convkit.audit.inside import object_in, objects_in, sha256_in
from convkit.audit.keys import PublicKey
from convkit.audit.oms import Signature, read_signature, signature_path
from convkit.audit.policy import Policy
from convkit.audit.statements import SET, VERDICTS
from convkit.checkpoint.progress import Meter, Progress
from convkit.checkpoint.threads import workers
from convkit.errors import ConvkitError
from convkit.files.neighbours import files_of_output
from convkit.files.receipt import receipt_path

_FILES = "files"
_MODEL = "model signature"


def signed_files(statement: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of each file that a statement is about, by name."""
    entries = [one for one in statement["subject"] if one.get("name") != SET]
    return {str(one.get("name")): str(one["digest"].get("sha256")) for one in entries}


class Comparison:
    """The files of a target against the statements about it.

    Args:
        target: the output.
        signed: the sha256 of each file of the output set, as it is signed.
        progress: called with the bytes digested so far and the bytes in all.
    """

    def __init__(self, target: Path, signed: Mapping[str, str], progress: Progress | None = None) -> None:
        self._target, self._signed = target, signed
        self._paths = dict(files_of_output(target))
        inside = {name: target.parent / name for name in signed if _is_below(name)}
        self._paths |= {name: path for name, path in inside.items() if path.is_file()}
        self.digests: dict[str, str] = {}
        self._unreadable: dict[str, str] = {}
        advance = Meter(total_bytes(self._paths), progress)

        def digest(name: str) -> tuple[str, str]:
            """The sha256 of a file, or why there is none."""
            try:
                return digested({name: self._paths[name]}, advance)[name], ""
            except ConvkitError as error:
                return "", error.problem

        with workers(THREADS, total_bytes(self._paths)) as pool:
            for name, (found, problem) in zip(self._paths, pool.map(digest, self._paths), strict=True):
                if problem:
                    self._unreadable[name] = problem
                else:
                    self.digests[name] = found

    def is_of_another(self) -> bool:
        """Whether nothing of this target is signed, under its name or another."""
        if any(_top(name) == self._target.name for name in self._signed):
            return False
        own = {digest for name, digest in self.digests.items() if _top(name) == self._target.name}
        return not own & {*self._signed.values()}

    def problems(self) -> Iterator[Problem]:
        """What differs, file by file."""
        for name, problem in self._unreadable.items():
            yield _problem("changed file", name, problem)
        gone = [name for name in self._signed if name not in self._paths]
        new = [name for name in self.digests if name not in self._signed]
        for name in [name for name in self._signed if name in self.digests]:
            if self.digests[name] != self._signed[name]:
                yield _problem("changed file", name, "its sha256 isn't the signed one")
        for name in gone:
            now = next((one for one in new if self.digests[one] == self._signed[name]), None)
            if now is None:
                yield _problem("removed file", name, "is signed, and isn't there")
            else:
                new.remove(now)
                yield _problem("renamed file", name, f"is called {now} now")
        yield from (_problem("added file", name, "is there, and isn't signed") for name in new)

    def directory(self, said: Mapping[str, Any]) -> Iterator[Problem]:
        """Whether the digest of the directory is that of the files that the same statement lists."""
        found = [one["digest"].get("dirHash") for one in said["subject"] if one.get("name") == SET]
        if found != [directory_digest(self._signed)]:
            problem = "the digest of the directory isn't that of the files beside it"
            yield Problem(kind="contradiction", file=self._target.name, check="provenance", problem=problem)


def compared_receipt(target: Path, provenance: Mapping[str, Any]) -> Iterator[Problem]:
    """Whether the receipt beside the target is the one that is signed."""
    byproducts = objects_in(object_in(provenance, "predicate", "runDetails"), "byproducts")
    signed = {str(one.get("name")): one for one in byproducts}
    path = receipt_path(target)
    if not signed:
        yield _problem("contradiction", path.name, "the provenance names no receipt", "receipt")
    for name, one in signed.items():
        place, digest = target.with_name(Path(name).name or "receipt"), sha256_in(one)
        if place != path and path.is_file() and sha256_of(path) == digest:
            yield _problem("renamed file", place.name, f"is called {path.name} now", "receipt")
        elif not place.is_file():
            yield _problem("removed file", place.name, "is signed, and isn't there", "receipt")
        elif sha256_of(place) != digest:
            yield _problem("changed file", place.name, "its sha256 isn't the signed one", "receipt")


def compared_verdicts(
    target: Path, folder: Path | None, test_result: Mapping[str, Any], policy: Policy
) -> Iterator[Problem]:
    """Whether the documents of the verdicts, where they are there, are those that are signed."""
    documents = object_in(test_result, "predicate", VERDICTS, "documents")
    for check in CHECKS:
        if not (one := object_in(documents, check)):
            continue
        places = [path for path in document_places(target, folder, check) if path.name == one.get("name")]
        there = [path for path in places if path.is_file()]
        if not there and policy.verdict_files:
            yield _problem("removed file", str(one.get("name")), "is signed, and isn't there", check)
        elif there and sha256_of(there[0]) != sha256_in(one):
            yield _problem("changed file", there[0].name, "its sha256 isn't the signed one", check)


def compared_model(
    target: Path, files: Mapping[str, str], vouched: Mapping[str, str], keys: list[PublicKey], policy: Policy
) -> Iterator[Problem]:
    """Whether the model signature is there, is the one that was signed off, and is of the files that are there.

    Args:
        target: the output.
        files: the sha256 of the target's files as they are, by their paths in it, or the one file by its name.
        vouched: the sha256 of the files that sign-offs vouch for, by name.
        keys: those that count.
        policy: what is asked for.
    """
    path = signature_path(target)
    if not path.is_file():
        if path.name in vouched or policy.model_signature:
            yield _problem("removed file", path.name, "is signed off or asked for, and isn't there", _MODEL)
        return
    data = path.read_bytes()
    if path.name in vouched and sha256_of(path) != vouched[path.name]:
        yield _problem("changed file", path.name, "its sha256 isn't the one that was signed off", _MODEL)
    try:
        found = read_signature(data)
    except MalformedError as error:
        yield _problem("changed file", path.name, str(error), _MODEL)
        return
    if why := found.unreadable():
        yield _problem("contradiction", path.name, why, _MODEL)
        return
    yield from _of_model(path.name, found, files, [] if path.name in vouched else keys, keys)


def _of_model(
    name: str, found: Signature, files: Mapping[str, str], needed: list[PublicKey], keys: list[PublicKey]
) -> Iterator[Problem]:
    own = next((key for key in keys if found.of(key)), None)
    if own is not None and not found.made_by(own):
        yield _problem("changed signature", name, "the signature or what it signs isn't as the key made it", _MODEL)
        return
    if own is None and needed:
        yield _problem("wrong key", name, "none of the given keys made it, and none signed it off", _MODEL)
    for problem in found.differing(files):
        yield _problem("changed file", name, f"{problem}, by the model signature", _MODEL)


def _top(name: str) -> str:
    return name.partition("/")[0]


def _is_below(name: str) -> bool:
    """Whether a signed name leads below the target's folder."""
    return bool(name) and not name.startswith("/") and ".." not in name.split("/") and "\0" not in name


def _problem(kind: Kind, file: str, problem: str, check: str = _FILES) -> Problem:
    return Problem(kind=kind, file=file, check=check, problem=problem)
