"""Every page of ``docs/`` lies in the folder of its kind, and the navigation of the site has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import convkit
from convkit.cli import COMMANDS

DOCS = Path(__file__).resolve().parents[2] / "docs"
KINDS = ("tutorial", "how-to", "reference", "explanation")


def listed(page: Path) -> set[Path]:
    """The pages in the navigation of a page."""
    found = re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    entries = [line for entries in found for line in entries.splitlines() if line and not line.startswith(":")]
    return {(page.parent / f"{entry}.md").resolve() for entry in entries}


def test_the_index_lists_the_kinds() -> None:
    assert listed(DOCS / "index.md") == {DOCS / kind / "index.md" for kind in KINDS}


def test_every_page_lies_in_the_folder_of_its_kind() -> None:
    outside = [path.name for path in DOCS.glob("*.md") if path.name != "index.md"]
    assert not outside, f"move {', '.join(outside)} into one of {', '.join(KINDS)}: a guide to a task is a how-to"


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_is_in_the_navigation(kind: str) -> None:
    pages = {*(DOCS / kind).rglob("*.md")}
    missing = pages - {DOCS / kind / "index.md"} - {entry for page in pages for entry in listed(page)}
    names = ", ".join(sorted(page.name for page in missing))
    assert not missing, f"name {names} in docs/{kind}/index.md: in its table and in its toctree"


def generated(page: str) -> set[str]:
    """What a page has made from the package."""
    found = re.findall(r"^<!-- generated: (.*) -->$", (DOCS / "reference" / page).read_text("utf-8"), re.MULTILINE)
    return {word for line in found for word in line.split()}


def test_the_reference_has_every_command_and_every_document() -> None:
    schemas = {path.name.partition(".")[0] for path in Path(convkit.__file__).parent.glob("schemas/*.json")}
    assert not COMMANDS.keys() - generated("commands.md"), "name them in docs/reference/commands.md"
    assert not schemas - generated("documents.md"), "name them in docs/reference/documents.md"
