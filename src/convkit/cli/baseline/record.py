"""``convkit baseline record`` and ``convkit baseline accept``."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from convkit.audit.keys import passphrase_from, read_private
from convkit.audit.signing import Signing
from convkit.baseline.comparing import compared
from convkit.baseline.drift import Drift
from convkit.baseline.store import Store, acceptance
from convkit.cli.audit.keys import passphrase_option
from convkit.cli.baseline.compare import tolerance_option
from convkit.cli.baseline.rows import Row, rows_of, rows_options, store_of
from convkit.cli.output import emit, note, say
from convkit.files.clock import now_s

_FIRST = "recorded for the first time"


def record_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``record``."""
    rows_options(parser)
    parser.add_argument("--reason", metavar="WHY", default=_FIRST, help=f"for the history (default: {_FIRST})")
    _signing_options(parser)


def accept_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``accept``."""
    rows_options(parser)
    parser.add_argument("--reason", metavar="WHY", required=True, help="why what moved is right; goes into the history")
    tolerance_option(parser)
    _signing_options(parser)


def _signing_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--responsible", metavar="WHO", help="who stands for it (default: the user's name)")
    parser.add_argument("--key", metavar="KEY.pem", type=Path, help="sign the baselines with this private key")
    passphrase_option(parser)


def record(args: argparse.Namespace) -> int:
    """Record the rows that have no baseline; those that have one stay as they are."""
    store = store_of(args)
    rows = [row for row in rows_of(args.results, args.ids) if store.read(row.seen.id) is None]
    return _written(args, store, [(row, ()) for row in rows])


def accept(args: argparse.Namespace) -> int:
    """Take as the new baselines what moved, or what has no baseline."""
    store = store_of(args)
    moved = []
    for row in rows_of(args.results, args.ids):
        found = compared(store.read(row.seen.id), row.seen, args.tolerance)
        if found.drifts:
            moved.append((row, found.drifts))
    return _written(args, store, moved)


def _written(args: argparse.Namespace, store: Store, rows: Sequence[tuple[Row, tuple[Drift, ...]]]) -> int:
    """Write baselines, and say which; 1 if a row has no output that could be accepted."""
    signing = _signing(args)
    time = _now().isoformat(timespec="seconds")
    responsible = args.responsible or getpass.getuser()
    paths, without = [], []
    for row, drifts in rows:
        made = row.seen.baseline()
        if made is None or row.seen.verdict in ("stale", "stopped"):
            without.append(row.seen.id)
            note(f"row {row.seen.id} isn't recorded, for it is {row.seen.verdict}: {row.seen.problem}")
            continue
        line = acceptance(
            made, time=time, responsible=responsible, reason=args.reason, changes=[one.kind for one in drifts]
        )
        paths.append(store.accept(made, line, signing))
    if args.json:
        emit({"schema": "convkit.accepted/1", "baselines": [str(path) for path in paths], "left": without})
    else:
        say(*(f"{path}: accepted" for path in paths))
        if not paths and not without:
            say("nothing to accept: every row is as its baseline says")
    return 1 if without else 0


def _signing(args: argparse.Namespace) -> Signing | None:
    if args.key is None:
        return None
    return Signing(read_private(args.key, passphrase_from(args.passphrase_file)), _now(), args.responsible)


def _now() -> datetime:
    return datetime.fromtimestamp(now_s(), UTC)
