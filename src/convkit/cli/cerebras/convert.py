"""``convkit cerebras convert``: replaces the command of this name of ModelZoo's converter, with the same flags.

It says in them what ``convkit convert`` is to do. Source of the flags and of the names of outputs: ModelZoo release
2.10.0, ``tools/convert_checkpoint.py``, ``tools/checkpoint_converters/{base_converter,streaming_checkpoints}.py``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convkit.checkpoint import WriteOptions
from convkit.checkpoint.digests import ALGORITHMS
from convkit.cli.cerebras.forms import AUTO, FORMS, Form, form_called, stem
from convkit.cli.cerebras.names import Model, model_called, ways
from convkit.cli.cerebras.packed import (
    CHECKPOINT,
    YAML,
    check_given,
    has_parts,
    holds_others,
    parts_among,
    places_of,
    refuse_parts,
    share_parts,
)
from convkit.cli.convert import converted, print_summary
from convkit.cli.options import allow_missing_option, seed_option
from convkit.cli.output import few_of, note, parse_size, say
from convkit.cli.planning import opened, planned
from convkit.cli.stage import stage
from convkit.cli.volume import VOLUME
from convkit.errors import ConvkitError, UnclaimedError, UsageError
from convkit.execute.publish import writing
from convkit.files.config_file import write_config
from convkit.files.taken import refuse_taken
from convkit.formats import get_format
from convkit.mappings import get_layout
from convkit.plan import Plan
from convkit.plan.detect import detect_layout
from convkit.plan.earlier import layouts_before
from convkit.plan.releases import source_release

#: leaves that a line names
_SHOWN = 12
#: flags of ``convkit convert``, as the original says it
_THEIRS = {
    "from": "--model",
    "to": "--model",
    "release": "--src-fmt or --tgt-fmt",
    "from-release 2.9": "--src-fmt cs-2.9",
}
#: what ``convkit convert`` is told where the original has no flag
_UNSAID: dict[str, Any] = {
    "source_format": None,
    "from_release": None,
    "mup_base": None,
    "drop": [],
    "dtype": None,
    "allow_overflow": False,
    "size": [],
    "variant": [],
    "restore": True,
    "through": [],
    "threads": None,
    "digest": ALGORITHMS[0],
}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "source",
        metavar="CHECKPOINT",
        type=Path,
        help="the checkpoint: a .bin, a .mdl, a .safetensors, an .index.json, or a folder",
    )
    form_options(parser)
    parser.add_argument("--config", metavar="FILE", type=Path, required=True, help="its config")
    output_dir_option(parser)
    parser.add_argument(
        "--hf-shard-size", metavar="SIZE", default="10GB", help="bytes per shard at most, to hf (default: 10GB)"
    )
    parser.add_argument("--export-safetensors", action="store_true", help="write safetensors, to hf")
    parser.add_argument(
        "--drop-unmatched-keys",
        action="store_true",
        help="leave out tensors of CHECKPOINT that no rule knows; the model must be whole without them",
    )
    allow_missing_option(parser)
    seed_option(parser)
    parser.add_argument("--no-progress-bar", action="store_true", help="show no progress")
    parser.add_argument("--debug", action="store_true", help="print what becomes of each tensor")
    overwrite_option(parser)
    parser.set_defaults(**_UNSAID)


def form_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is converted to what."""
    parser.add_argument("--model", metavar="NAME", required=True, help="see convkit cerebras list")
    parser.add_argument(
        "--src-fmt", metavar="FORMAT", required=True, help=f"of the input: {FORMS}, or cs-auto: read from it"
    )
    parser.add_argument(
        "--tgt-fmt", metavar="FORMAT", required=True, help=f"of the output: {FORMS}, or cs-current: the current release"
    )


def output_dir_option(parser: argparse.ArgumentParser) -> None:
    """Add the option of where outputs come."""
    parser.add_argument(
        "--output-dir", metavar="DIR", type=Path, help="where outputs come (default: each beside its input)"
    )


