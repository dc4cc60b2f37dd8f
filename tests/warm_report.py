"""What the convkit command imports and builds for a page; for :mod:`warm`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from sample_campaign import write_campaign

from convkit.report import build_report

with TemporaryDirectory() as folder:
    build_report(write_campaign(Path(folder)))
