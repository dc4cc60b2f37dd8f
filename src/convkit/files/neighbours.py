"""What lies beside a target by the name that convkit gives it, and is stale as soon as the target is replaced."""

from __future__ import annotations

from pathlib import Path

from convkit.errors import ConvkitError
from convkit.files.config_file import find_config, read_config
from convkit.files.receipt import CONVERSION, complement_path, read_receipt, receipts_beside


def companions_path(target: Path) -> Path:
    """Where the companions lie of a checkpoint that is one file, or a folder that holds nothing of others."""
    return target.with_name(target.name + ".companions")


def fetch_record_path(target: Path) -> Path:
    """Where the record of a fetch of ``target`` lies."""
    return target.with_name(target.name + ".fetch.json")


def left_beside(target: Path, source: Path | None = None) -> list[Path]:
    """What earlier work left beside ``target``: receipts, a complement, the record of a fetch, companions, a config.

    A config is counted only if it is what the receipt says, so that no edited one is lost, and if ``source``, from
    which the target is to be made, doesn't use it.
    """
    receipts = receipts_beside(target)
    left = [*receipts, complement_path(target), fetch_record_path(target)]
    if receipts:
        left += [companions_path(target), *_configs(target, source)]
    return [path for path in left if path.exists()]


def _configs(target: Path, source: Path | None) -> list[Path]:
    try:
        receipt = read_receipt(target, CONVERSION)
        config = receipt["plan"]["target"]["config"] if receipt else None
        own = [target.with_suffix(suffix) for suffix in (".yaml", ".json")]
        used = find_config(source) if source else None
        return [path for path in own if config and path.is_file() and path != used and read_config(path) == config]
    except (ConvkitError, KeyError, TypeError):  # what can't be read isn't known to be convkit's
        return []
