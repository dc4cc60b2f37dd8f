"""Reads the names of a Pax train state's arrays from the text beside them in Flax checkpoints.

Pax writes ``{"flattened_state": [arrays], "str_pytree_state": str(treedef)}`` (paxml ``checkpoints.py``,
``FlaxCheckpointHandler``). jax prints a tree of dicts, lists, tuples and classes with a ``*`` for each
array, in order; a class is ``CustomNode(Name[aux], [children])``, where praxis' ``NestedMap`` gives its
keys as ``aux``. Names are joined like the folder names of other Pax checkpoints: a key after ".",
a position after "_" (``_extract_nested_prefix_names``). The text is parsed, never evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from convkit.errors import ConvkitError
from convkit.state.budget import DISTRUST, Budget

#: paxml ``train_states.py``: fields in the order in which jax flattens them
_FIELDS = {"TrainState": ("step", "mdl_vars", "opt_states", "extra_state")}
_TOKEN = re.compile(r"\s*(?:'([^'\\]*)'|\"([^\"\\]*)\"|([A-Za-z_][\w.]*)|(\*|[\[\](){}:,]))")
_DEPTH = 100
#: most tokens of a text, which take a microsecond each: four for each leaf that a file may hold
_TOKENS = 1 << 21
_CLOSING = {"[": "]", "(": ")", "{": "}"}


def leaf_names(text: str) -> list[str]:
    """The names of the arrays, in order.

    >>> leaf_names("PyTreeDef(CustomNode(TrainState[()], [*, {'params': {'w': *}}, [({'m': *},)], ()]))")
    ['step', 'mdl_vars.params.w', 'opt_states_0_0.m']

    Raises:
        ConvkitError: not a treedef, or a class without field names.
    """
    parser = _Parser(text)
    parser.expect("PyTreeDef")
    parser.expect("(")
    names = list(parser.node("", 0))
    parser.expect(")")
    parser.expect("")
    return names


class _Parser:
    """A parser that makes one pass over the text, one token ahead."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.token, self.quoted = "", False
        self._tokens = 0
        self._budget = Budget()
        self.advance()

    def advance(self) -> str:
        """Take the token and read the next one: a string, a name, a sign, or "" at the end."""
        taken = self.token
        self._tokens += 1
        if self._tokens > _TOKENS:
            problem = f"str_pytree_state has over {_TOKENS} tokens, the most that are read"
            raise ConvkitError(problem, remedy=DISTRUST)
        match = _TOKEN.match(self.text, self.position)
        if match is None and self.text[self.position :].strip():
            raise self.error()
        self.position = match.end() if match else len(self.text)
        self.quoted = match is not None and match.lastindex in (1, 2)
        self.token = match[match.lastindex or 0] if match else ""
        return taken

    def expect(self, sign: str) -> None:
        """Take this token."""
        if self.token != sign or self.quoted:
            raise self.error()
        self.advance()

    def error(self) -> ConvkitError:
        """The error for a text that isn't a treedef."""
        return ConvkitError(
            f"str_pytree_state isn't a tree as jax prints it, near {self.text[max(0, self.position - 20) :][:40]!r}",
            remedy="save the checkpoint in Pax's persistence format, then convert that",
        )

    def node(self, name: str, depth: int) -> Iterator[str]:
        """The names of the arrays of the node that starts at the token."""
        if depth > _DEPTH or self.quoted:
            raise self.error()
        self._budget.take(name)
        sign = self.advance()
        if sign == "*":
            yield name
        elif sign == "{":
            yield from self.dict(name, depth)
        elif sign in _CLOSING:
            for position, _ in enumerate(self.items(_CLOSING[sign])):
                yield from self.node(f"{name}_{position}", depth + 1)
        elif sign == "CustomNode":
            yield from self.custom(name, depth)
        elif sign != "None":
            raise self.error()

    def items(self, closing: str) -> Iterator[None]:
        """Step through a container's items, up to its closing sign."""
        while self.token != closing or self.quoted:
            yield
            if self.token != closing:
                self.expect(",")
        self.advance()

    def dict(self, name: str, depth: int) -> Iterator[str]:
        """The entries of a dict, after its opening sign."""
        for _ in self.items("}"):
            if not self.quoted:
                raise self.error()
            key = self.advance()
            self.expect(":")
            yield from self.node(_join(name, key), depth + 1)

    def custom(self, name: str, depth: int) -> Iterator[str]:
        """``(Name[aux], [children])``."""
        self.expect("(")
        kind = self.advance()
        self.expect("[")
        keys = tuple(self.aux())
        self.expect(",")
        self.expect("[")
        fields = _FIELDS.get(kind, keys)
        for position, _ in enumerate(self.items("]")):
            if position >= len(fields):
                raise ConvkitError(
                    f"str_pytree_state has a {kind} whose fields it doesn't name",
                    key=name or None,
                    remedy="save the checkpoint in Pax's persistence format, then convert that",
                )
            yield from self.node(_join(name, fields[position]), depth + 1)
        self.expect(")")

    def aux(self) -> Iterator[str]:
        """The strings of a class's aux, up to its closing bracket."""
        depth = 0
        while depth or self.token != "]" or self.quoted:
            if self.token == "" and not self.quoted:
                raise self.error()
            if not self.quoted:
                depth += (self.token in _CLOSING) - (self.token in _CLOSING.values())
            quoted = self.quoted
            token = self.advance()
            if quoted:
                yield token
        self.advance()


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key
