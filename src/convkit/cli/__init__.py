"""The ``convkit`` command: parse arguments, call the package once, and print text or one JSON document.

Exit codes: 0 success, 1 a check says no, 2 wrong usage, 3 the input can't be read or isn't supported, or
the plan isn't total, 70 a fault of convkit itself, 130 an interrupt. Each command's module is imported only when the
command is called.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from msgspec import Struct, field

from convkit.cli.ending import ended, refused
from convkit.cli.parsing import Parser
from convkit.cli.recorded import look_up
from convkit.cli.remedies import answered
from convkit.cli.stage import WORK
from convkit.cli.volume import VOLUME
from convkit.errors import ConvkitError
from convkit.extras import named_extras


class Command(Struct, frozen=True):
    """A command: its module in this folder, its one-line help, an example of its arguments, and two functions of the
    module.

    ``options(parser)`` adds the command's options; ``run(args)`` runs it and returns the exit code.
    """

    module: str
    summary: str
    example: str
    options: str = "options"
    run: str = "run"


class Group(Struct, frozen=True):
    """A command with subcommands."""

    summary: str
    commands: Mapping[str, Command] = field(default_factory=dict)


COMMANDS: dict[str, Command | Group] = {
    "fetch": Command(
        "fetch",
        "download or copy a checkpoint, complete and verified",
        "fetch hf://HuggingFaceTB/SmolLM2-135M@main smollm",
    ),
    "inspect": Command(
        "inspect",
        "describe a checkpoint: format, layout, variant, config, leaves",
        "inspect smollm",
    ),
    "list": Command(
        "list",
        "list formats, layouts, mappings, oracles, generated families, or what other packages bring",
        "list layouts",
    ),
    "plan": Command(
        "plan",
        "decide the fate of every leaf, without reading a tensor",
        "plan smollm --to cerebras/llama",
    ),
    "convert": Command(
        "convert",
        "convert a checkpoint, and write a receipt",
        "convert smollm smollm.mdl --to cerebras/llama --release 2.9",
    ),
    "upgrade": Command(
        "upgrade",
        "bring a checkpoint and its config to another release, later or earlier",
        "upgrade old.mdl new.mdl --release 2.10 --from-release 1.8",
    ),
    "prove": Command(
        "prove",
        "convert a checkpoint, prove it, and make its page: all stages in one command",
        "prove smollm smollm.mdl --to cerebras/llama",
    ),
    "te": Command(
        "te",
        "convert T5X or Pax to Transformer Engine or back, as JAX-Toolbox's converter did",
        "te --input-path t5x/checkpoint_1000 --output-path te --fw t5x --direction fw2te",
    ),
    "cerebras": Group(
        "convert checkpoints as Cerebras's converter does, repair old ones, and convert their loader state",
        {
            "convert": Command(
                "cerebras.convert",
                "convert a checkpoint and its config between transformers and Cerebras",
                "cerebras convert pytorch_model.bin --model gpt2 --src-fmt hf --tgt-fmt cs-2.9 --config config.json",
            ),
            "convert-config": Command(
                "cerebras.convert_config",
                "convert a config between transformers and Cerebras",
                "cerebras convert-config config.json --model gpt2 --src-fmt hf --tgt-fmt cs-2.9",
            ),
            "list": Command(
                "cerebras.listing",
                "list models, and the formats between which they can be converted",
                "cerebras list gpt2",
            ),
            "list-converters": Command(
                "cerebras.listing",
                "the same as list",
                "cerebras list-converters gpt2",
            ),
            "diff": Command(
                "cerebras.diff",
                "compare two checkpoints",
                "cerebras diff a.mdl b.mdl",
            ),
            "fix-checkpoint-spec": Command(
                "cerebras.compat",
                "repair a checkpoint of a release before 2.0",
                "cerebras fix-checkpoint-spec old.mdl --fixed_checkpoint_path new.mdl",
                "fix_options",
                "fix",
            ),
            "data-iter-state": Command(
                "cerebras.compat",
                "put the loader state of release 1.9 into a checkpoint, in the form of release 2.0",
                "cerebras data-iter-state -c old.mdl -w data_iter_state -o new.mdl",
                "data_iter_state_options",
                "data_iter_state",
            ),
        },
    ),
    "orbax": Group(
        "check Orbax checkpoints, and migrate them between its two APIs",
        {
            "migrate": Command(
                "migrate",
                "migrate a checkpoint or a root to the other API",
                "orbax migrate run run-v1 --to v1",
            ),
            "check": Command(
                "orbax_check",
                "say which calls of either API load a checkpoint, and what Orbax hides about it",
                "orbax check run/1000 --run",
            ),
            "guide": Command(
                "orbax_guide",
                "print which methods of v1's Checkpointer replace those of v0's CheckpointManager",
                "orbax guide",
            ),
        },
    ),
    "roundtrip": Command(
        "check",
        "reconvert by the inverse and compare with the source bit by bit",
        "roundtrip smollm smollm.mdl",
        "roundtrip_options",
        "roundtrip",
    ),
    "equivalence": Command(
        "check",
        "run both models on the same inputs and compare them layer by layer",
        "equivalence smollm smollm.mdl",
        "equivalence_options",
        "equivalence",
    ),
    "logits": Command(
        "logits",
        "run a model on given input, and write the logits of its heads",
        "logits smollm --ids ids.npz --out logits.npz",
    ),
    "diff": Command(
        "check",
        "compare structure and values of two checkpoints",
        "diff smollm smollm-back",
        "diff_options",
        "diff",
    ),
    "verify": Command(
        "check",
        "check a checkpoint against its receipt",
        "verify smollm.mdl",
        "verify_options",
        "verify",
    ),
    "digest": Command(
        "digest",
        "give the digest of every leaf and every file, and one of the directory",
        "digest smollm.mdl --json > digests.json",
    ),
    "audit": Group(
        "sign what was proved of an output or a campaign, show what is signed, and check it",
        {
            "keygen": Command(
                "audit.keygen",
                "make a key that signs, and its public half",
                "audit keygen k.pem",
            ),
            "sign": Command(
                "audit.sign",
                "sign an output with what was proved of it, or a campaign",
                "audit sign smollm.mdl --key k.pem --responsible 'A. Reviewer'",
            ),
            "show": Command(
                "audit.show",
                "show what is signed, without checking it",
                "audit show smollm.mdl",
            ),
            "verify": Command(
                "audit.verify",
                "check signatures, every file, and what a policy asks for",
                "audit verify smollm.mdl --public-key k.pub.pem",
            ),
            "rederive": Command(
                "audit.rederive",
                "make an output again from its source, and compare leaves or bytes",
                "audit rederive smollm smollm.mdl --public-key k.pub.pem",
            ),
        },
    ),
    "baseline": Group(
        "record what a campaign's rows gave, and say later what moved and why",
        {
            "record": Command(
                "baseline.record",
                "record the rows that have no baseline",
                "baseline record results",
                "record_options",
                "record",
            ),
            "compare": Command(
                "baseline.compare",
                "say what moved since the baselines, leaf by leaf, and why",
                "baseline compare results",
            ),
            "matrix": Command(
                "baseline.matrix",
                "compare the same table under other versions, column by column",
                "baseline matrix results next=results/matrix/next/results",
            ),
            "accept": Command(
                "baseline.record",
                "take what moved as the new baseline, with a reason",
                "baseline accept results llama --reason 'the new rule is right'",
                "accept_options",
                "accept",
            ),
        },
    ),
    "table": Command(
        "table",
        "write a campaign's table of the checkpoints that lie in folders",
        "table models --to cerebras > config/checkpoints.tsv",
    ),
    "report": Command(
        "report",
        "make the report page of a campaign, or of one conversion",
        "report results --verify",
    ),
    "completion": Command(
        "completion",
        "print a script that completes convkit's words in a shell",
        "completion bash > ~/.local/share/bash-completion/completions/convkit",
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command, and return the exit code, whatever happens."""
    try:
        return ended(lambda: run(argv), json_too=_asks_for_json(argv))
    finally:
        VOLUME.quiet = VOLUME.verbose = VOLUME.still = False
        WORK.stage = ""


