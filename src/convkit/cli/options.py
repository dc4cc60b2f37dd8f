"""What each command takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from convkit.checkpoint.digests import ALGORITHMS

Parser = argparse.ArgumentParser

#: command -> (its module, one line)
COMMANDS: dict[str, tuple[str, str]] = {
    "fetch": ("fetch", "bring a checkpoint here, whole and verified"),
    "inspect": ("inspect", "say what a checkpoint is: format, layout, variant, config, leaves"),
    "list": ("list", "list formats, layouts or mappings"),
    "plan": ("plan", "decide the fate of every leaf, without reading a tensor"),
    "convert": ("convert", "convert a checkpoint, and leave a receipt"),
    "te": ("te", "convert T5X or Pax to Transformer Engine or back, as JAX-Toolbox's converter did"),
    "cerebras": ("cerebras", "repair old Cerebras checkpoints, and carry their loader state over"),
    "orbax": ("orbax", "check Orbax checkpoints, and migrate them between its two APIs"),
    "roundtrip": ("check", "reconvert by the inverse and compare with the source bit by bit"),
    "equivalence": ("check", "run both models on the same inputs and compare them layer by layer"),
    "diff": ("check", "compare structure and values of two checkpoints"),
    "verify": ("check", "check a checkpoint against its receipt"),
    "report": ("report", "make the page of a campaign, or of one conversion"),
}


def add_options(command: str, parser: Parser) -> None:
    """Add the options of one command."""
    _OPTIONS[command](parser)


def _fetch(parser: Parser) -> None:
    parser.add_argument(
        "uri", metavar="URI", help="path, file://, package://, generated://, http(s)://, s3://, gs://, hf://"
    )
    parser.add_argument("destination", metavar="DST", type=Path)
    parser.add_argument("--sha256", metavar="HEX", help="refuse anything else")
    parser.add_argument("--retries", metavar="N", type=int, default=3)
    parser.add_argument("--overwrite", action="store_true", help="replace what has the name of the destination")


def _inspect(parser: Parser) -> None:
    parser.add_argument("path", metavar="PATH", type=Path)
    parser.add_argument("--digest", action="store_true", help="read everything and give each leaf's content digest")
    parser.add_argument("--algorithm", choices=ALGORITHMS, default=ALGORITHMS[0])
    _config(parser)
    _source_format(parser)


def _list(parser: Parser) -> None:
    parser.add_argument("what", choices=("formats", "layouts", "mappings"))


def _plan(parser: Parser) -> None:
    parser.add_argument("source", metavar="SRC", type=Path)
    _conversion(parser)


def _convert(parser: Parser) -> None:
    parser.add_argument("source", metavar="SRC", type=Path)
    parser.add_argument("target", metavar="DST", type=Path)
    _conversion(parser)
    parser.add_argument("--threads", metavar="N", type=int, help="default: one a core")
    parser.add_argument("--shard-size", metavar="SIZE", help="bytes a shard at most: 5GB, 500MB, 2GiB")
    parser.add_argument("--digest", choices=ALGORITHMS, default=ALGORITHMS[0], help="of every leaf, in the receipt")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing DST once the new one is complete")


def _conversion(parser: Parser) -> None:
    parser.add_argument(
        "--to", metavar="LAYOUT", help="see convkit list layouts; none to migrate Orbax to another --format of its own"
    )
    parser.add_argument("--from", metavar="LAYOUT", dest="from_", help="default: detected")
    parser.add_argument("--format", metavar="FORMAT", help="format of DST (default: the layout's own)")
    parser.add_argument("--release", metavar="R", help="release of the layout, such as 2.9 (default: the current one)")
    parser.add_argument("--drop", metavar="KEY", action="append", default=[], help="leave out a leaf by name or glob")
    parser.add_argument("--dtype", metavar="DTYPE", help="cast floating-point tensors (default: preserve)")
    parser.add_argument("--headless", action="store_true", help="the base model's own keys, without a head")
    parser.add_argument(
        "--size",
        metavar="NAME=N",
        action="append",
        default=[],
        help="a size that the checkpoint can't tell, or a check",
    )
    parser.add_argument(
        "--variant", metavar="NAME=CHOICE", action="append", default=[], help="a choice within the layout of DST"
    )
    parser.add_argument(
        "--no-restore", dest="restore", action="store_false", help="don't use the receipt of an earlier conversion"
    )
    _config(parser)
    _source_format(parser)


def _te(parser: Parser) -> None:
    parser.add_argument(
        "--input-path",
        metavar="DIR",
        dest="source",
        type=Path,
        required=True,
        help="the folder that holds the leaves (Pax: or the step's folder)",
    )
    parser.add_argument(
        "--output-path",
        metavar="DIR",
        dest="target",
        type=Path,
        required=True,
        help="the folder to make",
    )
    parser.add_argument("--fw", choices=("pax", "t5x"), required=True)
    parser.add_argument("--direction", metavar="{fw2te,te2fw}", required=True)
    sizes = parser.add_argument_group("sizes", "read from the checkpoint, and checked where given")
    for flag, name, what in TE_SIZES:
        sizes.add_argument(flag, metavar="N", dest=name, type=int, help=what)
    for flag, what in (
        ("--weight-only", "convert the weights, and keep the optimizer's state as it is"),
        ("--skip-ln", "keep norms under the names that they have"),
        ("--skip-bias", "keep biases under the names that they have"),
        ("--use-gated-activations", "said of a gated model; read from the checkpoint"),
        ("--pax-repeat", "said of stacked layers; read from the checkpoint"),
        ("--pax-split-qkv", "Pax has query, key and value apart; read from the checkpoint, asked for in te2fw"),
        ("--t5x-fuse-qkv", "TE has query, key and value in one kernel"),
    ):
        parser.add_argument(flag, action="store_true", help=what)
    parser.add_argument(
        "--te-qkv-layout",
        choices=("qkv_packed", "kv_packed"),
        help="of Pax in TE (default: qkv_packed, and kv_packed for grouped keys and values)",
    )
    parser.add_argument("--kernel-chunk-size", metavar="C", type=int, help="chunks of kernels along the model's width")
    parser.add_argument("--gen-fp8-meta", action="store_true", help="make TE's metas of FP8, for fw2te")
    parser.add_argument("--amax-history-len", metavar="N", type=int, help="slots of its histories (default: 1024)")
    parser.add_argument("--overwrite", action="store_true", help="replace the output once the new one is complete")
    parser.add_argument("--te-release", metavar="R", help="of TE: halves of Pax's gated MLP, names of FP8 metas")
    parser.add_argument(
        "--te-norm-scale",
        choices=("stored", "direct"),
        default=None,
        help="scales of Pax's LayerNorm as they are (default), or with 1 added, for TE without zero-centered gamma",
    )
    parser.add_argument("--threads", metavar="N", type=int, help="default: one a core")
    parser.add_argument("--digest", choices=ALGORITHMS, default=ALGORITHMS[0], help="of every leaf, in the receipt")


#: flags of ``te``, their declared names, and what they are
TE_SIZES = (
    ("--num-of-layer", "layers", "layers"),
    ("--num-of-head", "heads", "heads; needed from TE to Pax where no receipt says it"),
    ("--num-gqa-groups", "kv_heads", "heads of keys and values"),
    ("--head-dim", "head_dim", "size of a head"),
    ("--mlp-intermediate-dim", "mlp", "width of the feed-forward layer"),
    ("--embed-dim", "embed", "width of the model"),
)


def _cerebras(parser: Parser) -> None:
    _subcommands(parser, "cerebras_command", _CEREBRAS)


def _orbax(parser: Parser) -> None:
    _subcommands(parser, "orbax_command", _ORBAX)


def _subcommands(parser: Parser, dest: str, known: dict[str, tuple[Callable[[Parser], None], str]]) -> None:
    """Add a group's commands: their options, one line each."""
    commands = parser.add_subparsers(dest=dest, required=True, metavar="COMMAND")
    for name, (add, summary) in known.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        add(command)
        # no default of its own: it would hide one that stands before the command
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")


