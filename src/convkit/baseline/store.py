"""The folder of baselines: one sealed document a row, and the bundle of its signatures where somebody signed it.

The seal shows damage and careless edits. Who edits a baseline on purpose can seal it anew, but not sign it: with public
keys given, each baseline must be signed by one of them. The statement names the document's sha256, its row and its
history, so that a bundle can't be put beside another baseline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import UNSET, structs

from convkit.audit.bundle import read_bundle
from convkit.audit.dsse import Line, line_of, read_lines, write_bundle
from convkit.audit.evidence import bundle_path
from convkit.audit.keys import PublicKey
from convkit.audit.policy import Policy
from convkit.audit.signing import Signing, with_sign_off
from convkit.audit.statements import OWN, SIGN_OFF, statement
from convkit.baseline.document import Acceptance, Baseline
from convkit.baseline.observed import over_output
from convkit.checkpoint.digests import digest_value
from convkit.errors import ConvkitError, UsageError
from convkit.files.document import read_json, typed, write_whole
from convkit.files.seal import sealed, unbroken

BASELINE = f"{OWN}baseline-v1"
_KINDS = {"baseline": BASELINE, "sign-off": SIGN_OFF}
_SUFFIX = ".json"
_RESTORE = "restore it from version control, or remove it and record the row again"


@dataclass(frozen=True)
class Store:
    """The baselines in a folder.

    Attributes:
        folder: where they lie.
        keys: the public keys of which one must have signed each baseline; none asks for no signature.
    """

    folder: Path
    keys: Sequence[PublicKey] = ()

    def path(self, id: str) -> Path:
        """Where the baseline of a row lies."""
        if not id or "/" in id or id.startswith("."):
            raise UsageError(f"{id!r} can't be the name of a baseline", remedy="give the row another id")
        return self.folder / f"{id}{_SUFFIX}"

    def ids(self) -> list[str]:
        """The rows that have a baseline."""
        return sorted(path.name.removesuffix(_SUFFIX) for path in self.folder.glob(f"*{_SUFFIX}"))

    def read(self, id: str) -> Baseline | None:
        """The baseline of a row; None where there is none.

        Raises:
            ConvkitError: it isn't as it was written, isn't that of this row, or isn't signed as it must be.
        """
        path = self.path(id)
        if not path.is_file():
            return None
        data, found = path.read_bytes(), read_json(path, _RESTORE)
        if not isinstance(found, dict) or not unbroken(data, found):
            raise ConvkitError("was changed after it was written: its seal is broken", path=path, remedy=_RESTORE)
        baseline = typed(Baseline, found, path, remedy=_RESTORE)
        if baseline.id != id:
            raise ConvkitError(f"is the baseline of the row {baseline.id}", path=path, key="$.id", remedy=_RESTORE)
        self._check_signature(path, hashlib.sha256(data).hexdigest())
        return baseline

    def accept(self, baseline: Baseline, acceptance: Acceptance, signing: Signing | None) -> Path:
        """Write what was accepted, with one more line of history, signed where there is a key.

        Raises:
            UsageError: the one before is signed, and there is no key.
        """
        path = self.path(baseline.id)
        before = self.read(baseline.id)
        if signing is None and bundle_path(path).exists():
            raise UsageError("is signed, so what takes its place is", path=path, remedy="give --key KEY.pem")
        history = [*(before.accepted if before else ()), acceptance]
        document, data = sealed(structs.replace(baseline, accepted=history, digest=UNSET).to_json())
        if signing is not None:
            write_bundle(bundle_path(path), with_sign_off([_line(document, path.name, data)], signing, {}))
        write_whole(path, data)
        return path

    def _check_signature(self, path: Path, sha256: str) -> None:
        """Whether what is signed beside a baseline is about it, and, if keys were given, that one of them signed it."""
        bundle = bundle_path(path)
        if not self.keys and not bundle.exists():
            return
        if self.keys:
            problems = read_bundle(bundle, _KINDS, self.keys, Policy()).problems
            if problems:
                raise ConvkitError(f"isn't signed as it must be: {problems[0]}", path=path, remedy=_RESTORE)
        lines = [line for line in read_lines(bundle) if isinstance(line, Line) and line.predicate_type == BASELINE]
        about = [one for line in lines for one in line.statement["subject"]]
        if [(one.get("name"), one["digest"].get("sha256")) for one in about] != [(path.name, sha256)]:
            raise ConvkitError(f"isn't what {bundle.name} signs", path=path, remedy=_RESTORE)


def acceptance(
    baseline: Baseline, *, time: str, responsible: str, reason: str, changes: Iterable[str] = ()
) -> Acceptance:
    """The line of history of what is accepted; ``changes`` are the kinds of all that had moved."""
    if not reason.strip():
        raise UsageError("the reason is empty", remedy="say in --reason why the change is right")
    kinds = [*changes]
    return Acceptance(
        time=time,
        responsible=responsible,
        reason=reason.strip(),
        changes={kind: kinds.count(kind) for kind in sorted({*kinds})},
        verdict=baseline.verdict,
        plan_digest=baseline.plan_digest,
        target=over_output(baseline),
        versions=baseline.versions,
    )


def _line(document: dict[str, object], name: str, data: bytes | bytearray) -> Line:
    """What is signed: the document by its sha256, its row, and its history by a digest."""
    about = [{"name": name, "digest": {"sha256": hashlib.sha256(data).hexdigest()}}]
    predicate = {
        "row": document["id"],
        "verdict": document["verdict"],
        "history": digest_value("sha256", document["accepted"]),
    }
    return line_of(statement(about, BASELINE, predicate))
