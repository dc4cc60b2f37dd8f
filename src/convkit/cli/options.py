"""Options that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from convkit.files.part import Part


def config_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the config of the source."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="the config of the source (default: beside it)")


def drop_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that leaves out leaves."""
    parser.add_argument("--drop", metavar="KEY", action="append", default=[], help="leave out a leaf by name or glob")


def allow_missing_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that accepts an incomplete source."""
    parser.add_argument(
        "--allow-missing",
        metavar="KEY",
        action="append",
        default=[],
        help="a leaf, by name or glob, that may be missing though the config or other leaves say that it must be there",
    )


def seed_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that draws what the source lacks."""
    parser.add_argument(
        "--seed",
        metavar="N",
        type=from_on(0),
        help="draw the tensors that a checkpoint may lack from this seed: the projector of a LLaVA (default: refuse)",
    )


def from_on(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number, at least this one."""

    def number(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} isn't a whole number from {least} on")
        return int(text)

    return number


def source_format_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the format of the source."""
    parser.add_argument("--source-format", metavar="FORMAT", help="default: detected; safetensors wins")


def running_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of how models are run."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where torch runs the models")
    parser.add_argument(
        "--threads", metavar="N", type=from_on(1), help="threads of one stage (default: all processors)"
    )


def no_fail_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that makes the command succeed if the verdict is no."""
    parser.add_argument("--no-fail", action="store_true", help="exit 0 when the verdict is no")


def parts_options(parser: argparse.ArgumentParser, finish: str) -> None:
    """Add the options of work that is done in parts; ``finish`` says what the last step does."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--part",
        metavar="I/N",
        type=a_part,
        help="do part I of N, here or on any machine that shares the disk of DST",
    )
    which.add_argument("--finish", action="store_true", help=finish)


def a_part(text: str) -> Part:
    """The type of ``--part``."""
    try:
        return Part.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
