"""Finish an output that parts have made: complete it, read back what lies there, write its receipt, and publish it.

What parts have made is taken over like what a killed run has made. So every leaf of the target is read once more and
digested, through the format's own reader, after the last part has ended and no part can begin: what the receipt says of
it is what lies there. The source isn't read again, except what is kept as complement: each part has digested its share
of it, and the files' states are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from convkit.checkpoint import WriteOptions
from convkit.checkpoint.progress import Progress
from convkit.errors import UsageError
from convkit.execute.conversion import Conversion, carrier_of
from convkit.execute.in_parts.agreement import agreed
from convkit.execute.laid_out import work_of
from convkit.execute.publish import publishing, telling
from convkit.files.finishing import Finishing
from convkit.files.receipt import CONVERSION, read_receipt
from convkit.files.shared import Agreed, Shared, count_of
from convkit.files.staging import heal
from convkit.files.unchanged import state_of
from convkit.formats import check_name
from convkit.plan import Plan, Source

_PLAIN = WriteOptions()


def finish(
    source: Source,
    plan: Plan,
    target: Path,
    *,
    threads: int | None = None,
    options: WriteOptions = _PLAIN,
    digest: str = "xxh3-128",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Publish ``target``, of which all parts are made, and return its receipt.

    With ``overwrite``, one that is finished already is left as it is, if it is as its receipt says.

    Raises:
        UsageError: a part is missing or isn't finished, parts are of something else, or the target exists.
        ConvkitError: the source has changed, tied copies differ, or the disk is full.
    """
    check_name(target, plan.target_format)
    source = replace(source, checkpoint=plan.wrapping.off(source.checkpoint))
    target = target.absolute()
    with telling(target):
        heal(target)
    count = count_of(target)
    of = partial(agreed, source, plan, options, digest)
    if count is None:
        return _finished(of, target, overwrite=overwrite)
    shared = Shared(target, of(count))
    identity = {"parts": shared.agreed.digest}
    staged = partial(Finishing, shared=shared, algorithm=digest)
    work = work_of(source, target, overwrite=overwrite, into_empty=False, in_parts=True)
    with publishing(work, identity, staged) as output:
        staging = output.staging
        assert isinstance(staging, Finishing)

        def run() -> dict[str, Any]:
            carrier = carrier_of(output, source, plan, threads=threads, digest=digest, progress=progress)
            joined = staging.joined
            return Conversion(source, plan, output, carrier, options, config_name=None, parts=joined).run()

        return output.attempt(run)


def _finished(agreed_by: Callable[[int], Agreed], target: Path, *, overwrite: bool) -> dict[str, Any]:
    """The receipt of a target that was finished before.

    Raises:
        UsageError: it wasn't, or has changed since, or isn't asked for.
    """
    receipt = read_receipt(target, CONVERSION) if target.exists() else None
    parts = (receipt or {}).get("in_parts")
    made = isinstance(parts, dict) and parts.get("identity") == agreed_by(len(parts["made"])).digest
    if receipt is None or not made:
        raise UsageError("no part of it was begun", path=target, remedy="make each part first: --part 1/N, and so on")
    if not overwrite:
        raise UsageError("is finished already", path=target, remedy="use it, or make it again: --part 0/N --overwrite")
    for entry in receipt["written"]:
        found = state_of(target.parent / entry["name"])
        if found is None or (found.size, found.mtime_ns) != (entry["bytes"], entry["mtime_ns"]):
            raise UsageError(
                f"is finished already, and {entry['name']} has changed since",
                path=target,
                remedy="make it again: --part 0/N --overwrite",
            )
    return receipt
