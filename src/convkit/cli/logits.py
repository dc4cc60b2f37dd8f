"""``convkit logits``."""

from __future__ import annotations

import argparse
from pathlib import Path

from convkit.cli.options import config_option, running_options, source_format_option
from convkit.cli.output import emit, note, say, steps
from convkit.files.stores import place
from convkit.report.text import NOT_FINITE


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("source", metavar="SRC", type=place, help="the checkpoint: a file or a folder")
    parser.add_argument("--from", metavar="LAYOUT", dest="from_", help="default: detected")
    config_option(parser)
    source_format_option(parser)
    parser.add_argument(
        "--ids",
        metavar="FILE",
        type=Path,
        required=True,
        help="the input, a .npz: input_ids [batch, positions], and what else the model takes "
        "(attention_mask, token_type_ids, decoder_input_ids); or pixel_values [batch, channels, height, width]",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help="the logits, a .npz: a float32 array for each head"
    )
    running_options(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE once the new one is whole")


def run(args: argparse.Namespace) -> int:
    """Run a model on given input, and write its logits."""
    from convkit.verify.equivalence.logits import logits

    with steps(f"logits {args.source}") as advance:
        document = logits(
            args.source,
            args.ids,
            args.out,
            layout=args.from_,
            config=args.config,
            format=args.source_format,
            threads=args.threads,
            device=args.device,
            overwrite=args.overwrite,
            steps=advance,
        )
    for text in document["notes"]:
        note(text)
    if args.json:
        emit(document)
        return 0
    for name, output in document["outputs"].items():
        strange = "" if output["finite"] else f", {NOT_FINITE}"
        say(f"{args.out}: {name} {'x'.join(map(str, output['shape']))} float32{strange}")
    return 0
