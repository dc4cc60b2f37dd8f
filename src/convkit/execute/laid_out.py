"""What a conversion lays out, and what is the same of any two runs that make the same output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from convkit.checkpoint import Leaf, WriteOptions
from convkit.checkpoint.digests import digest_file, digest_value
from convkit.execute.places import Work
from convkit.files.receipt import CONVERSION, json_value
from convkit.formats import get_format
from convkit.plan import Plan, Source


def work_of(source: Source, target: Path, *, overwrite: bool, into_empty: bool, in_parts: bool = False) -> Work:
    """The task of a conversion."""
    files = source.checkpoint.files()
    return Work(
        CONVERSION,
        source.path,
        target,
        overwrite=overwrite,
        below_source=all(file.parent == source.path for file in files),
        into_empty=into_empty,
        reads=[*files, *source.companions.values(), *([source.config_path] if source.config_path else [])],
        watch=source.watch,
        in_parts=in_parts,
    )


def identity_of(
    source: Source, plan: Plan, options: WriteOptions, digest: str, config_name: str | None
) -> dict[str, Any]:
    """What a run must have in common with a killed one to resume it, except the files of the source; of tensors the
    journal has digests.
    """
    checkpoint = source.checkpoint
    values = {key: json_value(leaf.value) for key, leaf in checkpoint.leaves.items() if leaf.spec is None}
    named = {"config": config_name} if config_name else {}
    return named | {
        "plan": plan.digest,
        "values": digest_value("sha256", [values, checkpoint.metadata, options.metadata]),
        "companions": [[name, digest_file("sha256", path)] for name, path in source.companions.items()],
        "options": [
            *(options.shard_size, options.indexed, sorted(options.chunks.items())),
            *(options.compressor, options.zarr, options.ocdbt),
        ],
        "digest": digest,
    }


def written_leaves(plan: Plan) -> dict[str, Leaf]:
    """Target leaves; in a format without ties, tied leaves are written in full."""
    if get_format(plan.target_format).ties:
        return plan.target_leaves
    return {key: replace(leaf, same_as=None) for key, leaf in plan.target_leaves.items()}


def target_options(source: Source, plan: Plan, options: WriteOptions) -> WriteOptions:
    """The options, with the config and the source's metadata that the target's format takes over."""
    target, leaves = get_format(plan.target_format), list(plan.target_leaves.values())
    carried = target.carried_over(source.checkpoint.metadata, plan.moved(), leaves)
    config = (plan.target_config or None) if target.holds_config else None
    return replace(options, metadata={**carried, **options.metadata}, config=config)