def run(argv: list[str] | None = None) -> int:
    """Run one command, and return the exit code.

    Raises:
        Exception: a fault of convkit itself. What is wrong with the command or its input is printed.
    """
    return refused(lambda: _call(argv), json_too=_asks_for_json(argv))


def _call(argv: list[str] | None) -> int:
    args = parser().parse_args(argv)
    for name, value in vars(args).items():
        if isinstance(value, Path) and value.name in ("", ".."):
            setattr(args, name, value.resolve())  # receipts and configs are found by this name
    VOLUME.quiet, VOLUME.verbose = args.quiet, args.verbose
    look_up(args)
    from convkit.files.maker import called_as

    try:
        with called_as(["convkit", *(sys.argv[1:] if argv is None else argv)]), named_extras():
            code: int = args.call(args)
    except ConvkitError as error:
        raise answered(error, args.flags, flags_by_command()) from error.__cause__
    return code


def flags_by_command() -> dict[str, Callable[[], Collection[str]]]:
    """What gives the flags of each command, whose module it then imports; those that convert come first."""
    found = {}
    for name, one in COMMANDS.items():
        for inner, command in ({"": one} if isinstance(one, Command) else one.commands).items():
            found[f"{name} {inner}".strip()] = partial(_flags, command)
    first = ("convert", "orbax migrate")
    return {name: found[name] for name in (*first, *(name for name in found if name not in first))}


