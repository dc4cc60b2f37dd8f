"""Removes the source that a campaign fetched for a row, once everything that was asked of the row has succeeded."""

# ruff: noqa: F821 (snakemake is put here by Snakemake)
import json
import shutil
from pathlib import Path

documents = {path: json.loads(Path(path).read_bytes()) for path in snakemake.input.proofs}
record = json.loads(Path(snakemake.input.record).read_bytes())
source = Path(snakemake.params.path)
failed = [path for path, document in documents.items() if document.get("state", "yes") != "yes" or "error" in document]
if failed or "error" in record or record.get("in_place"):
    said = f"kept: {failed[0]} isn't a proof" if failed else "kept: it lies where it was"
else:
    said = f"removed: {source}"
    shutil.rmtree(source) if source.is_dir() and not source.is_symlink() else source.unlink(missing_ok=True)
Path(snakemake.output[0]).write_text(f"{said}\n", encoding="utf-8")
