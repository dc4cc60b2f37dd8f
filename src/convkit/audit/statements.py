"""What is signed: in-toto statements about a target, and the sign-off of each signer.

Three kinds lie in a bundle, in this order: SLSA provenance v1 (what was made from what, and how), test-result v0.1
(what was checked, with convkit's verdicts whole in a field of its own), and a sign-off for each signer (who is
responsible, and a time, both claims of the signer). The subject of the first two is the whole output set: the digest
of the directory, which binds the names, and the sha256 of each file.

The statements hold no time and nothing of the machine that signs: who signs the same evidence signs the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from convkit.audit.dsse import STATEMENT, Line
from convkit.audit.evidence import Evidence, Source, needed_checks
from convkit.audit.files import directory_digest
from convkit.audit.inside import objects_in
from convkit.files.receipt import CONVERSION, REPAIR
from convkit.version import DIRTY

PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
#: what the names of convkit's own kinds begin with
OWN = "urn:convkit:"
SIGN_OFF = f"{OWN}sign-off-v1"
CAMPAIGN = f"{OWN}campaign-v1"
#: the field of a test result that holds the verdicts
VERDICTS = f"{OWN}verdicts-v1"
#: what the kinds are called in a policy, in their order
KINDS = {"provenance": PROVENANCE, "test-result": TEST_RESULT, "sign-off": SIGN_OFF}
_BUILD = f"{OWN}conversion-v1"
_BUILDER = f"{OWN}convkit"
#: what the output set is called: the folder in which the target lies, as if it held nothing else
SET = "."


def subjects(digests: Mapping[str, str]) -> list[dict[str, Any]]:
    """The output set as subjects: the directory, and each file."""
    files = [{"name": name, "digest": {"sha256": digest}} for name, digest in digests.items()]
    return [{"name": SET, "digest": {"dirHash": directory_digest(digests)}}, *files]


def provenance(evidence: Evidence, digests: Mapping[str, str], source: Source) -> dict[str, Any]:
    """What was made from what: the mapping, its options and plan, the source's files, and convkit itself."""
    receipt = evidence.receipt.document
    plan = receipt["plan"]
    internal = {
        "planDigest": receipt["plan_digest"],
        "receiptSeal": receipt.get("digest"),
        "variant": plan.get("variant", {}),
        "threads": receipt.get("threads"),
    }
    versions = {"convkit": receipt["convkit"], **receipt.get("versions", {}), **_packages(receipt)}
    predicate = {
        "buildDefinition": {
            "buildType": _BUILD,
            "externalParameters": _external(receipt),
            "internalParameters": {name: value for name, value in internal.items() if value is not None},
            "resolvedDependencies": [*_of_source(source), *_of_convkit(receipt), _of_plan(receipt)],
        },
        "runDetails": {
            "builder": {"id": _BUILDER, "version": versions},
            "metadata": _metadata(receipt),
            "byproducts": [_named(evidence.receipt.path.name, evidence.receipt.sha256)],
        },
    }
    return statement(subjects(digests), PROVENANCE, predicate)


def test_result(evidence: Evidence, digests: Mapping[str, str]) -> dict[str, Any]:
    """What was checked: each verdict whole, what was left out, dropped or missing, and declared deviations."""
    receipt = evidence.receipt.document
    plan, kind = receipt["plan"], str(receipt["kind"])
    verdicts = {check: one.document for check, one in evidence.verdicts.items()}
    left_out = [check for check in needed_checks(kind) if check not in verdicts]
    results = {check: result_of(verdict) for check, verdict in verdicts.items()}
    worst = "FAILED" if left_out else max(results.values(), key=("PASSED", "WARNED", "FAILED").index)
    predicate = {
        "result": worst,
        "configuration": [_named(evidence.receipt.path.name, evidence.receipt.sha256)],
        **{f"{word.lower()}Tests": _with(results, word) for word in ("PASSED", "WARNED", "FAILED")},
        VERDICTS: {
            "verdicts": verdicts,
            "documents": {check: _named(one.path.name, one.sha256) for check, one in evidence.verdicts.items()},
            "deviations": plan.get("deviations", []),
            "leftOut": left_out,
            "dropped": _without_place(plan),
            "missing": plan.get("missing", {}),
        },
    }
    return statement(subjects(digests), TEST_RESULT, predicate)


