"""What a tree of leaves may grow to while it is being named, so that a small file can't fill the memory.

A file of a few kilobytes can hold a tree whose nodes are shared (a list of two references to a list of two references
to ...), or whose names repeat one long text: walking it would make more leaves and longer names than memory holds.
"""

from __future__ import annotations

import os

from convkit.errors import ConvkitError

#: most nodes of one file's tree, containers included: five times as many as the largest training states have (a
#: mixture of experts with its optimizer: 100 000). At about a kilobyte each they fit in half a gibibyte
NODE_LIMIT = 1 << 19
#: most characters of all names of one file: 128 for each of the nodes, as in the longest names of real models
NAME_LIMIT = 1 << 26
#: what to do about a file that is over a limit
DISTRUST = "don't trust this checkpoint; if it is real, split it into smaller files"


class Budget:
    """Counts the nodes of one file's tree, and the characters of their names and texts."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = path
        self._nodes = 0
        self._characters = 0

    def take(self, name: str, text: str | bytes | bytearray = "") -> None:
        """Count a node, by its name and, of a leaf, its text.

        Raises:
            ConvkitError: the tree is over :data:`NODE_LIMIT` or :data:`NAME_LIMIT`.
        """
        self._nodes += 1
        self._characters += len(name) + len(text)
        if self._nodes > NODE_LIMIT:
            raise self._over(f"holds over {NODE_LIMIT} leaves, the most of one file", name)
        if self._characters > NAME_LIMIT:
            raise self._over(f"its names and texts have over {NAME_LIMIT} characters, the most of one file", name)

    def _over(self, problem: str, name: str) -> ConvkitError:
        return ConvkitError(problem, path=self._path, key=name[:80] or None, remedy=DISTRUST)
