"""``convkit fetch``."""

from __future__ import annotations

import argparse

from convkit.cli.output import emit, progress, say
from convkit.errors import UsageError
from convkit.fetch import fetch
from convkit.fetch.streamed import record_stream
from convkit.files.stores import path_here
from convkit.report.table import row_of


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "uri", metavar="URI", help="path, file://, package://, generated://, http(s)://, s3://, gs://, hf://"
    )
    parser.add_argument("destination", metavar="DST", type=path_here, help="the file or folder to make of it")
    parser.add_argument(
        "--row", metavar="ID", help="URI is a campaign's table: fetch the source of this row, with its sha256"
    )
    parser.add_argument("--sha256", metavar="HEX", help="the digest that the source must have")
    parser.add_argument(
        "--retries", metavar="N", type=int, default=3, help="how often a failed transfer is tried again; default: 3"
    )
    parser.add_argument(
        "--link", action="store_true", help="hard-link files of this machine: who edits one then edits the other"
    )
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="leave a checkpoint of more than 64 MiB on this machine where it lies, and write only its record, "
        "DST.fetch.json, by whose name other commands read it",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="leave a checkpoint in a store where it lies, and write only its record, DST.fetch.json, by whose name "
        "other commands read it",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing destination")


def run(args: argparse.Namespace) -> int:
    """Fetch, and print a summary."""
    row = row_of(args.uri, args.row) if args.row is not None else {"source": args.uri, "sha256": ""}
    if args.stream or row.get("fetch") == "stream":
        if args.sha256 or row.get("sha256"):
            raise UsageError("a streamed source has no sha256", remedy="leave it out, or fetch a copy")
        streamed = record_stream(row["source"], args.destination, overwrite=args.overwrite)
        if args.json:
            emit(streamed.to_json())
        else:
            say(f"{streamed.uri}: recorded where it lies, {len(streamed.files)} objects")
        return 0
    with progress(f"fetch {args.destination}") as advance:  # a URI may hold a password
        record = fetch(
            row["source"],
            args.destination,
            sha256=args.sha256 or row.get("sha256") or None,
            retries=args.retries,
            overwrite=args.overwrite,
            link=args.link,
            in_place=args.in_place,
            progress=advance,
        )
    if args.json:
        emit(record)
    else:
        word = "recorded where it lies" if record["in_place"] else "fetched" if record["fetched"] else "already here"
        say(f"{record['path']}: {word}, {len(record['files'])} files, sha256 {record['sha256']}")
    return 0
