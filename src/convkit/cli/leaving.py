"""The end of a process as the interpreter's own, except that nothing is freed: that would take longer than most calls.

Who calls :func:`left` ends the process with ``os._exit`` right after it.
"""

from __future__ import annotations

import atexit
import sys
import threading


def left(status: int) -> int:
    """Wait for threads, call what is to be called at the end, and write out what was printed.

    Args:
        status: what the command ended with.

    Returns:
        What the process ends with: 120 if its output can't be written, as the interpreter says it.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that aren't daemons
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        return 120
    return status & 255
