"""What evidence has to show: a documented default, and a file, YAML or JSON, that asks for something else."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from convkit.audit.evidence import needed_checks
from convkit.audit.findings import Problem
from convkit.audit.inside import object_in, objects_in
from convkit.audit.statements import VERDICTS
from convkit.checkpoint.digests import digest_value
from convkit.errors import ConvkitError
from convkit.files import yaml_text
from convkit.files.document import Document, typed

StatementName = Literal["provenance", "test-result", "sign-off"]
_KEY = re.compile("[0-9a-f]{64}")
_REMEDY = "docs/how-to/audit.md has the fields of a policy"


class Policy(Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked of each target; the defaults are what is asked without a file.

    Attributes:
        statements: those that must be there, signed.
        checks: those whose verdict must be yes; ``needed`` are those that prove work of the target's kind.
        least_caught: planted faults that each of them must have caught, at the least; all planted ones in any case.
        signatures: keys, at the least, that must have signed every statement.
        keys: ids of the keys that count, beside being given; ``any`` of those given.
        deviations: fields of a config that may be said only nearly; ``any``, or a list, which may be empty.
        responsible: whether each signer must name who is responsible.
        model_signature: whether a model signature must be there.
        verdict_files: whether the documents of the verdicts must lie beside the target; if they do, they must be those
            that were signed in any case.
        unsigned_rows: whether a campaign may have rows without a bundle.
    """

    schema: Literal["convkit.policy/1"] = "convkit.policy/1"
    statements: Annotated[tuple[StatementName, ...], Meta(min_length=1)] = ("provenance", "test-result", "sign-off")
    checks: Literal["needed"] | tuple[Literal["roundtrip", "equivalence"], ...] = "needed"
    least_caught: Annotated[int, Meta(ge=0)] = 1
    signatures: Annotated[int, Meta(ge=1)] = 1
    keys: Literal["any"] | Annotated[tuple[str, ...], Meta(min_length=1)] = "any"
    deviations: Literal["any"] | tuple[str, ...] = "any"
    responsible: bool = False
    model_signature: bool = False
    verdict_files: bool = False
    unsigned_rows: bool = False

    def __post_init__(self) -> None:
        for key in self.keys if self.keys != "any" else ():
            if not _KEY.fullmatch(key):
                raise ValueError(f"{key!r} isn't the id of a key: 64 hexadecimal digits")
        if self.keys != "any" and len({*self.keys}) < self.signatures:
            raise ValueError(f"{self.signatures} signatures are asked for, of fewer keys")

    def allows(self, keyid: str) -> bool:
        """Whether signatures of a key count."""
        return self.keys == "any" or keyid in self.keys

    @property
    def digest(self) -> str:
        """The policy's identity."""
        return digest_value("sha256", self.to_json())


def read_policy(path: Path | None) -> Policy:
    """The policy in a file; the default without one.

    Raises:
        ConvkitError: it can't be read, or has a field that no policy has.
    """
    if path is None:
        return Policy()
    try:
        found = yaml_text.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConvkitError(f"can't be read: {error.strerror}", path=path, remedy="check the path") from error
    except ValueError as error:
        raise ConvkitError(f"isn't a policy: {error}", path=path, remedy=_REMEDY) from None
    if isinstance(found, dict) and isinstance(found.get("checks"), list):
        _once(found["checks"], path)
    return typed(Policy, found, path, remedy=_REMEDY)


def judged(policy: Policy, kind: str, test_result: Mapping[str, Any], file: str) -> Iterator[Problem]:
    """What a test result lacks of what the policy asks for.

    Args:
        policy: what is asked for.
        kind: of the work: ``conversion``, ``repair`` or ``migration``.
        test_result: its predicate, which is signed.
        file: the bundle's name, for the problems.
    """
    said = object_in(test_result, VERDICTS)
    verdicts = object_in(said, "verdicts")
    asked = needed_checks(kind) if policy.checks == "needed" else policy.checks
    for check in asked:
        if check not in verdicts:
            yield Problem(kind="missing check", file=file, check=check, problem="the policy asks for it")
        else:
            yield from _of_verdict(policy, check, object_in(verdicts, check), file)
    deviations = said.get("deviations")
    yield from _of_deviations(policy, deviations if isinstance(deviations, list) else [deviations], file)


def _of_verdict(policy: Policy, check: str, verdict: Mapping[str, Any], file: str) -> Iterator[Problem]:
    faults = objects_in(verdict, "faults")
    missed = [str(fault.get("name")) for fault in faults if fault.get("caught") is not True]
    if verdict.get("state") != "yes":
        problems = verdict.get("problems")
        why = str(problems[0]) if isinstance(problems, list) and problems else ""
        said = f"its verdict is {verdict.get('state')!r}" + (f" ({why})" if why else "")
        yield Problem(kind="failed check", file=file, check=check, problem=said)
    if missed:
        yield Problem(kind="missed fault", file=file, check=check, problem=f"it missed {', '.join(missed[:3])}")
    if (caught := len(faults) - len(missed)) < policy.least_caught:
        said = f"it caught {caught} planted faults, the policy asks for {policy.least_caught}"
        yield Problem(kind="too few faults", file=file, check=check, problem=said)


def _of_deviations(policy: Policy, deviations: Collection[Any], file: str) -> Iterator[Problem]:
    for one in deviations if policy.deviations != "any" else ():
        field = str(one.get("field")) if isinstance(one, dict) else str(one)
        if field not in policy.deviations:
            said = f"{field} is said only nearly, which the policy doesn't allow"
            yield Problem(kind="deviation", file=file, check="test-result", problem=said)


def _once(checks: list[Any], path: Path) -> None:
    if len({*map(str, checks)}) < len(checks):
        raise ConvkitError("a check is there twice", path=path, key="$.checks", remedy="name it once")
