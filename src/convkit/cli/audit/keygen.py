"""``convkit audit keygen``."""

from __future__ import annotations

import argparse
from pathlib import Path

from convkit.audit.keys import KINDS, generate, passphrase_from, write_pair
from convkit.cli.audit.keys import passphrase_option
from convkit.cli.output import emit, note, say


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("path", metavar="KEY.pem", type=Path, help="the private key; its public half is KEY.pub.pem")
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0], help="P-256, P-384, P-521 or Ed25519")
    passphrase_option(parser)


def run(args: argparse.Namespace) -> int:
    """Make a key and its public half."""
    passphrase = passphrase_from(args.passphrase_file)
    key = generate(args.kind)
    public = write_pair(key, args.path, passphrase)
    if args.kind == "ed25519":
        note("with an Ed25519 key no model signature (.model.sig) is written: its specification knows P-curves only")
    if args.json:
        emit({"private_key": str(args.path), "public_key": str(public), "kind": args.kind, "keyid": key.public.id})
    else:
        say(f"{args.path}: {'encrypted' if passphrase else 'not encrypted'}, readable by you alone")
        say(f"{public}: {args.kind}, {key.public.id}")
    return 0
