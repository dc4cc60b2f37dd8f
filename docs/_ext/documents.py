"""The reference of the documents that convkit writes, from their schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from markdown import code, codes, plain, table

import convkit

_FOLDER = Path(convkit.__file__).parent / "schemas"
#: the schemas that pages describe
_described: set[str] = set()


def _name(path: Path) -> str:
    return path.name.partition(".")[0]


def missing() -> list[str]:
    """The schemas that no page describes."""
    return [path.name for path in sorted(_FOLDER.glob("*.json")) if _name(path) not in _described]


def described(name: str, *words: str) -> str:
    """A document: what it is, its fields, those of its parts, and the schema itself; ``words`` are its title."""
    title = " ".join(words)
    path = _FOLDER / f"{name}.schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    _described.add(name)
    parts = [
        f"(document-{name})=",
        f"## {title}\n",
        f"{plain(schema.get('description', ''))} {code(schema['title'])}, whose schema is "
        f"[{path.name}](../../src/convkit/schemas/{path.name}).\n",
    ]
    if "properties" in schema:
        parts.append(_fields(schema, name))
    for part, inner in schema.get("$defs", {}).items():
        parts += [f"(document-{name}-{part.lower()})=", f"### {part}\n", f"{plain(inner.get('description', ''))}\n"]
        parts.append(_fields(inner, name))
    return "\n".join(parts)


def _fields(schema: Mapping[str, Any], document: str) -> str:
    required = schema.get("required", ())
    rows = []
    for field, one in schema.get("properties", {}).items():
        meaning = plain(one.get("description", ""))
        left_out = "" if field in required else " *May be left out.*"
        rows.append([code(field), _type(one, document), f"{meaning}{left_out}"])
    return table(["field", "type", "meaning"], rows) if rows else ""


def _type(one: Mapping[str, Any], document: str) -> str:
    """What values a field has, in a few words."""
    return " or ".join(dict.fromkeys(_types(one, document))) or "anything"


def _types(one: Mapping[str, Any], document: str) -> Iterator[str]:
    if target := one.get("$ref"):
        yield _link(target, document)
    elif "const" in one:
        yield code(json.dumps(one["const"], ensure_ascii=False))
    elif "enum" in one:
        yield codes(json.dumps(choice, ensure_ascii=False) for choice in one["enum"])
    elif "anyOf" in one or "oneOf" in one:
        for choice in (*one.get("anyOf", ()), *one.get("oneOf", ())):
            yield from _types(choice, document)
    elif one.get("type") == "array":
        yield f"list of {_type(one.get('items') or {}, document)}"
    elif one.get("type") == "object":
        inner = one.get("additionalProperties")
        yield f"object of {_type(inner, document)}" if isinstance(inner, dict) and inner else "object"
    else:
        yield str(one.get("type", "anything"))


def _link(target: str, document: str) -> str:
    """A link to another part of the schema, or to another schema."""
    file, _, part = target.partition("#")
    other = _name(Path(file)) if file else document
    name = part.rpartition("/")[2]
    if name:
        return f"[{name}](#document-{other}-{name.lower()})"
    return f"[{other}](#document-{other})"
