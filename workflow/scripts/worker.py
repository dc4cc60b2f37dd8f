"""The worker of this run, which has imported what stages of small checkpoints need: see ``convkit.cli.warm``."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

#: the variable by which the jobs find its folder
VARIABLE = "CONVKIT_WORKER"


class Worker:
    """A worker, if the command that the jobs find can be one. It ends with this process, however that ends."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="convkit-")  # for this user alone
        try:
            self._process = subprocess.Popen(
                ["convkit", "--stand-by", self._folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt from the terminal is for its callers, who pass it on
            )
        except OSError:  # only the jobs have the command
            self._process = None
            self.end()
            return
        if self._process.stdout.read(1):
            os.environ[VARIABLE] = self._folder  # the jobs inherit it
        else:  # the command is another one
            self.end()

    def end(self) -> None:
        """End it, and what it runs."""
        os.environ.pop(VARIABLE, None)
        if self._process:
            self._process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)
