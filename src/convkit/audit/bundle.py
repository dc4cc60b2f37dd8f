"""Read a bundle as evidence: which lines are there, in which order, who signed them, and what is wrong with that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convkit.audit.dsse import Line, MalformedError, read_lines
from convkit.audit.findings import Problem, Signer
from convkit.audit.inside import object_in, objects_in, sha256_in
from convkit.audit.keys import PublicKey
from convkit.audit.policy import Policy
from convkit.audit.statements import SIGN_OFF

_SIGNATURES = "signatures"


@dataclass(frozen=True)
class Read:
    """A bundle that was read and checked against keys.

    Attributes:
        statements: what is said, by predicate type, of those that a key which counts has signed.
        signers: who signed.
        files: what the sign-offs vouch for beside the statements: the sha256 of files, by name.
        problems: what is wrong.
    """

    statements: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    signers: tuple[Signer, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def read_bundle(path: Path, kinds: Mapping[str, str], keys: Sequence[PublicKey], policy: Policy) -> Read:
    """Read a bundle and check its signatures.

    Args:
        path: the file.
        kinds: the predicate types that belong in it, by what a policy calls them, in their order; the sign-off last.
        keys: the public keys that were given.
        policy: what is asked for.

    Raises:
        ConvkitError: the file is there and can't be read.
    """
    if not path.is_file():
        said = "nothing is signed here, or what was signed is gone"
        return Read(problems=(Problem(kind="missing file", file=path.name, check=_SIGNATURES, problem=said),))
    bundle = _Bundle(path.name, kinds, keys, policy)
    return bundle.read(read_lines(path))


class _Bundle:
    """The check of one bundle."""

    def __init__(self, name: str, kinds: Mapping[str, str], keys: Sequence[PublicKey], policy: Policy) -> None:
        self._name, self._kinds, self._policy = name, kinds, policy
        self._keys = {key.id: key for key in keys}
        self._counting = [key for key in self._keys.values() if policy.allows(key.id)]
        self._problems: list[Problem] = []

    def read(self, found: Sequence[Line | MalformedError]) -> Read:
        """Check the lines."""
        for number, line in enumerate(found, start=1):
            if isinstance(line, MalformedError):
                self._say("malformed line", "bundle", str(line), number)
        lines = [(number, line) for number, line in enumerate(found, start=1) if isinstance(line, Line)]
        self._check_order([(number, line.predicate_type) for number, line in lines])
        said = {line.predicate_type: (number, line) for number, line in lines if line.predicate_type != SIGN_OFF}
        offs = [(number, line) for number, line in lines if line.predicate_type == SIGN_OFF]
        bound = self._bound(offs)
        signed = {kind: self._signers_of(number, line, bound) for kind, (number, line) in said.items()}
        claims = self._claims(offs, {kind: line for kind, (_, line) in said.items()}, signed)
        needed = [kind for name, kind in self._kinds.items() if self._needs(name) and kind != SIGN_OFF]
        by_all = [key for key in self._counting if all(key.id in signed.get(kind, ()) for kind in needed)]
        if self._needs("sign-off"):
            self._check_claims(by_all, offs, claims)
            by_all = [key for key in by_all if key.id in claims]
        self._check_number(len(by_all), [line for _, line in said.values()])
        trusted = {kind: line.statement for kind, (_, line) in said.items() if signed[kind]}
        files = {name: digest for key in by_all for name, digest in _files_of(claims.get(key.id, {})).items()}
        return Read(trusted, tuple(self._all_signers(said, by_all, claims)), files, tuple(self._problems))

    def _needs(self, name: str) -> bool:
        """Whether a kind of statement must be there; policies speak of those about targets only."""
        return name in self._policy.statements or name not in _IN_POLICIES

    def _check_order(self, types: Sequence[tuple[int, str]]) -> None:
        """Whether just the lines are there that belong there, and in their order."""
        names = {kind: name for name, kind in self._kinds.items()}
        known = [(number, kind) for number, kind in types if kind in names]
        for number, kind in types:
            if kind not in names:
                self._say("added line", "bundle", f"a statement {kind} doesn't belong here", number)
        seen: set[str] = set()
        for number, kind in known:
            if kind in seen and kind != SIGN_OFF:
                self._say("added line", names[kind], "a second statement of this kind", number)
            seen.add(kind)
        for name, kind in self._kinds.items():
            if kind not in seen and self._needs(name):
                self._say("missing line", name, "no such statement is there")
        order = [*names]
        places = [order.index(kind) for _, kind in known]
        if places != sorted(places):
            found = ", ".join(names[kind] for _, kind in known)
            self._say("lines out of order", "bundle", f"found {found}")

    def _signers_of(self, number: int, line: Line, bound: set[str]) -> list[str]:
        """The ids of the keys that count and signed a line; says why if a signature is there that doesn't hold.

        ``bound`` are the digests of statements for which a sign-off stands that is signed itself: they tell a changed
        statement from a changed signature.
        """
        given = {key.id for key in line.signers(self._keys.values())}
        name = next((name for name, kind in self._kinds.items() if kind == line.predicate_type), "bundle")
        wrong = [id for id in line.signatures if id in self._keys and id not in given]
        intact = hashlib.sha256(line.payload).hexdigest() in bound
        for id in wrong:
            kind, what = ("changed signature", "signature") if intact else ("changed payload", "statement")
            self._say(kind, name, f"the {what} isn't as {self._called(id)} made it", number)
        if not given and not wrong:
            made = ", ".join(sorted(line.signatures)) or "none"
            self._say("wrong key", name, f"none of the given keys signed it; it bears signatures of {made}", number)
        return [key.id for key in self._counting if key.id in given]

    def _bound(self, offs: Sequence[tuple[int, Line]]) -> set[str]:
        """The digests of the statements for which a sign-off stands that a given key signed."""
        signed = (line.statement for _, line in offs if line.signers(self._keys.values()))
        return {digest for said in signed for digest in _subjects_of(said).values()}

    def _claims(
        self, offs: Sequence[tuple[int, Line]], said: Mapping[str, Line], signed: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """The sign-off of each key that counts, if it stands for just these statements.

        Where it stands for others, that is wrong only if these are signed and there: what is wrong otherwise is said.
        """
        about = {kind: hashlib.sha256(line.payload).hexdigest() for kind, line in said.items()}
        claims: dict[str, dict[str, Any]] = {}
        known = {id for line in said.values() for id in line.signatures}
        for number, line in offs:
            if not {*line.signatures} & {*self._keys} and not line.signers(self._keys.values()):
                if not {*line.signatures} & known:  # the sign-off of a key that wasn't given is left unchecked
                    self._say("added line", "sign-off", "its key signed none of the statements", number)
                continue
            for id in self._signers_of(number, line, set()):
                stands_for = _subjects_of(line.statement)
                if any(stands_for.get(kind) != about[kind] for kind, by in signed.items() if by):
                    self._say("another subject", "sign-off", "it stands for other statements than these", number)
                elif id in claims:
                    self._say("added line", "sign-off", f"a second one of {self._called(id)}", number)
                elif stands_for == about:
                    claims[id] = line.statement["predicate"]
                    self._check_responsible(number, id, claims[id])
        return claims

    def _check_claims(
        self, by_all: Sequence[PublicKey], offs: Sequence[tuple[int, Line]], claims: Mapping[str, Any]
    ) -> None:
        """Whether there is a sign-off of each key that signed all; what is wrong with one is said already."""
        faulty = {id for _, line in offs for id in line.signatures}
        for key in by_all if offs else ():
            if key.id not in claims and key.id not in faulty:
                self._say("missing line", "sign-off", f"there is none of {self._called(key.id)}")

    def _check_responsible(self, number: int, id: str, claim: Mapping[str, Any]) -> None:
        if self._policy.responsible and not _claimed(claim, "responsible"):
            self._say("missing check", "sign-off", f"{self._called(id)} names nobody who is responsible", number)

    def _check_number(self, count: int, lines: Sequence[Line]) -> None:
        """Whether enough keys that count signed all; where something else is wrong, that is the reason."""
        if count >= self._policy.signatures or self._problems:
            return
        others = [key for key in self._keys.values() if not self._policy.allows(key.id)]
        for key in others:
            if all(line.signers([key]) for line in lines):
                self._say("key not allowed", _SIGNATURES, f"the policy doesn't allow {self._called(key.id)}")
        if not self._problems:
            said = f"{count} keys that count signed every statement, the policy asks for {self._policy.signatures}"
            self._say("too few signatures", _SIGNATURES, said)

    def _all_signers(
        self,
        said: Mapping[str, tuple[int, Line]],
        by_all: Sequence[PublicKey],
        claims: Mapping[str, dict[str, Any]],
    ) -> Iterator[Signer]:
        ids = dict.fromkeys(id for _, line in said.values() for id in line.signatures)
        good = {key.id for key in by_all}
        for id in [*ids, *(id for id in good if id not in ids)]:
            claim = claims.get(id, {})
            yield Signer(
                keyid=id,
                verified=id in good,
                key=str(self._keys[id].path or "") if id in self._keys else "",
                responsible=_claimed(claim, "responsible"),
                claimed_time=_claimed(claim, "time"),
            )

    def _called(self, id: str) -> str:
        path = self._keys[id].path
        return f"the key {path.name}" if path else f"the key {id}"

    def _say(self, kind: Any, check: str, problem: str, number: int | None = None) -> None:
        file = self._name + (f" line {number}" if number else "")
        self._problems.append(Problem(kind=kind, file=file, check=check, problem=problem))


#: statements that a policy may leave out
_IN_POLICIES = ("provenance", "test-result", "sign-off")


def _subjects_of(statement: Mapping[str, Any]) -> dict[str, str]:
    """The subjects of a sign-off: the sha256 of each statement's payload, by its kind."""
    return {str(one.get("name")): str(one["digest"].get("sha256")) for one in statement["subject"]}


def _claimed(claim: Mapping[str, Any], name: str) -> str | None:
    value = object_in(claim, "signersClaim").get(name)
    return value if isinstance(value, str) else None


def _files_of(claim: Mapping[str, Any]) -> dict[str, str]:
    """The files that a sign-off vouches for, by name."""
    return {str(one.get("name")): sha256_in(one) for one in objects_in(claim, "files")}
