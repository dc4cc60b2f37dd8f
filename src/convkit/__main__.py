"""``python -m convkit``, and the command itself: an interrupt is one line from its first import to its end."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command."""
    try:
        from convkit.cli import main as run

        code = run()
    except KeyboardInterrupt:
        print("convkit: interrupted; the same command resumes", file=sys.stderr)
        code = 130
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends the process at once, without a trace
    return code


if __name__ == "__main__":
    raise SystemExit(main())
