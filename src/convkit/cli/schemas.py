"""Make the schemas of documents from their types, and the catalogue of mappings from their modules: ``make schemas``.

Each field of a type is required, unless its default is ``UNSET``: then the key is left out if it has no value.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from convkit import mappings
from convkit.baseline.document import Baseline
from convkit.baseline.drift import Comparison, Matrix
from convkit.fetch.record import FetchRecord
from convkit.fetch.streamed import StreamRecord
from convkit.files.document import Document
from convkit.files.part_json import PartDocument, ShareDocument
from convkit.files.receipt_json import ConversionReceipt, MigrationReceipt, RepairReceipt
from convkit.mappings import catalogue
from convkit.migrate.orbax.documents import MigrationPlan
from convkit.migrate.state_plan import RepairPlan
from convkit.plan.plan_json import PlanDocument
from convkit.report.summary import Summary
from convkit.verify.verdict import Verdict

#: the schema's name, and the type of the document
DOCUMENTS: dict[str, type[Document]] = {
    "plan": PlanDocument,
    "verdict": Verdict,
    "part": PartDocument,
    "share": ShareDocument,
    "fetch": FetchRecord,
    "stream": StreamRecord,
    "summary": Summary,
    "migration": MigrationReceipt,
    "baseline": Baseline,
    "drift": Comparison,
    "matrix": Matrix,
}
#: the receipt's schema has one branch for each kind
RECEIPTS = (ConversionReceipt, RepairReceipt)
#: the plans that receipts hold beside those of conversions
PLANS: dict[type[Document], type[Document]] = {RepairReceipt: RepairPlan, MigrationReceipt: MigrationPlan}
NAMES = (*DOCUMENTS, "receipt")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: of docstrings: literals, and names with their roles
_MARKUP = re.compile(r"(?::\w+:)?`+([^`]+)`+")


def schema(name: str) -> dict[str, Any]:
    """Make the schema of the documents of this name."""
    if name == "receipt":
        return _receipt()
    (top, *_), parts = _parts(DOCUMENTS[name])
    # a document that holds others of its kind refers to the whole schema
    parts = json.loads(json.dumps(parts).replace(f'"#/$defs/{top}"', '"#"'))
    whole = parts.pop(top)
    title = whole["properties"]["schema"]["const"]
    return {"$schema": _DIALECT, **whole, "title": title} | ({"$defs": parts} if parts else {})


def _parts(*types: type[Document]) -> tuple[list[str], dict[str, Any]]:
    """The names of these types among the parts of their schema, and the parts by name."""
    plans = [PLANS[type_] for type_ in types if type_ in PLANS]
    tops, parts = msgspec.json.schema_components([*types, *plans], ref_template="#/$defs/{name}")
    return [top["$ref"].rpartition("/")[2] for top in tops], {part: _tidy(parts[part]) for part in parts}


def _receipt() -> dict[str, Any]:
    """The schema of receipts of every kind; that of migrations is a file of its own."""
    tops, parts = _parts(*RECEIPTS)
    kinds = [{"$ref": f"#/$defs/{top}"} for top in tops[: len(RECEIPTS)]]
    return {
        "$schema": _DIALECT,
        "title": parts[tops[0]]["properties"]["schema"]["const"],
        "description": "What convkit leaves beside its output, by the kind of work that made it.",
        "oneOf": [*kinds, {"$ref": "migration.schema.json"}],
        "$defs": parts,
    }


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
    """Write every schema, and the catalogue."""
    catalogue.FILE.write_text(catalogue.text(mappings.__name__, mappings.__path__), encoding="utf-8")
    folder = Path(str(files("convkit") / "schemas"))
    for name in NAMES:
        (folder / f"{name}.schema.json").write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
