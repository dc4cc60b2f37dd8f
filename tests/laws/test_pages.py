"""Every page of ``docs/`` lies in the folder of its kind, and the navigation of the site has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
KINDS = ("tutorial", "how-to", "reference", "explanation")


def listed(index: Path) -> set[str]:
    """The pages in the navigation of an index page, as paths from its folder, without their extension."""
    (entries,) = re.findall(r"^```\{toctree\}\n(.*?)^```", index.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return {line for line in entries.splitlines() if line and not line.startswith(":")}


def test_the_index_lists_the_kinds() -> None:
    assert listed(DOCS / "index.md") == {f"{kind}/index" for kind in KINDS}


def test_every_page_lies_in_the_folder_of_its_kind() -> None:
    outside = [path.name for path in DOCS.glob("*.md") if path.name != "index.md"]
    assert not outside, f"move {', '.join(outside)} into one of {', '.join(KINDS)}: a guide to a task is a how-to"


@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_page_is_in_the_navigation(kind: str) -> None:
    pages = {path.relative_to(DOCS / kind).with_suffix("").as_posix() for path in (DOCS / kind).rglob("*.md")}
    missing = pages - {"index"} - listed(DOCS / kind / "index.md")
    assert not missing, f"name {', '.join(sorted(missing))} in docs/{kind}/index.md: in its table and in its toctree"
