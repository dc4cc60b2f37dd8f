"""``convkit fetch``."""

from __future__ import annotations

import argparse

from convkit.cli.output import emit
from convkit.fetch import fetch


def run(args: argparse.Namespace) -> int:
    """Fetch, and say what is here."""
    record = fetch(args.uri, args.destination, sha256=args.sha256, retries=args.retries, overwrite=args.overwrite)
    if args.json:
        emit(record)
    else:
        word = "fetched" if record["fetched"] else "already here"
        print(f"{args.destination}: {word}, {len(record['files'])} files, sha256 {record['sha256']}")
    return 0
