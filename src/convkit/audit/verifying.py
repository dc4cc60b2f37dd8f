"""Check the evidence of a target: every signature, every file again, and what a policy asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convkit.audit.bundle import Read, read_bundle
from convkit.audit.comparing import Comparison, compared_model, compared_receipt, compared_verdicts, signed_files
from convkit.audit.evidence import bundle_path
from convkit.audit.findings import Problem, Signer
from convkit.audit.inside import object_in
from convkit.audit.keys import PublicKey
from convkit.audit.policy import Policy, judged
from convkit.audit.signing import model_files
from convkit.audit.statements import KINDS, PROVENANCE, TEST_RESULT, VERDICTS
from convkit.checkpoint.progress import Progress


@dataclass(frozen=True)
class Checked:
    """What became of checking one target."""

    problems: tuple[Problem, ...]
    signers: tuple[Signer, ...]
    #: files that were read again
    files: int


def verify_target(
    target: Path,
    keys: Sequence[PublicKey],
    policy: Policy,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Checked:
    """Check the evidence of a target.

    What no key signed that counts isn't believed: then the signatures are what is wrong, and files aren't compared
    with what is said there.

    Args:
        target: the output.
        keys: the public keys that were given.
        policy: what is asked for.
        folder: where a campaign keeps the documents of its row.
        progress: called with the bytes digested so far and the bytes in all.

    Raises:
        ConvkitError: a file is there and can't be read.
    """
    path = bundle_path(target)
    read = read_bundle(path, KINDS, keys, policy)
    problems = [*read.problems, *_agreement(read, path.name)]
    said = read.statements.get(PROVENANCE) or read.statements.get(TEST_RESULT)
    if said is None:
        return Checked(tuple(problems), read.signers, 0)
    comparison = Comparison(target, signed_files(said), progress)
    if comparison.is_of_another():
        text = "the statements are about another output"
        problems.append(Problem(kind="another subject", file=path.name, check="files", problem=text))
        return Checked(tuple(problems), read.signers, len(comparison.digests))
    problems += [*comparison.problems(), *comparison.directory(said)]
    counting = [key for key in keys if policy.allows(key.id)]
    there = model_files(target, comparison.digests)
    problems += compared_model(target, there, read.files, counting, policy)
    if (provenance := read.statements.get(PROVENANCE)) is not None:
        problems += compared_receipt(target, provenance)
    if (test_result := read.statements.get(TEST_RESULT)) is not None:
        problems += compared_verdicts(target, folder, test_result, policy)
        problems += judged(policy, _kind(read.statements), test_result["predicate"], path.name)
    return Checked(tuple(problems), read.signers, len(comparison.digests))


def _agreement(read: Read, file: str) -> Iterator[Problem]:
    """Whether the statements are about the same output and the same receipt."""
    provenance, test_result = (read.statements.get(kind) for kind in (PROVENANCE, TEST_RESULT))
    if provenance is None or test_result is None:
        return
    if provenance["subject"] != test_result["subject"]:
        said = "provenance and test-result are about different files"
        yield Problem(kind="another subject", file=file, check="test-result", problem=said)
    seal = object_in(provenance, "predicate", "buildDefinition", "internalParameters").get("receiptSeal")
    for check, verdict in object_in(test_result, "predicate", VERDICTS, "verdicts").items():
        if not isinstance(verdict, dict) or verdict.get("receipt") != seal:
            problem = "its verdict is about another output than the provenance"
            yield Problem(kind="contradiction", file=file, check=str(check), problem=problem)


def _kind(statements: Mapping[str, dict[str, Any]]) -> str:
    """Of what kind the work was; a conversion where that isn't signed, which needs most checks."""
    asked = object_in(statements.get(PROVENANCE), "predicate", "buildDefinition", "externalParameters")
    return str(asked.get("kind") or "conversion")
