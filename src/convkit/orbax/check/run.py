"""Runs calls in the installed Orbax, in a process of its own: ``python -m convkit.orbax.check.run < request``.

The process may import jax, be killed by a damaged file, or be told of more devices than there are; the checkpoint
stays as it is: managers, which make folders, are given a folder of links to it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from convkit.errors import ConvkitError
from convkit.orbax.check.calls import Call
from convkit.orbax.check.outcome import Outcome

#: the result of a call that ends the process
CRASHED = "crashed"


def run(calls: Sequence[Call], path: Path, devices: int = 1) -> list[Outcome]:
    """What each call answers on this machine's CPU, of which jax makes so many devices.

    Raises:
        ConvkitError: Orbax isn't installed, or can't be imported.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "JAX_ENABLE_X64": "0"}
    outcomes: list[Outcome] = []
    while len(outcomes) < len(calls):
        rest = [call.to_json() for call in calls[len(outcomes) :]]
        process = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps({"path": str(path.absolute()), "calls": rest}),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        ready, *answers = [json.loads(line) for line in process.stdout.splitlines()] or [False]
        if not ready:
            raise ConvkitError(
                f"Orbax can't be imported: {_last_line(process.stderr)}", remedy="pip install orbax-checkpoint"
            )
        outcomes += [Outcome(a["result"], a["value"], tuple(map(tuple, a["causes"]))) for a in answers]
        if len(answers) < len(rest):
            outcomes.append(Outcome(CRASHED, causes=((CRASHED, _last_line(process.stderr)),)))
    return outcomes


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["the process ended"])[-1]


def _main() -> None:
    request = json.load(sys.stdin)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what Orbax prints isn't ours
    from convkit.orbax.check import real

    print("true", file=out, flush=True)
    with TemporaryDirectory(prefix="convkit-orbax-") as scratch:
        path = Path(request["path"])
        for entry in request["calls"]:
            call = Call.from_json(entry)
            print(json.dumps(real.answer(call, path, Path(scratch))), file=out, flush=True)


if __name__ == "__main__":
    _main()