def _fix_checkpoint_spec(parser: Parser) -> None:
    parser.add_argument("checkpoint_path", metavar="CHECKPOINT", type=Path)
    parser.add_argument(
        "--fixed_checkpoint_path",
        "--fixed-checkpoint-path",
        metavar="P",
        type=Path,
        help="the file to write (default: CHECKPOINT with _fixed after its stem)",
    )
    parser.add_argument("--fix_inplace", "--fix-inplace", action="store_true", help="replace CHECKPOINT, once verified")
    parser.add_argument("--yes", action="store_true", help="don't ask before replacing it")
    parser.add_argument(
        "--no-backup", dest="backup", action="store_false", help="don't keep what is replaced as CHECKPOINT.bak"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing P once the new one is complete")
    parser.add_argument("--copy-healthy", action="store_true", help="write P also where there is nothing to repair")
    parser.add_argument("--dry-run", action="store_true", help="say what is to be repaired, and write nothing")


def _data_iter_state(parser: Parser) -> None:
    parser.add_argument("-c", "--old_checkpoint", metavar="OLD", type=Path, required=True, help="the checkpoint")
    parser.add_argument(
        "-w",
        "--worker_data_iter_files_dir",
        metavar="DIR",
        type=Path,
        required=True,
        help="the folder with the global file and the workers' files; with --reverse the one to make",
    )
    parser.add_argument("-o", "--output_file", metavar="OUT", type=Path, help="the checkpoint to write")
    parser.add_argument("-d", "--dataloader_type", choices=("map", "iterable"), default="map", help="default: map")
    parser.add_argument("-s", "--shuffle_seed", metavar="SEED", type=int, default=0, help="of a map loader; default: 0")
    parser.add_argument("--allow-missing-workers", action="store_true", help="go on where worker ids have gaps")
    parser.add_argument("--replace", action="store_true", help="replace the loader state that OLD has already")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing OUT once the new one is complete")
    parser.add_argument("--dry-run", action="store_true", help="say what is to be put in, and write nothing")
    parser.add_argument("--reverse", action="store_true", help="write the workers' files from the state in OLD")


#: commands of ``cerebras``: their options, one line
_CEREBRAS: dict[str, tuple[Callable[[Parser], None], str]] = {
    "fix-checkpoint-spec": (_fix_checkpoint_spec, "repair a checkpoint of a release before 2.0"),
    "data-iter-state": (_data_iter_state, "put the loader state of release 1.9 into a checkpoint, as since 2.0"),
}


def _orbax_migrate(parser: Parser) -> None:
    parser.add_argument(
        "source", metavar="SRC", type=Path, help="a root, a step, a checkpoint without items, or an item"
    )
    parser.add_argument("target", metavar="DST", type=Path)
    parser.add_argument("--to", choices=("v0", "v1"), help="the API that is to load DST")
    parser.add_argument("--dual", action="store_true", help="write what both APIs load")
    parser.add_argument(
        "--mode",
        choices=("metadata", "rewrite"),
        help="keep the data and write new metadata, or write all arrays anew (default: what must be)",
    )
    parser.add_argument("--step", metavar="N", type=int, action="append", default=[], help="of a root; default: all")
    parser.add_argument("--zarr", type=int, choices=(2, 3), help="write arrays anew, as this version of zarr")
    parser.add_argument("--ocdbt", choices=("on", "off"), help="write arrays anew, in a database or in folders")
    parser.add_argument("--compressor", metavar="C", help="write arrays anew: none, zstd, gzip, also zstd:3")
    parser.add_argument("--chunk-size", metavar="SIZE", help="write arrays anew, in chunks of that much at most: 16MiB")
    parser.add_argument("--copy", action="store_true", help="copy data files; default: hard links where possible")
    parser.add_argument(
        "--afresh", action="store_true", help="don't give back what the receipt of an earlier migration keeps"
    )
    parser.add_argument(
        "--no-restore", dest="restore", action="store_false", help="don't have the real Orbax restore the result"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier migration once this is complete")
    parser.add_argument("--dry-run", action="store_true", help="say what is to be done, and write nothing")
    parser.add_argument("--threads", metavar="N", type=int, help="default: one a core")
    parser.add_argument("--digest", choices=ALGORITHMS, default=ALGORITHMS[0], help="of every file, in the receipt")


def _orbax_check(parser: Parser) -> None:
    parser.add_argument("path", metavar="PATH", type=Path, help="a root, a step, a checkpoint, an item or a file")
    parser.add_argument("--run", action="store_true", help="make each call in the installed Orbax, and compare")
    parser.add_argument(
        "--devices", metavar="N", type=int, default=1, help="CPU devices on which to load it (default: 1)"
    )
    _no_fail(parser)


def _orbax_guide(parser: Parser) -> None:
    """It has no options."""


#: commands of ``orbax``: their options, one line
_ORBAX: dict[str, tuple[Callable[[Parser], None], str]] = {
    "migrate": (_orbax_migrate, "migrate a checkpoint or a root to the other API"),
    "check": (_orbax_check, "say which calls of either API load a checkpoint, and what Orbax hides about it"),
    "guide": (_orbax_guide, "print which methods of v1's Checkpointer replace those of v0's CheckpointManager"),
}


def _checked(parser: Parser) -> None:
    parser.add_argument("source", metavar="SRC", type=Path)
    parser.add_argument("target", metavar="DST", type=Path)
    parser.add_argument("--from", metavar="LAYOUT", dest="from_", help="layout of SRC, where no receipt says it")
    parser.add_argument("--to", metavar="LAYOUT", help="layout of DST, where no receipt says it")
    _config(parser)
    parser.add_argument("--target-config", metavar="FILE", type=Path, help="the config of DST")
    _source_format(parser)
    _no_fail(parser)


def _roundtrip(parser: Parser) -> None:
    _checked(parser)
    parser.add_argument("--release", metavar="R", help="release of the layout, where no receipt says it")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep the reconverted checkpoint")


def _equivalence(parser: Parser) -> None:
    _checked(parser)
    parser.add_argument("--probe-length", metavar="N", type=int, default=256, help="positions of the input")


def _diff(parser: Parser) -> None:
    parser.add_argument("source", metavar="A", type=Path)
    parser.add_argument("target", metavar="B", type=Path)
    _no_fail(parser)


def _verify(parser: Parser) -> None:
    parser.add_argument("path", metavar="PATH", type=Path)
    _no_fail(parser)


def _report(parser: Parser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path)
    _no_fail(parser)


def _config(parser: Parser) -> None:
    parser.add_argument("--config", metavar="FILE", type=Path, help="the config of the source (default: beside it)")


def _source_format(parser: Parser) -> None:
    parser.add_argument("--source-format", metavar="FORMAT", help="default: detected; safetensors wins")


def _no_fail(parser: Parser) -> None:
    parser.add_argument("--no-fail", action="store_true", help="exit 0 when the verdict is no")


_OPTIONS: dict[str, Callable[[Parser], None]] = {
    "fetch": _fetch,
    "inspect": _inspect,
    "list": _list,
    "plan": _plan,
    "convert": _convert,
    "te": _te,
    "cerebras": _cerebras,
    "orbax": _orbax,
    "roundtrip": _roundtrip,
    "equivalence": _equivalence,
    "diff": _diff,
    "verify": _verify,
    "report": _report,
}
