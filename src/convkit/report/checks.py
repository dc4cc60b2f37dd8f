"""The checks that make up a proof, and the column ``checks`` of the table of checkpoints, which asks for them.

An empty cell asks for all of them, ``none`` for none. Otherwise a cell is a list of checks separated by commas, in
which ``equivalence:faults=all`` also gives an option of the check's command: ``--faults=all``.
"""

from __future__ import annotations

from convkit.errors import UsageError

#: the checks that make up a proof
CHECKS = ("roundtrip", "equivalence")
#: what a cell says that asks for no check
NONE = "none"


def checks_asked_for(cell: str) -> dict[str, dict[str, str]]:
    """The checks that a cell asks for, in the order in which they run, each with the options given for it.

    Raises:
        UsageError: a word of the cell names no check, gives no option, or is there twice.
    """
    words = [word.strip() for word in cell.split(",")]
    if words == [""]:
        return {check: {} for check in CHECKS}
    if words == [NONE]:
        return {}
    asked: dict[str, dict[str, str]] = {}
    seen = set[str]()
    for word in words:
        check, colon, given = word.partition(":")
        option, sign, value = given.partition("=")
        if word == NONE:
            raise UsageError(f"{word!r} beside other words", remedy=f"a cell that says {NONE} says nothing else")
        if check not in CHECKS:
            known = ", ".join(CHECKS)
            raise UsageError(f"{word!r} names no check", remedy=f"known are {known}; {NONE} leaves out both")
        if colon and not (option and sign and value):
            raise UsageError(f"{word!r} gives no option", remedy=f"write {check}:OPTION=VALUE")
        if (name := f"{check}{colon}{option}") in seen:
            raise UsageError(f"{name!r} is there twice", remedy="give it once")
        seen.add(name)
        asked.setdefault(check, {}).update({option: value} if colon else {})
    return {check: asked[check] for check in CHECKS if check in asked}