def _flags(command: Command) -> Collection[str]:
    return Parser(load=partial(_load, command, False)).loaded().flags


def _asks_for_json(argv: list[str] | None) -> bool:
    return "--json" in (sys.argv[1:] if argv is None else argv)


class _Version(argparse.Action):
    """Prints the version; git is asked for the commit only then."""

    def __call__(self, *_: object) -> NoReturn:
        from convkit.version import described

        print(f"convkit {described()}")
        raise SystemExit(0)


def parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    top = Parser(
        prog="convkit",
        description="Converts model checkpoints between frameworks and proves that each conversion is right.",
        epilog="Exit code: 0 success, 1 a check says no, 2 wrong usage, 3 unreadable, unsupported or not total,\n"
        "70 a fault of convkit itself, 130 interrupted. convkit COMMAND --help shows a command's options.",
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print convkit's version and commit, and exit")
    _add_commands(top, "command", COMMANDS, json_default=False)
    return top


def _add_commands(parser: Parser, dest: str, known: Mapping[str, Command | Group], *, json_default: object) -> None:
    commands = parser.add_subparsers(dest=dest, required=True, metavar="COMMAND")
    for name, one in known.items():
        about = one.summary[0].upper() + one.summary[1:] + "."
        if isinstance(one, Group):
            group = commands.add_parser(name, help=one.summary, description=about)
            # subcommands don't set a default, which would hide a --json before them
            _add_commands(group, f"{name}_command", one.commands, json_default=argparse.SUPPRESS)
            _add_common(group, json_default)
        else:
            load = partial(_load, one, json_default)
            commands.add_parser(name, help=one.summary, description=about, load=load, example=one.example)


def _load(command: Command, json_default: object, parser: Parser) -> None:
    """Add a command's options to its parser."""
    module = import_module(f"{__name__}.{command.module}")
    getattr(module, command.options)(parser)
    _add_common(parser, json_default)
    parser.set_defaults(call=getattr(module, command.run), flags=parser.flags)


def _add_common(parser: argparse.ArgumentParser, default: object) -> None:
    """Add the options that every command has."""
    parser.add_argument("--json", action="store_true", default=default, help="print one JSON document")
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument(
        "-q", "--quiet", action="store_true", default=default, help="print only warnings, errors and --json"
    )
    volume.add_argument(
        "-v", "--verbose", action="store_true", default=default, help="shorten no list, and show the trace of a fault"
    )
