"""``convkit te``: replaces JAX-Toolbox's TE converter, with the same flags.

Source of the flags: JAX-Toolbox, ``rosetta/utils/te_pax_t5x_ckpt_converter/converter/main.py`` at 3e33819f; those of
FP8 at ebc97458.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convkit.checkpoint import WriteOptions
from convkit.checkpoint.digests import ALGORITHMS
from convkit.cli.convert import print_summary
from convkit.cli.options import allow_missing_option, drop_option
from convkit.cli.output import note, progress
from convkit.errors import UsageError
from convkit.execute import convert
from convkit.mapping.layout import parse_release
from convkit.plan import Options, Plan, Source, make_plan, open_source
from convkit.plan.detect import detect_layout

#: layout -> the layouts on the other side, the most common first
OTHER = {
    "t5x/t5": ("te/t5", "te/t5-fused"),
    "te/t5": ("t5x/t5",),
    "te/t5-fused": ("t5x/t5",),
    "pax/lm": ("te/pax",),
    "te/pax": ("pax/lm",),
    "pax/lm-repeat": ("te/pax-repeat",),
    "te/pax-repeat": ("pax/lm-repeat",),
}
#: the first release in which TE swaps the halves of a gated activation
GATE_FIRST = (1, 8)
#: the first releases of each naming of FP8 metas in TE, as the mappings call it
FP8_NAMES = {"2.3": (2, 3), "1.8": (1, 8), "1.0": ()}
#: the last release before NVIDIA discontinued T5X and Pax
LAST = (2, 2)


#: flags of ``te``, their declared names, and their help
TE_SIZES = (
    ("--num-of-layer", "layers", "layers"),
    ("--num-of-head", "heads", "heads; needed from TE to Pax if no receipt records them"),
    ("--num-gqa-groups", "kv_heads", "heads of keys and values"),
    ("--head-dim", "head_dim", "size of a head"),
    ("--mlp-intermediate-dim", "mlp", "width of the feed-forward layer"),
    ("--embed-dim", "embed", "width of the model"),
)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
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
    parser.add_argument("--fw", choices=("pax", "t5x"), required=True, help="the framework on the other side")
    parser.add_argument("--direction", metavar="{fw2te,te2fw}", required=True, help="from the framework to TE, or back")
    sizes = parser.add_argument_group("sizes", "read from the checkpoint, and checked if given")
    for flag, name, what in TE_SIZES:
        sizes.add_argument(flag, metavar="N", dest=name, type=int, help=what)
    for flag, what in (
        ("--weight-only", "convert the weights, and keep the optimizer's state unchanged"),
        ("--skip-ln", "keep the names of norms"),
        ("--skip-bias", "keep the names of biases"),
        ("--use-gated-activations", "the model is gated; read from the checkpoint"),
        ("--pax-repeat", "the layers are stacked; read from the checkpoint"),
        ("--pax-split-qkv", "Pax has separate query, key and value; read from the checkpoint, needed in te2fw"),
        ("--t5x-fuse-qkv", "TE has query, key and value in one kernel"),
    ):
        parser.add_argument(flag, action="store_true", help=what)
    parser.add_argument(
        "--te-qkv-layout",
        choices=("qkv_packed", "kv_packed"),
        help="of Pax in TE (default: qkv_packed, and kv_packed for grouped keys and values)",
    )
    drop_option(parser)
    allow_missing_option(parser)
    parser.add_argument("--kernel-chunk-size", metavar="C", type=int, help="chunks of kernels along the model's width")
    parser.add_argument("--gen-fp8-meta", action="store_true", help="make FP8 metas for TE, in fw2te")
    parser.add_argument("--amax-history-len", metavar="N", type=int, help="slots of the amax histories (default: 1024)")
    parser.add_argument("--overwrite", action="store_true", help="replace the output once the new one is complete")
    parser.add_argument("--te-release", metavar="R", help="TE release: halves of Pax's gated MLP, names of FP8 metas")
    parser.add_argument(
        "--te-norm-scale",
        choices=("stored", "direct"),
        default=None,
        help="scales of Pax's LayerNorm unchanged (default), or with 1 added, for TE without zero-centered gamma",
    )
    parser.add_argument("--threads", metavar="N", type=int, help="default: one per core")
    parser.add_argument("--digest", choices=ALGORITHMS, default=ALGORITHMS[0], help="for leaves, in the receipt")


def run(args: argparse.Namespace) -> int:
    """Convert, and print a summary."""
    _check(args)
    with (
        open_source(args.source, format=args.fw, watch=args.watch) as source,
        progress(f"{args.source} -> {args.target}") as advance,
    ):
        here = _layout(args, source)
        plan = make_plan(source, OTHER[here][-1 if args.t5x_fuse_qkv else 0], here, _options(args))
        for warning in _warnings(args, plan):
            note(f"warning: {warning}")
        receipt = convert(
            source,
            plan,
            args.target,
            threads=args.threads,
            options=WriteOptions(chunks=_chunks(plan, args.kernel_chunk_size), metadata=_metadata(args.target)),
            digest=args.digest,
            overwrite=args.overwrite,
            progress=advance,
        )
    print_summary(args, receipt, source.config_path)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Check flags for which argparse has a less helpful message.

    Raises:
        UsageError: a flag is wrong; the error names it.
    """
    if args.direction not in ("fw2te", "te2fw"):
        meant = "; the original's manual misspells te2fw" if args.direction == "fw2tw" else ""
        raise UsageError(
            f"--direction {args.direction}", remedy=f"fw2te (framework to TE) or te2fw (TE to framework){meant}"
        )
    flags = ("--amax-history-len", "--kernel-chunk-size", "--threads")
    numbers = [(flag, name) for flag, name, _ in TE_SIZES]
    for flag, name in [*numbers, *((flag, flag[2:].replace("-", "_")) for flag in flags)]:
        if (number := getattr(args, name)) is not None and number < 1:
            raise UsageError(f"{flag} {number}", remedy="at least 1")


