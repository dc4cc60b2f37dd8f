"""Small parts of pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def code(text: object) -> str:
    """A word as it is typed; nothing where there is none."""
    return f"`{text}`" if str(text) else ""


def codes(words: Iterable[object]) -> str:
    """Words as they are typed."""
    return ", ".join(map(code, words))


def plain(text: str) -> str:
    """A sentence of the package's in which no character is markup."""
    return "".join(f"\\{character}" if character in r"\`*_[]<>{}$#" else character for character in text)


def block(text: str, language: str = "text") -> str:
    """Lines as they are typed or printed."""
    return f"```{language}\n{text.strip()}\n```\n"
