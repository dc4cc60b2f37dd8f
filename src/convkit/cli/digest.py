"""``convkit digest``: the digests of a checkpoint's leaves and files, so that who loads it can check what is loaded."""

from __future__ import annotations

import argparse
from typing import Any

from convkit.audit.files import digested, directory_digest, files_in, total_bytes
from convkit.checkpoint import Checkpoint
from convkit.checkpoint.digests import ALGORITHMS, BLOCK, digest_leaf, digest_value
from convkit.checkpoint.progress import Meter
from convkit.cli.options import source_format_option
from convkit.cli.output import emit, progress, say
from convkit.files.receipt import json_value
from convkit.files.stores import place
from convkit.files.unchanged import same_objects
from convkit.formats import open_checkpoint


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("path", metavar="PATH", type=place, help="the checkpoint: a file or a folder")
    parser.add_argument("--algorithm", choices=ALGORITHMS, default="sha256", help="of the leaves (default: sha256)")
    source_format_option(parser)


def run(args: argparse.Namespace) -> int:
    """Digest every leaf and every file of a checkpoint."""
    files = files_in(args.path)
    with same_objects(args.path), open_checkpoint(args.path, args.source_format) as checkpoint:
        sizes = [leaf.spec.nbytes for leaf in checkpoint.leaves.values() if leaf.spec]
        with progress(f"digest {args.path}") as shown:
            advance = Meter(sum(sizes) + total_bytes(files), shown)
            leaves = leaves_of(checkpoint, args.algorithm, advance)
            sums = digested(files, advance)
        document = {
            "schema": "convkit.digest/1",
            "path": args.path.name,
            "format": checkpoint.format,
            "algorithm": args.algorithm,
            "block_bytes": BLOCK,
            "leaves": leaves,
            "files": {name: f"sha256:{found}" for name, found in sums.items()},
            "directory": f"sha256:{directory_digest(sums)}",
        }
    if args.json:
        emit(document)
        return 0
    for key, leaf in leaves.items():
        say(f"{leaf['digest']}  {key}")
    for name, found in document["files"].items():
        say(f"{found}  {name}")
    say(f"{document['directory']}  the directory: every file and its name")
    return 0


def leaves_of(checkpoint: Checkpoint, algorithm: str, advance: Meter) -> dict[str, dict[str, Any]]:
    """Each leaf's digest, as receipts give it, with the shape and the dtype of a tensor."""
    found: dict[str, dict[str, Any]] = {}
    for key, leaf in checkpoint.leaves.items():
        if leaf.spec is None:
            found[key] = {"digest": digest_value(algorithm, json_value(leaf.value))}
        else:
            shape = {"shape": list(leaf.spec.shape), "dtype": leaf.spec.dtype}
            found[key] = {"digest": digest_leaf(checkpoint, key, algorithm, advance), **shape}
    return found
