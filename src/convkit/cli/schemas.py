"""Make the schemas of documents from their types: ``python -m convkit.cli.schemas`` writes ``convkit/schemas``.

Each field of a type is required, unless its default is ``UNSET``: then the key is left out if it has no value.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from convkit.fetch.record import FetchRecord
from convkit.files.document import Document
from convkit.plan.plan_json import PlanDocument
from convkit.report import Summary
from convkit.verify.verdict import Verdict

#: the schema's name, and the type of the document
DOCUMENTS: dict[str, type[Document]] = {
    "plan": PlanDocument,
    "verdict": Verdict,
    "fetch": FetchRecord,
    "summary": Summary,
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: of docstrings: literals, and names with their roles
_MARKUP = re.compile(r"(?::\w+:)?`+([^`]+)`+")


def schema(name: str) -> dict[str, Any]:
    """Make the schema of the documents of this name."""
    (top,), parts = msgspec.json.schema_components([DOCUMENTS[name]], ref_template="#/$defs/{name}")
    parts = {part: _tidy(parts[part]) for part in parts}
    whole = parts.pop(top["$ref"].rpartition("/")[2])
    title = whole["properties"]["schema"]["const"]
    return {"$schema": _DIALECT, **whole, "title": title} | ({"$defs": parts} if parts else {})


def _tidy(part: Any) -> Any:
    """A part of a schema as it is written: what a type has a default for is there all the same."""
    if isinstance(part, list):
        return [_tidy(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    if isinstance(fields := part.get("properties"), dict):
        required = [key for key in fields if key in part.get("required", ()) or "default" in fields[key]]
        part = part | {"required": required}
    if isinstance(description := part.get("description"), str):
        part = part | {"description": _MARKUP.sub(r"\1", " ".join(description.split()))}
    if isinstance(choices := part.get("enum"), list) and len(choices) == 1:
        part = {key: value for key, value in part.items() if key != "enum"} | {"const": choices[0]}
    return {key: _tidy(value) for key, value in part.items() if key != "default"}


def text(name: str) -> str:
    """The schema as its file has it."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every schema."""
    folder = Path(str(files("convkit") / "schemas"))
    for name in DOCUMENTS:
        (folder / f"{name}.schema.json").write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
