"""Replaces ``<!-- generated: NAME WORD... -->`` in a page by what a function makes of the package itself.

The line stands alone, and shows nothing where the sources are read. What is made is Markdown, like the page around it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import commands
import documents
import example_report
import measured
import registries
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

MAKERS: dict[str, Callable[..., str]] = {
    "commands": commands.described,
    "every-command": commands.listed,
    "formats": registries.formats,
    "layouts": registries.layouts,
    "mappings": registries.mappings,
    "families": registries.families,
    "faults-of-roundtrip": registries.faults_of_roundtrip,
    "faults-of-equivalence": registries.faults_of_equivalence,
    "document": documents.described,
    "example-commands": example_report.commands,
    "benchmarks-machine": measured.machine,
    "benchmarks-goals": measured.goals,
    "benchmarks-peers": measured.peers,
    "benchmarks-curves": measured.curves,
    "benchmarks-figures": measured.every_figure,
}
LINE = re.compile(r"^<!-- generated: ([\w-]+)((?: [\w.-]+)*) -->$", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, object]:
    """See :mod:`sphinx.ext`."""
    app.connect("source-read", _expand)
    app.connect("build-finished", _check)
    return {"parallel_read_safe": False}


def _expand(app: Sphinx, page: str, source: list[str]) -> None:
    def made(found: re.Match[str]) -> str:
        name, words = found[1], found[2].split()
        if name not in MAKERS:
            raise ExtensionError(f"{page}: nothing is called {name!r}; there are {', '.join(MAKERS)}")
        return MAKERS[name](*words)

    source[0] = LINE.sub(made, source[0])


def _check(app: Sphinx, error: Exception | None) -> None:
    """Every command is on a page, and every document of which there is a schema."""
    if error is None and (missing := [*commands.missing(), *documents.missing()]):
        raise ExtensionError(f"no page describes {', '.join(missing)}: name it in a comment 'generated: …' of one")