def overwrite_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that replaces outputs."""
    parser.add_argument("--overwrite", action="store_true", help="replace outputs once the new ones are complete")


@dataclass(frozen=True)
class Request:
    """What is asked for: a model, and the format of each side."""

    model: Model
    source: Form
    target: Form

    @property
    def ways(self) -> list[tuple[str, str]]:
        """The layouts between which the mappings lead that can do it.

        Raises:
            UsageError: none can.
        """
        model, source, target = self.model, self.source, self.target
        if source.kind == target.kind == "hf":
            raise UsageError("--src-fmt and --tgt-fmt are both hf", remedy="one of them is a format of Cerebras's")
        if found := ways(model, source.kind, target.kind):
            return found
        problem = f"no mapping leads from {source.text} to {target.text} for {model.name}"
        raise UsageError(problem, remedy="see convkit cerebras list")


def request_of(args: argparse.Namespace) -> Request:
    """What the arguments ask for.

    Raises:
        UsageError: no model or no format is called so.
    """
    source, target = form_called(args.src_fmt, "--src-fmt"), form_called(args.tgt_fmt, "--tgt-fmt")
    return Request(model_called(args.model), source, target)


def in_folders(way: tuple[str, str]) -> bool:
    """Whether one of these layouts is of parts in folders."""
    return any(get_format(get_layout(name).format).components for name in way)


@dataclass(frozen=True)
class Outputs:
    """Where the outputs come.

    Attributes:
        checkpoint: the file or folder of the weights.
        config: the config.
    """

    checkpoint: Path
    config: Path

    @classmethod
    def of(cls, args: argparse.Namespace, target: Form, packed: bool = False) -> Outputs:
        """As the original has them: each beside its input, or all in one folder; transformers' config in its folder.

        The original takes no folder as CHECKPOINT: what is made of one, and of a config in it, comes beside it. What is
        ``packed`` has names of its own, and its parts become folders in that of the outputs.
        """
        place = args.output_dir or args.source.parent
        if packed and target.kind == "hf" and args.output_dir and not holds_others(place):
            return cls(place, place / "config.json")
        if packed and target.kind != "hf":
            return cls(place / f"{CHECKPOINT}_to_{target.text}.mdl", place / f"{YAML}_to_{target.text}.yaml")
        checkpoint = place / f"{stem(args.source.name)}_to_{target.text}{'' if target.kind == 'hf' else '.mdl'}"
        if target.kind == "hf":
            return cls(checkpoint, checkpoint / "config.json")
        folder = (
            place if args.config.resolve().parent == args.source.resolve() else args.output_dir or args.config.parent
        )
        return cls(checkpoint, folder / f"{stem(args.config.name)}_to_{target.text}.yaml")

    @property
    def is_file(self) -> bool:
        """Whether the checkpoint is a file of Cerebras's."""
        return self.config.parent != self.checkpoint

    @property
    def apart(self) -> bool:
        """Whether the config is neither in the checkpoint nor beside it."""
        places = (self.checkpoint, self.checkpoint.parent)
        return self.config.parent.resolve() not in [place.resolve() for place in places]

    @property
    def beside(self) -> str | None:
        """The config's name beside the checkpoint; None if it is in it, or has another place."""
        return self.config.name if self.is_file and not self.apart else None


def run(args: argparse.Namespace) -> int:
    """Convert, and print a summary."""
    request = request_of(args)
    found, how = request.ways, WriteOptions(shard_size=parse_size(args.hf_shard_size), indexed=True)
    found = _open_parts(args, request, found)
    with in_their_words():
        with stage("reading"):
            source = opened(args)
        with source:
            with stage("planning"):
                args.from_, args.to = way_from(found, lambda: detect_layout(source)[0].name, args.source)
                outputs = Outputs.of(args, request.target, in_folders((args.from_, args.to)))
                if outputs.apart:
                    refuse_taken(outputs.config, overwrite=args.overwrite)
                parts = () if outputs.is_file else parts_among(outputs.checkpoint, args.output_dir, request.model)
                refuse_parts(args.output_dir, parts, overwrite=args.overwrite)
                _say_to_convert(args, request, outputs)
                # what an earlier conversion has lost, such as the head, comes back
                args.headless = request.model.headless and not (outputs.is_file and layouts_before(source))
                args.release, args.from_release = request.target.release, request.source.release
                if request.source.text == AUTO:
                    args.from_release = ".".join(map(str, source_release(source, get_layout(args.from_))))
                plan = planned(args, source, drop_unclaimed=args.drop_unmatched_keys)
            _show_fates(args, plan)
            with stage("converting"):
                receipt = converted(args, source, plan, how, config_name=outputs.beside, into_empty=True)
    if outputs.apart:
        with writing(outputs.config):
            write_config(outputs.config, plan.target_config)
    share_parts(outputs.checkpoint, args.output_dir, parts)
    print_summary(args, receipt, source.config_path)
    if not args.json:
        apart = request.target.kind == "hf" and in_folders((args.from_, args.to))
        configs = places_of(outputs.checkpoint, request.model) if apart else [outputs.config]
        say(f"Checkpoint saved to {outputs.checkpoint}", f"Config saved to {' and '.join(map(str, configs))}")
    return 0


