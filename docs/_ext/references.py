"""Lets docstrings name what no page describes, such as a module that isn't an interface, if it is really there."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

from docutils.nodes import Element, TextElement
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def setup(app: Sphinx) -> dict[str, object]:
    """See :mod:`sphinx.ext`."""
    app.connect("missing-reference", _named)
    return {"parallel_read_safe": True}


def _named(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: TextElement) -> Element | None:
    target = str(node.get("reftarget", ""))
    return text if node.get("refdomain") == "py" and target.startswith("convkit.") and _is_there(target) else None


def _is_there(name: str) -> bool:
    """Whether a dotted name leads to a module, or to something in one."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        with suppress(ModuleNotFoundError):
            found: Any = import_module(".".join(parts[:n]))
            for part in parts[n:]:
                found = getattr(found, part, None)
            return found is not None
    return False
