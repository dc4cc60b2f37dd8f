"""How a command ends where it can't go on: one line on standard error, an exit code, and no trace.

Standard output may be full, closed, or unable to show a name; an interrupt may come at any time.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convkit.cli.stage import WORK
from convkit.cli.volume import VOLUME
from convkit.errors import ConvkitError, UsageError

FAULT, INTERRUPTED = 70, 130
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
#: the environment variable that shows the trace of a fault of convkit itself
TRACE = "CONVKIT_TRACE"


def refused(call: Callable[[], int], *, json_too: bool) -> int:
    """Run a command, and print what it refuses.

    Raises:
        Exception: what is no :class:`~convkit.errors.ConvkitError`, no error of the system, and no interrupt.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal can't show is escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        code = call()
        if sys.stdout is not None:
            sys.stdout.flush()
    except ConvkitError as error:
        return _say(error, json_too)
    except BrokenPipeError:
        _drop_output()
        return 0
    except (OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.filename is None and error.errno in _NO_ROOM:
            error.filename = "standard output"  # errors of files have their names
            _drop_output()
        return _say(refusal(error), json_too)
    except KeyboardInterrupt:
        return _interrupted()
    return code


def refusal(error: OSError | MemoryError) -> ConvkitError:
    """What the system refuses, as the one line that is printed of it."""
    if isinstance(error, MemoryError):
        return ConvkitError("there is not enough memory", remedy="lower --memory, or free some")
    problem = error.strerror or str(error)
    return ConvkitError(problem, path=error.filename, remedy="check the path and permissions")


def ended(call: Callable[[], int], *, json_too: bool) -> int:
    """Run a command that prints what it refuses; anything else that it raises is a fault of convkit itself."""
    try:
        return call()
    except KeyboardInterrupt:  # while another error was printed
        return _interrupted()
    except Exception as error:
        if _is_interrupt(error):  # some libraries raise an error of their own when their import is interrupted
            return _interrupted()
        if VOLUME.verbose or os.environ.get(TRACE):
            raise
        frame = traceback.extract_tb(error.__traceback__)[-1]
        problem = f"a fault of convkit itself: {type(error).__name__}: {error}, at {Path(frame.filename).name}"
        fault = ConvkitError(f"{problem}:{frame.lineno}", remedy="report it; -v shows the trace")
        _say(fault, json_too, FAULT)
        return FAULT


def _is_interrupt(error: BaseException | None) -> bool:
    seen = 0
    while error is not None and seen < 100 and not isinstance(error, KeyboardInterrupt):
        error, seen = error.__cause__ or error.__context__, seen + 1
    return isinstance(error, KeyboardInterrupt)


def _interrupted() -> int:
    print("convkit: interrupted; the same command resumes", file=sys.stderr)
    return INTERRUPTED


def _drop_output() -> None:
    """Send what is still to be printed nowhere, or Python would try again at its end, and say so."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def error_document(error: ConvkitError, code: int | None = None) -> dict[str, Any]:
    """What is printed of an error where a JSON document was asked for."""
    return {
        "schema": "convkit.error/1",
        "error": str(error),
        "path": error.path,
        "key": error.key,
        "problem": error.problem,
        "remedy": error.remedy,
        "stage": WORK.stage or None,
        "exit_code": error.exit_code if code is None else code,
    }


def _with_stage(error: ConvkitError) -> str:
    """The error's line; of a command of several stages, it ends with the one that stopped."""
    if not WORK.stage or isinstance(error, UsageError):
        return str(error)
    stopped = f"stopped while {WORK.stage}"
    return f"{str(error)[:-1]}; {stopped})" if error.remedy else f"{error} ({stopped})"


def _say(error: ConvkitError, json_too: bool, code: int | None = None) -> int:
    print(f"convkit: {_with_stage(error)}", file=sys.stderr)
    if json_too:
        try:
            print(json.dumps(error_document(error, code), indent=1), flush=True)
        except OSError:
            _drop_output()
    return error.exit_code
