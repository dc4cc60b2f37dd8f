"""Make a model for ``generated://family?options`` (see :mod:`convkit.generate`)."""

from __future__ import annotations

from convkit.fetch.source import Call, Source
from convkit.generate import generate
from convkit.generate.options import parse


class Generated(Source):
    """A model that is made from a seed."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._family = parse(uri)

    def fill(self, call: Call) -> None:
        """See :meth:`Source.fill`."""
        call.parts.clear()
        generate(self._family, call.parts.payload, lambda done, total: call.progress("weights", done, total))
