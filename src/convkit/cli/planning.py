"""Turn arguments into an opened source and its plan, for the commands that need one."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from convkit.cli.options import allow_missing_option, config_option, drop_option, seed_option, source_format_option
from convkit.errors import UsageError
from convkit.mapping.layout import parse_release
from convkit.plan import Options, Plan, Source, make_plan, open_source


def conversion_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a conversion, to plan it or to carry it out."""
    parser.add_argument(
        "--to",
        metavar="LAYOUT",
        help="see convkit list layouts, or only a framework (cerebras) into which one mapping leads; "
        "none to migrate Orbax to its other --format",
    )
    parser.add_argument(
        "--through",
        metavar="LAYOUT",
        action="append",
        default=[],
        help="pass through it on the way to --to; leaves that it can't carry are kept in the complement "
        "(repeat for several, in order)",
    )
    parser.add_argument("--from", metavar="LAYOUT", dest="from_", help="default: detected")
    parser.add_argument("--format", metavar="FORMAT", help="format of DST (default: the layout's own)")
    parser.add_argument(
        "--release",
        metavar="R",
        help="release of the layout, such as 2.9, in its last patch: 2.3 is 2.3.1 (default: the current one)",
    )
    from_release_option(parser)
    parser.add_argument(
        "--mup-base",
        metavar="NAME=N,...",
        help="make DST a muP model with these base sizes, such as hidden=256,filter=1024 (of T5: d_model, d_ff, d_kv), "
        "and other fields of muP; its weights are divided by what then multiplies them",
    )
    drop_option(parser)
    allow_missing_option(parser)
    seed_option(parser)
    parser.add_argument(
        "--dtype", metavar="DTYPE", help="cast floating-point tensors, to bf16, fp16, float32 ... (default: preserve)"
    )
    parser.add_argument(
        "--allow-overflow",
        action="store_true",
        help="with --dtype, accept finite values that the dtype can't hold: they become infinite, or NaN",
    )
    parser.add_argument("--headless", action="store_true", help="write the base model's keys, without a head")
    parser.add_argument(
        "--size",
        metavar="NAME=N",
        action="append",
        default=[],
        help="a size that the checkpoint doesn't show, or to check one",
    )
    parser.add_argument(
        "--variant", metavar="NAME=CHOICE", action="append", default=[], help="a choice within the layout of DST"
    )
    parser.add_argument(
        "--no-restore", dest="restore", action="store_false", help="don't use the receipt of an earlier conversion"
    )
    config_option(parser)
    source_format_option(parser)


def from_release_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the release of the source."""
    parser.add_argument(
        "--from-release",
        metavar="R",
        help="release of SRC's layout, such as 1.8 (default: as SRC or a receipt beside it shows it)",
    )


def opened(args: argparse.Namespace) -> Source:
    """Open the source that the arguments name."""
    return open_source(args.source, format=args.source_format, config=args.config, watch=args.watch)


def planned(args: argparse.Namespace, source: Source, *, drop_unclaimed: bool = False) -> Plan:
    """Make the plan that the arguments request; ``drop_unclaimed`` as :class:`~convkit.plan.Options` have it."""
    options = Options(
        format=args.format,
        release=parse_release(args.release),
        from_release=parse_release(args.from_release),
        mup={name: _value("--mup-base", text) for name, text in _pairs("--mup-base", _commas(args.mup_base))},
        drop=tuple(args.drop),
        drop_unclaimed=drop_unclaimed,
        dtype=args.dtype,
        allow_overflow=args.allow_overflow,
        headless=args.headless,
        allow_missing=tuple(args.allow_missing),
        seed=args.seed,
        restore=args.restore,
        given={name: _number(name, text) for name, text in _pairs("--size", args.size)},
        choices=dict(_pairs("--variant", args.variant)),
    )
    return make_plan(source, args.to, args.from_, options, through=args.through)


def _pairs(flag: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in texts]
    for name, sign, value in pairs:
        if not (name and sign):
            raise UsageError(f"{flag} {name}{sign}{value}", remedy="write NAME=VALUE")
    return [(name, value) for name, _, value in pairs]


def _commas(text: str | None) -> list[str]:
    return text.split(",") if text else []


def _value(flag: str, text: str) -> int | float | bool:
    if text in ("true", "false"):
        return text == "true"
    try:
        number = float(text)
    except ValueError:
        raise UsageError(f"{flag} {text}", remedy="a value is a number, true or false") from None
    return int(number) if number.is_integer() else number


def _number(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--size {name}={text}", remedy="a size is a number above 0")
    return int(text)