def _layout(args: argparse.Namespace, source: Source) -> str:
    """Find the layout of the input.

    Raises:
        UsageError: it is on the other side of the direction, or contradicts the flags.
    """
    here = detect_layout(source)[0].name
    to_te = args.direction == "fw2te"
    if here not in OTHER or here.startswith("te/") == to_te:
        raise UsageError(
            f"is {here}, but --direction {args.direction} needs {'a T5X or Pax' if to_te else 'a TE'} checkpoint",
            path=args.source,
            remedy=f"--direction {'te2fw' if to_te else 'fw2te'}" if here in OTHER else "name another input",
        )
    fw = "t5x" if here.partition("/")[2].startswith("t5") else "pax"
    if fw != args.fw:
        raise UsageError(f"is {here}, but --fw says {args.fw}", path=args.source, remedy=f"--fw {fw}")
    if args.pax_repeat and not here.endswith("-repeat"):
        raise UsageError(f"--pax-repeat, but {here} has a subtree per layer", path=args.source, remedy="leave it out")
    if args.t5x_fuse_qkv and here == "te/t5":
        raise UsageError("--t5x-fuse-qkv, but query, key and value are split", path=args.source, remedy="leave it out")
    return here


def _options(args: argparse.Namespace) -> Options:
    choices: dict[str, str] = {}
    if args.weight_only:
        choices["scope"] = "weights"
    if args.skip_ln:
        choices["norms"] = "kept"
    if args.skip_bias and args.fw == "pax":
        choices["biases"] = "kept"
    if args.te_release and args.fw == "pax":
        choices["te_release"] = "1.8" if _release(args) >= GATE_FIRST else "1.0"
    if args.te_norm_scale and args.fw == "pax":
        choices["te_norm"] = args.te_norm_scale
    if args.te_qkv_layout and args.fw == "pax" and args.direction == "fw2te":
        choices["te_qkv"] = {"qkv_packed": "qkv", "kv_packed": "query"}[args.te_qkv_layout]
    if args.pax_split_qkv and args.direction == "te2fw":
        choices["pax_qkv"] = "query"
    given = {name: size for _, name, _ in TE_SIZES if (size := getattr(args, name)) is not None}
    if args.gen_fp8_meta and args.direction == "fw2te":
        choices["fp8"] = next(since for since, first in FP8_NAMES.items() if _release(args) >= first)
        given |= {"amax_history": args.amax_history_len} if args.amax_history_len else {}
    return Options(
        format=args.fw,
        drop=tuple(args.drop),
        allow_missing=tuple(args.allow_missing),
        given=given,
        choices=choices,
    )


def _release(args: argparse.Namespace) -> tuple[int, ...]:
    return parse_release(args.te_release) if args.te_release else LAST


def _warnings(args: argparse.Namespace, plan: Plan) -> Iterator[str]:
    for flag in _contradicted(args, plan):
        yield f"{flag} contradicts the checkpoint: ignored"
    if args.gen_fp8_meta and args.direction == "te2fw":
        yield "--gen-fp8-meta is for fw2te: left out"
    if args.amax_history_len and not args.gen_fp8_meta:
        yield "--amax-history-len is for --gen-fp8-meta: left out"


def _contradicted(args: argparse.Namespace, plan: Plan) -> Iterator[str]:
    """Find flags that contradict the checkpoint; the original ignored them, or crashed."""
    if args.use_gated_activations and plan.names["activations"] < 2:
        yield "--use-gated-activations"
    if args.pax_split_qkv and plan.names.get("pax_qkv") == "combined_qkv":
        yield "--pax-split-qkv"
    if (
        args.te_qkv_layout
        and plan.names.get("te_qkv") != {"qkv_packed": "qkv", "kv_packed": "query"}[args.te_qkv_layout]
    ):
        yield "--te-qkv-layout"


def _metadata(target: Path) -> dict[str, Any]:
    """Omit the item of Pax's metadata, unless the output's name implies one beside it: ``state``."""
    return {} if target.name == "state" else {"pax_metadata": None}


def _chunks(plan: Plan, size: int | None) -> dict[str, tuple[int, ...]]:
    """Chunks of that size along the width of the model, if the mapping calls it ``D``; other axes are whole."""
    chunks: dict[str, tuple[int, ...]] = {}
    if size is None:
        return chunks
    for side in (side for step in plan.bound.steps for side in step.targets):
        axes = [str(axis) for axis in side.axes.dims]
        if "D" in axes:
            shape = zip(axes, side.spec.shape, strict=True)
            chunks[side.key] = tuple(size if axis == "D" else length for axis, length in shape)
    return chunks
