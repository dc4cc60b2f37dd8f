"""``python -m convkit``, and the command itself: an interrupt is one line from its first import to its end."""

from __future__ import annotations

import gc
import os
import signal
import sys


def main() -> int:
    """Run the command and end the process, or stand by for calls of it: see :mod:`convkit.cli.warm`."""
    # numpy's BLAS, which nothing here calls, would keep every core busy for a while, waiting for work
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.argv[1:2] == ["--stand-by"]:
        from convkit.cli.warm.worker import stand_by

        return stand_by(sys.argv[2:], _run)
    gc.set_threshold(100_000)  # a start makes tens of thousands of objects that stay
    code = _run()
    from convkit.cli.leaving import left

    os._exit(left(code))


def _run() -> int:
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
