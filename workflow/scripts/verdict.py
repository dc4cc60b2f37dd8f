"""The campaign's last word: its table if every row is proved, failure if one isn't."""

# ruff: noqa: F821 (snakemake is put here by Snakemake)
import sys
from pathlib import Path

from convkit.report import format_table, read_summary

summary = read_summary(Path(snakemake.input.summary))
if not summary.passed:
    Path(snakemake.log[0]).write_text("not every conversion is proved\n", encoding="utf-8")
    sys.exit(1)
table = f"{format_table(summary)}\n{snakemake.input.page}\n"
Path(snakemake.output[0]).write_text(table, encoding="utf-8")