def _open_parts(args: argparse.Namespace, request: Request, found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """See to it that the folder of a packed model is opened as one checkpoint, with the configs in it; return the ways
    that start from what is given.

    Raises:
        ConvkitError: the folder isn't whole, or isn't given.
    """
    if request.source.kind != "hf":
        return found
    packed = has_parts(args.source, request.model)
    if packed or all(map(in_folders, found)):
        check_given(args.source, args.config, request.model)
        args.source_format, args.config = "folders", None
    return [way for way in found if in_folders(way) == packed]


def _say_to_convert(args: argparse.Namespace, request: Request, outputs: Outputs) -> None:
    """Put what the flags say into those of ``convkit convert``."""
    args.target, args.format = outputs.checkpoint, None
    if request.target.kind == "hf":
        plain, own = ("folders", "folders-torch") if in_folders((args.from_, args.to)) else ("safetensors", "torch")
        args.format = plain if args.export_safetensors else own
    elif args.export_safetensors:
        note("warning: --export-safetensors is for --tgt-fmt hf: left out")
    VOLUME.still = args.no_progress_bar


def way_from(found: list[tuple[str, str]], detected: Callable[[], str], path: Path) -> tuple[str, str]:
    """The layouts of the way that starts from the source's: the only one, or that from the layout that is detected.

    Raises:
        ConvkitError: its layout isn't recognised, or isn't one of theirs.
    """
    if len(found) == 1:
        return found[0]
    here = detected()
    for way in found:
        if way[0] == here:
            return way
    known = ", ".join(dict.fromkeys(way[0] for way in found))
    raise UsageError(f"is {here}, from which no way leads there", path=path, remedy=f"one leads from {known}")


def _show_fates(args: argparse.Namespace, plan: Plan) -> None:
    """Print what is dropped, and for ``--debug`` what becomes of each leaf."""
    if plan.unclaimed:
        note(f"warning: dropped, as no rule claims them: {few_of(plan.unclaimed, _SHOWN)}")
    if not args.debug or args.json:
        return
    for one in plan.stages:
        for step in one.bound.steps:
            sources, targets = (", ".join(side.key for side in sides) for sides in (step.sources, step.targets))
            say(f"{sources} -> {targets}")
    for key, fate in plan.fates().items():
        if "step" not in fate:
            say(f"{key}: {fate['fate']} ({fate['reason']})")
    for key, origin in plan.origins().items():
        if "step" not in origin:
            say(f"{key}: {origin['origin']} ({origin['reason']})")


@contextmanager
def in_their_words() -> Iterator[None]:
    """Name the original's flags in remedies, instead of those of ``convkit convert``."""
    try:
        yield
    except UnclaimedError as error:
        remedy = "--drop-unmatched-keys leaves out what isn't needed; or name the right --model"
        raise UnclaimedError(error.problem, path=error.path, key=error.key, remedy=remedy) from None
    except ConvkitError as error:
        remedy = re.sub(r"--(from-release 2.9|from|to|release)\b", lambda found: _THEIRS[found[1]], error.remedy or "")
        if remedy == (error.remedy or ""):
            raise
        raise type(error)(error.problem, path=error.path, key=error.key, remedy=remedy) from error.__cause__
