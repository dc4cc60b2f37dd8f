"""Refuse leaves of the source that no rule claims, and say how to leave them out."""

from __future__ import annotations

from collections.abc import Collection

from convkit.errors import UnclaimedError

#: leaves that an error names after the first, and branches of leaves that its remedy names
_SHOWN, _BRANCHES = 3, 6


def check_claimed(name: str, leaves: Collection[str], claimed: Collection[str]) -> None:
    """Check that each leaf has a fate.

    Args:
        name: of the mapping.
        leaves: of the source.
        claimed: those that have one.

    Raises:
        UnclaimedError: one has none.
    """
    lost = [key for key in leaves if key not in claimed]
    if not lost:
        return
    first, *others = lost
    shown = f"{', '.join(others[:_SHOWN])}{', ...' if others[_SHOWN:] else ''}"
    more = f" (and {len(others)} more: {shown})" if others else ""
    named = _branches(lost, claimed)
    drops = " ".join(f"--drop '{one}'" for one in named[:_BRANCHES])
    raise UnclaimedError(
        f"no rule of {name} claims it{more}",
        key=first,
        remedy=f"drop what isn't needed by name: {drops}{' ...' if named[_BRANCHES:] else ''}, "
        "or name the right layout",
    )


def _branches(lost: Collection[str], claimed: Collection[str]) -> list[str]:
    """Names and globs of the lost leaves: a glob of all leaves below a prefix, where several are and all are lost."""
    kept = {prefix for key in claimed for prefix in _prefixes(key)}
    found: dict[str, list[str]] = {}
    for key in lost:
        branch = next((prefix for prefix in _prefixes(key) if prefix not in kept), key)
        found.setdefault(branch, []).append(key)
    return [f"{branch}*" if len(keys) > 1 else keys[0] for branch, keys in found.items()]


def _prefixes(key: str) -> list[str]:
    """``a.``, ``a.b.`` of ``a.b.c``; slashes are joints too."""
    return [key[: place + 1] for place, letter in enumerate(key) if letter in "./"]
