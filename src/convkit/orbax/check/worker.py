"""Run Orbax in a process that :mod:`convkit.orbax.check.run` starts: ``python -m`` this module, and a folder.

It may be killed by a damaged checkpoint, or see more devices than there are. Each line of its standard input is a
request: a ``task``, the module whose ``answers`` gives the answers, and that function's argument. When the input
closes, the process removes the folder, which is its scratch, and ends at once, whatever it is doing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

from convkit.errors import ConvkitError

#: seconds in which what lies in the scratch is removed
_REMOVING = 60


def main() -> None:
    """Answer requests until the input ends."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # keeps the output of Orbax apart from answers
    scratch = Path(sys.argv[1])
    requests: SimpleQueue[dict[str, Any]] = SimpleQueue()
    reader = threading.Thread(target=_read, args=(requests, scratch), daemon=True)
    reader.start()
    try:
        _answer(requests, out, scratch)
    except (BrokenPipeError, FileNotFoundError):  # nobody reads, or the scratch is gone: the sender has ended
        reader.join(_REMOVING)


def _answer(requests: SimpleQueue[dict[str, Any]], out: TextIO, scratch: Path) -> None:
    """Answer one request after another.

    Raises:
        BrokenPipeError, FileNotFoundError: the sender ended meanwhile.
    """
    from convkit.orbax.check import real

    _say(out, {"ready": True})
    while True:
        request = requests.get()
        _say(out, {"taken": True})
        real.keep_64_bits(request["x64"])
        try:
            for answer in import_module(request["task"]).answers(request["request"], real.Maker(scratch)):
                _say(out, {"answer": answer})
            _say(out, {"done": True})
        except ConvkitError as error:
            known = {"path": error.path, "key": error.key, "remedy": error.remedy}
            _say(out, {"refused": {"problem": error.problem, **known}})
        except BrokenPipeError:
            raise
        except Exception as error:
            _say(out, {"failed": f"{type(error).__name__}: {error}"})
        for made in scratch.iterdir():
            shutil.rmtree(made)


def _read(requests: SimpleQueue[dict[str, Any]], scratch: Path) -> None:
    """Pass on requests; end the process when the sender has ended."""
    for line in sys.stdin:
        requests.put(json.loads(line))
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(0)


def _say(out: TextIO, line: dict[str, Any]) -> None:
    print(json.dumps(line), file=out, flush=True)


if __name__ == "__main__":
    main()
