"""Remedies for the command that prints them: the package knows its options, not which command has which."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from convkit.errors import ConvkitError

_FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def answered(
    error: ConvkitError, flags: Collection[str], others: Mapping[str, Callable[[], Collection[str]]]
) -> ConvkitError:
    """The error, whose remedy says which command has the options that the one that prints it lacks.

    Args:
        error: a remedy that names a command says itself whose its options are.
        flags: those of the command that prints it.
        others: by command, its flags; the first that has one is named.
    """
    remedy = error.remedy or ""
    lacking = [flag for flag in dict.fromkeys(_FLAG.findall(remedy)) if flag not in flags]
    if not lacking or "convkit " in remedy:
        return error
    whose: dict[str, list[str]] = {}
    for flag in lacking:
        owner = next((name for name, known in others.items() if flag in known()), None)
        if owner is not None:
            whose.setdefault(owner, []).append(flag)
    said = (
        f"{' and '.join(found)} {'are options' if len(found) > 1 else 'is an option'} of convkit {owner}"
        for owner, found in whose.items()
    )
    return type(error)(error.problem, path=error.path, key=error.key, remedy="; ".join((remedy, *said)))
