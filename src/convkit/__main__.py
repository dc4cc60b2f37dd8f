"""``python -m convkit``."""

from convkit.cli import main

raise SystemExit(main())
