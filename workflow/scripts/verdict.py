"""The campaign's last word: its table if every row is proved, failure if one isn't."""

# ruff: noqa: F821 (snakemake is put here by Snakemake)
import sys
from pathlib import Path

from convkit.cli.report import altered
from convkit.report import format_table, read_campaign, summarize

# looked at again: a target may have changed since the page was made
summary = summarize(read_campaign(Path(snakemake.input.summary).parent, altered))
table = f"{format_table(summary)}\n{snakemake.input.page}\n"
if not summary.passed:
    stale = "".join(f"{row.id}: {row.problem}\n" for row in summary.rows if row.stale)
    Path(snakemake.log[0]).write_text(f"not every conversion is proved\n{stale}", encoding="utf-8")
    sys.exit(table)
Path(snakemake.output[0]).write_text(table, encoding="utf-8")
