"""The campaign's last word: its table, and failure unless every row is proved."""

# ruff: noqa: F821 (snakemake is put here by Snakemake)
import json
import sys
from pathlib import Path

from convkit.report import format_table

summary = json.loads(Path(snakemake.input.summary).read_text(encoding="utf-8"))
if not summary["passed"]:
    sys.exit("not every conversion is proved")
table = f"{format_table(summary)}\n{snakemake.input.page}\n"
Path(snakemake.output[0]).write_text(table, encoding="utf-8")
print(table)
