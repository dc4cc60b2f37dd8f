"""Examples in the documentation do what they show."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from convkit.cli import main, parser
from convkit.mappings import layouts

DOCS = Path(__file__).parent.parent / "docs"
#: pages whose shell examples are run
RUN = (
    "tutorial/index.md",
    "how-to/one-checkpoint.md",
    "how-to/cerebras.md",
    "how-to/cerebras-compat.md",
    "how-to/orbax.md",
    "how-to/parts.md",
    "how-to/te.md",
    "reference/cerebras.md",
)
#: pages whose shell examples need more than a folder, and the test that types them
ELSEWHERE = {
    "how-to/audit.md": "tests/audit/test_docs.py",
    "how-to/deploy.md": "tests/test_deployment.py",
    "how-to/extending.md": "tests/test_example.py",
    "how-to/stores.md": "tests/stores/test_stores_guide.py",
}
REDIRECTED = re.compile(r" [>|] ")
#: what isn't typed as it stands: choices, what may be left out, and columns
SYNOPSIS = re.compile(r"[\[\]|…]|^convkit [a-z ]+  ")


def blocks(text: str, *languages: str) -> list[str]:
    """The blocks of a page that are marked as one of these languages."""
    found = re.findall(r"^```(.*)\n((?s:.*?))^```$", text, re.MULTILINE)
    return [block for language, block in found if language in languages]


def commands(document: str) -> list[tuple[str, int]]:
    """Lines of the document's shell examples, each with its exit code, which a comment before the example may say.

    What merely lists options is in no such example.
    """
    text = (DOCS / document).read_text(encoding="utf-8")
    examples = re.findall(r"(?:^<!-- exit code: (\d+) -->\n)?^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(line, int(code or 0)) for code, example in examples for line in example.splitlines()]


@pytest.mark.parametrize("document", RUN)
def test_examples_run(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    lines = commands(document)
    assert lines
    for line, expected in lines:
        command, *arguments = shlex.split(line)
        if command == "convkit" and not REDIRECTED.search(line):
            code = main(arguments)
        else:
            code = subprocess.run(["bash", "-c", line], check=False).returncode
        assert code == expected, line


def test_no_page_has_shell_examples_that_nothing_types() -> None:
    having = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if "\n```sh\n" in page.read_text()}
    assert having == {*RUN, *ELSEWHERE}
    for page, test in ELSEWHERE.items():
        assert Path(page).name in (DOCS.parent / test).read_text(encoding="utf-8")


def test_every_layout_of_cerebras_is_described() -> None:
    text = (DOCS / "reference" / "cerebras.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(cerebras/\S+)` \|", text, re.MULTILINE))
    there = {re.sub("/dpo-.*", "/dpo-<family>", name) for name in layouts()}
    assert listed == {name for name in there if name.startswith("cerebras/")}


def quoted(document: str) -> list[tuple[str, str]]:
    """The document's examples that quote a source file: its path below the package, and the text."""
    text = (DOCS / document).read_text(encoding="utf-8")
    return re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("path", "text"), quoted("how-to/adding-a-mapping.md"), ids=lambda part: part.splitlines()[0])
def test_quotes_are_from_the_source(path: str, text: str) -> None:
    assert text in (DOCS.parent / "src" / "convkit" / path).read_text(encoding="utf-8")


def guarantees() -> list[tuple[str, list[tuple[str, str]]]]:
    """Each sentence that is promised, with the tests that it names."""
    sections = (DOCS / "explanation" / "guarantees.md").read_text(encoding="utf-8").split("\n## ")[1:]
    promised = [section.partition("\nNot promised:")[0] for section in sections]
    sentences = [line for section in promised for line in section.splitlines() if line.startswith("- ")]
    return [(sentence, re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", sentence)) for sentence in sentences]


def test_each_guarantee_names_the_tests_that_hold_it() -> None:
    assert guarantees()
    for sentence, tests in guarantees():
        assert tests, sentence
        for file, name in tests:
            assert re.search(rf"^\s*def {name}\(", (DOCS.parent / file).read_text(encoding="utf-8"), re.MULTILINE), name


def typed() -> list[tuple[str, str]]:
    """Every whole command of convkit's in a block of any page: the page, and the line. A synopsis has other marks."""
    pages = [*DOCS.rglob("*.md"), *(DOCS.parent / page for page in ("README.md", "config/README.md"))]
    found = []
    for page in sorted(pages):
        for block in blocks(page.read_text(encoding="utf-8"), "", "sh", "bash"):
            lines = [line for line in re.sub(r"\\\n\s*", "", block).splitlines() if not SYNOPSIS.search(line)]
            named = page.relative_to(DOCS.parent).as_posix()
            found += [
                (named, re.sub(r"\s{2,}.*", "", line)) for line in lines if re.match(r"(\.venv/bin/)?convkit ", line)
            ]
    return found


@pytest.mark.parametrize(("page", "line"), typed())
def test_every_command_has_the_options_that_it_is_shown_with(page: str, line: str) -> None:
    words = shlex.split(line.partition(" > ")[0])[1:]
    assert parser().parse_args(words), page
