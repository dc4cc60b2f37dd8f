"""Check a migration: by migrating back to the same files, and by restoring it with the real Orbax."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from convkit.checkpoint.progress import Progress
from convkit.errors import ConvkitError
from convkit.extras import install
from convkit.migrate.orbax.documents import recorded
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import REWRITE, Encoding, Request, plan_migration
from convkit.migrate.orbax.restore import compared, installed
from convkit.verify.files import same_source
from convkit.verify.judged import Check
from convkit.verify.verdict import Fault, Verdict


def roundtrip(
    source: Path,
    target: Path,
    receipt: Mapping[str, Any],
    *,
    keep: Path | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Check whether the target, migrated back, gives the source: its files, and the leaves of rewritten items.

    Args:
        source: the checkpoint that was migrated.
        target: the result.
        receipt: the migration's receipt.
        keep: the folder to migrate back to; None for one beside the target that is removed at the end.
        progress: called with the bytes done so far and the bytes in all: those rewritten, then those compared.

    Raises:
        ConvkitError: the source can't be read, or the receipt is malformed. Faults of the target are problems of
            the verdict.
    """
    check, record = Check("roundtrip", source, target), recorded(receipt, target)
    scratch = Path(tempfile.mkdtemp(prefix=".convkit-back-", dir=target.absolute().parent))
    back = keep or scratch / "back"
    try:
        api, asked = record.source.format.removeprefix("orbax-"), record.plan.request
        same_api = api == asked.to and not asked.dual
        migrate(target, back, Request(api, REWRITE if same_api else None), restored=False, progress=progress)
        return same_source(source, back, receipt, check, progress=progress)
    except ConvkitError as error:
        if not source.exists() or not target.exists():
            raise
        return check.judged([str(error).replace(str(back), f"{target}, migrated back")])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def equivalence(source: Path, target: Path, receipt: Mapping[str, Any]) -> Verdict:
    """Check whether the real Orbax restores the source's content from the target: structure, kinds, bits.

    Raises:
        ConvkitError: Orbax isn't installed or can't be run, the source can't be read, or the receipt is malformed.
    """
    check, record = Check("equivalence", source, target), recorded(receipt, target)
    if not installed():
        raise ConvkitError("can't be restored: Orbax isn't installed", path=target, remedy=install("orbax"))
    asked = record.plan.request
    encoding = Encoding(**asdict(asked.encoding))
    request = Request(asked.to, asked.mode, asked.steps, asked.dual, asked.drop, encoding=encoding)
    migration = plan_migration(source, request)
    answer = compared(migration, target.absolute())
    return check.judged(
        answer["problems"],
        (Fault(name, caught) for name, caught in answer["faults"]),
        measured=answer["measured"],
        bound={"different": 0},
        details={"restored_by": record.versions.get("orbax-checkpoint"), "api": asked.to},
    )