def sign_off(
    lines: Iterable[Line], files: Mapping[str, str], responsible: str | None, time: datetime
) -> dict[str, Any]:
    """Who stands for these statements, and since when: both are claims of the signer.

    ``files`` are further files, by name, that the signer vouches for, such as the model signature.
    """
    about = [
        {"name": line.predicate_type, "digest": {"sha256": hashlib.sha256(line.payload).hexdigest()}} for line in lines
    ]
    predicate = {
        "signersClaim": {"responsible": responsible, "time": time.isoformat(timespec="seconds")},
        "files": [_named(name, digest) for name, digest in files.items()],
    }
    return statement(about, SIGN_OFF, predicate)


def result_of(verdict: Mapping[str, Any]) -> str:
    """``PASSED``; ``WARNED`` if under declared deviations; else ``FAILED``, also where nothing was shown."""
    if verdict.get("state") != "yes":
        return "FAILED"
    return "WARNED" if verdict.get("deviations") else "PASSED"


def statement(about: list[dict[str, Any]], kind: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """An in-toto statement."""
    return {"_type": STATEMENT, "subject": about, "predicateType": kind, "predicate": predicate}


def _with(results: Mapping[str, str], word: str) -> list[str]:
    return [check for check, result in results.items() if result == word]


def _without_place(plan: Mapping[str, Any], *fates: str) -> dict[str, Any]:
    """Leaves of the source that have no place in the target, by these fates, each with its reason."""
    leaves = plan.get("source_leaves") or {}
    found = {key: leaf for key, leaf in leaves.items() if isinstance(leaf, dict)}
    wanted = fates or ("dropped", "left behind")
    return {key: leaf.get("reason") for key, leaf in found.items() if leaf.get("fate") in wanted}


def _external(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for."""
    plan, kind = receipt["plan"], str(receipt["kind"])
    asked: dict[str, Any] = {"kind": kind, "commandLine": receipt.get("command_line")}
    if kind == CONVERSION:
        asked |= {
            "mapping": plan["mapping"],
            "source": _side(plan["source"]),
            "target": _side(plan["target"]),
            "release": plan.get("release"),
            "dtype": plan.get("dtype"),
            "dropped": [*_without_place(plan, "dropped")],
            "missing": sorted(plan.get("missing", {})),
        }
    elif kind == REPAIR:
        asked |= {"command": receipt.get("command")}
    else:
        asked |= {"source": _side(receipt["source"]), "target": _side(receipt["target"])}
        asked |= {"request": plan.get("request")}
    return {name: value for name, value in asked.items() if value is not None}


def _packages(receipt: Mapping[str, Any]) -> dict[str, str]:
    """The versions of other packages whose code took part."""
    return {str(one.get("name")): str(one.get("version")) for one in objects_in(receipt, "packages")}


def _side(side: Mapping[str, Any]) -> dict[str, Any]:
    return {name: side[name] for name in ("format", "layout", "release") if side.get(name)}


def _of_source(source: Source) -> list[dict[str, Any]]:
    """The source's files, each with its sha256; without files, its name alone."""
    notes = {"known": source.known} | ({"revision": source.revision} if source.revision else {})
    if not source.files:
        return [{"name": "source", "uri": source.uri, "annotations": notes}]
    whole = {"dirHash": directory_digest(source.files)}
    return [
        {"name": "source", "uri": source.uri, "digest": whole, "annotations": notes},
        *({"name": f"source/{name}", "digest": {"sha256": digest}} for name, digest in source.files.items()),
    ]


def _of_convkit(receipt: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The convkit that did the work; a commit with changes on it is called one, and gives no digest."""
    found: dict[str, Any] = {"name": "convkit", "uri": f"pkg:pypi/convkit-checkpoints@{receipt['convkit']}"}
    commit = str(receipt.get("commit") or "")
    if commit and all(digit in "0123456789abcdef" for digit in commit):
        found["digest"] = {"gitCommit": commit}
    elif commit.endswith(DIRTY):
        found["annotations"] = {"commit": commit}
    return [found]


def _of_plan(receipt: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": "plan",
        "digest": {"sha256": str(receipt["plan_digest"]).removeprefix("sha256:")},
        "annotations": {"of": "the plan in the receipt, as JSON with sorted keys, without spaces, in ASCII"},
    }


def _metadata(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """When the work was done, as its receipt says."""
    found = {"invocationId": receipt.get("digest"), "startedOn": receipt.get("started")}
    try:
        ended = datetime.fromisoformat(str(receipt["started"])) + timedelta(seconds=float(receipt["seconds"]))
        found["finishedOn"] = ended.isoformat(timespec="seconds")
    except (ValueError, KeyError):
        pass
    return {name: value for name, value in found.items() if value}


def _named(name: str, sha256: str) -> dict[str, Any]:
    return {"name": Path(name).name, "digest": {"sha256": sha256}}
