"""Sign a target: its statements, the model signature, and the signer's sign-off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from convkit.audit.dsse import Line, MalformedError, line_of, read_lines, write_bundle
from convkit.audit.evidence import Evidence, Source, bundle_path
from convkit.audit.files import sha256_of
from convkit.audit.inside import object_in, objects_in
from convkit.audit.keys import PrivateKey
from convkit.audit.oms import read_signature, signable, signature_path, write_signature
from convkit.audit.statements import PROVENANCE, SIGN_OFF, provenance, sign_off, test_result
from convkit.checkpoint.progress import unmeasured
from convkit.errors import UsageError


@dataclass(frozen=True)
class Signing:
    """Who signs.

    Attributes:
        key: with which key.
        time: when, by the signer's own clock.
        responsible: who stands for it, a person or a role.
        overwrite: whether statements that say something else are replaced, with their signatures.
    """

    key: PrivateKey
    time: datetime
    responsible: str | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Signed:
    """What was signed: the files that were written, and how many keys have signed by now."""

    bundle: Path
    model_signature: Path | None
    signatures: int
    #: whether the source's digests are those that an earlier signer stated, for it isn't there any more
    source_as_stated: bool = False


def sign_target(
    evidence: Evidence, source: Source, signing: Signing, advance: Callable[[int], object] = unmeasured
) -> Signed:
    """Sign what there is of a target.

    Statements that are there already and say the same get one more signature; those of other keys are kept.

    Raises:
        UsageError: there are statements that say something else, and they may not be replaced.
        ConvkitError: a file can't be read.
    """
    digests = evidence.digests(advance)
    path = bundle_path(evidence.target)
    made = provenance(evidence, digests, source)
    stated = None if source.files else _with_source_of(path, made)
    said = [line_of(stated or made), line_of(test_result(evidence, digests))]
    before = lines_to_sign(path, said, overwrite=signing.overwrite)
    model = _sign_model(evidence.target, digests, signing)
    files = {model.name: sha256_of(model)} if model else {}
    lines = with_sign_off(before, signing, files)
    write_bundle(path, lines)
    return Signed(path, model, len(lines[0].signatures), stated is not None)


def _with_source_of(path: Path, made: dict[str, Any]) -> dict[str, Any] | None:
    """The provenance with the source that the one in a bundle states; None where there is none, or it states none."""
    lines = [line for line in read_lines(path) if isinstance(line, Line)] if path.is_file() else []
    there = next((line.statement for line in lines if line.predicate_type == PROVENANCE), None)
    stated = objects_in(object_in(there, "predicate", "buildDefinition"), "resolvedDependencies")
    sources = [one for one in stated if str(one.get("name")).partition("/")[0] == "source"]
    definition = made["predicate"]["buildDefinition"]
    own = [one for one in definition["resolvedDependencies"] if one["name"].partition("/")[0] != "source"]
    if not sources:
        return None
    definition = {**definition, "resolvedDependencies": [*sources, *own]}
    return {**made, "predicate": {**made["predicate"], "buildDefinition": definition}}


def with_sign_off(lines: list[Line], signing: Signing, files: Mapping[str, str]) -> list[Line]:
    """The lines with one more signature, and the sign-off of its key, in the place of one that it made before."""
    said = [line.signed(signing.key) for line in lines if line.predicate_type != SIGN_OFF]
    sign_offs = [line for line in lines if line.predicate_type == SIGN_OFF]
    others = [line for line in sign_offs if signing.key.public.id not in line.signatures]
    own = line_of(sign_off(said, files, signing.responsible, signing.time)).signed(signing.key)
    return [*said, *others, own]


def lines_to_sign(path: Path, said: list[Line], *, overwrite: bool) -> list[Line]:
    """The lines to which a signature is added: those that are there, if they say the same."""
    if not path.exists():
        return said
    there = read_lines(path)
    lines = [line for line in there if not isinstance(line, MalformedError)]
    same = [line.payload for line in lines[: len(said)]] == [line.payload for line in said]
    if same and len(lines) == len(there):
        return lines
    if overwrite:
        return said
    raise _other(path)


def _other(path: Path) -> UsageError:
    remedy = "convkit audit show says what; --overwrite replaces it, and the signatures of others"
    return UsageError("says something else than what is found now", path=path, remedy=remedy)


def _sign_model(target: Path, digests: Mapping[str, str], signing: Signing) -> Path | None:
    """The model signature that is there, if it is of these files; else a new one, by keys that can make one."""
    path = signature_path(target)
    files = model_files(target, digests)
    if path.is_file() and _is_of(path, files):
        return path
    if path.exists() and not signing.overwrite:
        raise _other(path)
    if signable(signing.key.public):
        write_signature(path, target.name, files, signing.key)
        return path
    path.unlink(missing_ok=True)
    return None


def _is_of(path: Path, files: Mapping[str, str]) -> bool:
    """Whether a model signature is of these files."""
    try:
        found = read_signature(path.read_bytes())
    except MalformedError:
        return False
    return not found.unreadable() and not [*found.differing(files)]


def model_files(target: Path, digests: Mapping[str, str]) -> dict[str, str]:
    """The files of the target alone, by their paths in it, or the one file by its name."""
    below = f"{target.name}/"
    if target.name in digests:
        return {target.name: digests[target.name]}
    return {name.removeprefix(below): digest for name, digest in digests.items() if name.startswith(below)}
