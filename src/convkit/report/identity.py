"""Which checkpoint a row is about, and who made it: paths, releases and digests, of its documents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from convkit.checkpoint.digests import digest_value
from convkit.files.receipt import side_of
from convkit.report.campaign import Conversion


class Digests(Struct, frozen=True, kw_only=True):
    """Digests of what a row read and wrote; None where its documents give none.

    Those of ``source`` and ``target`` are over the digests of their leaves, in the order of their keys; where a receipt
    has those of files instead, over these.
    """

    source: str | None
    target: str | None
    plan: str | None
    receipt: str | None
    #: of the source as it was fetched
    fetched: str | None


class MadeBy(Struct, frozen=True, kw_only=True):
    """Who made an output; None where the receipt, of an earlier release, doesn't say it."""

    convkit: str | None
    commit: str | None
    host: str | None
    command_line: str | None
    started: str | None


def digests_of(conversion: Conversion) -> Digests:
    """The digests that its documents give."""
    receipt, fetched = conversion.receipt, conversion.documents.get("fetch", {}).get("sha256")
    return Digests(
        source=over_leaves(receipt.get("source")),
        target=over_leaves(receipt.get("target")) or _over_files(receipt),
        plan=receipt.get("plan_digest") or None,
        receipt=receipt.get("digest") or None,
        fetched=f"sha256:{fetched}" if fetched else None,
    )


def over_leaves(side: object) -> str | None:
    """One digest over the digests of all leaves of a side of a receipt, in the order of their keys."""
    leaves = side.get("leaves") if isinstance(side, dict) else None
    return digest_value("sha256", leaves) if leaves else None


def _over_files(receipt: Mapping[str, Any]) -> str | None:
    """One digest over those of all files of the output."""
    found = {file["name"]: file.get("digest") for file in receipt.get("written") or ()}
    return digest_value("sha256", found) if found and all(found.values()) else None


def made_by(receipt: Mapping[str, Any]) -> MadeBy | None:
    """Who made an output; None before there is a receipt."""
    if not receipt:
        return None
    known = {name: receipt.get(name) for name in MadeBy.__struct_fields__}
    return MadeBy(**{name: value if isinstance(value, str) and value else None for name, value in known.items()})


def packages_of(conversion: Conversion) -> tuple[str, ...]:
    """Other packages whose code took part in the conversion or its checks: ``example 0.1 (format acorn)``."""
    found: dict[str, dict[str, None]] = {}
    for stage in ("convert", "roundtrip", "equivalence"):
        for package in conversion.documents.get(stage, {}).get("packages") or ():
            brought = found.setdefault(f"{package['name']} {package['version']}", {})
            brought.update(dict.fromkeys(package["brought"]))
    return tuple(f"{name} ({', '.join(brought)})" for name, brought in found.items())


def target_of(conversion: Conversion, directory: Path) -> str | None:
    """Where the output lies, from the folder of the page if it is below; the name that it got, if it is gone."""
    if conversion.target is None:
        return side_of(conversion.receipt, "target").get("path") or None
    path, root = conversion.target.absolute(), directory.absolute()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def family_of(conversion: Conversion) -> str:
    """The model family: what a layout is called beside its framework; of what has no layout, the format's framework.

    ``hf/llama`` gives ``llama``, ``orbax-v0`` gives ``orbax``.
    """
    sides = [conversion.plan.get(side) or {} for side in ("source", "target")]
    claimed = [conversion.claim.get(name) or "" for name in ("from", "to")]
    layouts = [*(str(side.get("layout") or "") for side in sides), *claimed]
    named = next((layout.partition("/")[2] for layout in layouts if "/" in layout), "")
    formats = (str(side.get("format") or "") for side in sides)
    return named or next((form.partition("-")[0] for form in formats if form), "unknown")
