"""The stack machine of pickle, unable to run code.

``pickletools`` decodes the opcodes; the machine interprets them and makes plain data only. A pickle can name any
callable: here a subclass lists the allowed names and what each makes when it is called, and refuses all others. Nothing
is ever imported or called by name. What a small pickle can grow to is bounded: see the limits below.
"""

from __future__ import annotations

import pickletools
from abc import ABC, abstractmethod
from io import BytesIO
from typing import Any, BinaryIO, ClassVar

from msgspec import Struct

from convkit.errors import ConvkitError

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS, _PUTS, _GETS, _SILENT, DATA, MORE_DATA, OBJECTS = (
    frozenset(names.split())
    for names in (
        "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
        "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8",
        "PUT BINPUT LONG_BINPUT",
        "GET BINGET LONG_BINGET",
        "PROTO FRAME",
        # opcodes for names and plain data since protocol 2
        "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT "
        "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET "
        "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS "
        "GLOBAL STACK_GLOBAL",
        # opcodes for bytes, and for the same data in protocols 0 and 1
        "INT LONG LONG4 FLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINBYTES SHORT_BINBYTES BINBYTES8 "
        "PUT GET POP DICT LIST",
        # opcodes for sets, bytearrays and objects; an object also needs a method of the subclass
        "BYTEARRAY8 EMPTY_SET ADDITEMS FROZENSET POP_MARK NEWOBJ NEWOBJ_EX REDUCE BUILD BINPERSID",
    )
)


#: most opcodes of one pickle: a tensor takes about 30, so this is 280 000 tensors. Each opcode makes at most one
#: object or one entry of the memo, about 80 bytes, and takes a microsecond
OPCODE_LIMIT = 1 << 23
#: most bytes of one pickle: 240 for each of those tensors. Its texts take up to four times as many in memory
BYTES_LIMIT = 1 << 26
#: most bits of an integer that is a key or a place in the memo: Python hashes larger ones to the same few values, and a
#: dict of those takes quadratic time
_KEY_BITS = 60


class Name(Struct, frozen=True):
    """A name in the pickle: of a function, a class, a dtype."""

    name: str


class PickleMachine(ABC):
    """Interprets one pickle. A subclass has a method for each opcode beyond plain data (``_reduce``, ``_build``), which
    works on ``_stack``; the ``ClassVar`` attributes configure it.
    """

    #: opcodes that are supported
    opcodes: ClassVar[frozenset[str]]
    #: types allowed as dict keys; nothing else is hashed, because the hash of a deep tuple would exhaust the C stack
    keys: ClassVar[tuple[type, ...]]
    #: allowed names; None if any may stand there, as data
    names: ClassVar[frozenset[str] | None]
    #: name of the pickle in errors, and who never writes an unsupported opcode
    subject: ClassVar[str]
    never: ClassVar[str]

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    @abstractmethod
    def refusal(self, problem: str) -> ConvkitError:
        """The error for a pickle that does something not allowed."""

    def run(self, pickle: bytes | BinaryIO) -> Any:
        """The object that the pickle makes; bytes after its end are ignored.

        Raises:
            ConvkitError: it does something not allowed, or is over :data:`OPCODE_LIMIT` or :data:`BYTES_LIMIT`.
            ValueError, IndexError, KeyError, TypeError, OverflowError: it is corrupt.
        """
        stack, memo = self._stack, self._memo
        decode: Any = pickletools.genops  # typed for files only, with arguments that may always be None
        source = _Bounded(BytesIO(pickle) if isinstance(pickle, bytes) else pickle, self)
        for count, (opcode, arg, _) in enumerate(decode(source)):
            if count >= OPCODE_LIMIT:
                raise self.refusal(f"{self.subject} has over {OPCODE_LIMIT} opcodes, the most that are read")
            name = opcode.name
            if name not in self.opcodes:
                raise self.refusal(f"{self.subject} uses {name}, which {self.never}")
            if name in _LITERALS:
                stack.append(arg)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name in _PUTS:
                if arg.bit_length() > _KEY_BITS:
                    raise ValueError(f"a place of {arg.bit_length()} bits in its memo")
                memo[arg] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in _GETS:
                stack.append(memo[arg])
            elif name == "GLOBAL":
                self._name(arg.replace(" ", "."))
            elif name == "STOP":
                return stack.pop()
            elif name not in _SILENT:
                getattr(self, f"_{name.lower()}")()
        raise ValueError("it has no end")

    # One method per opcode, by its name in pickletools.

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _pop(self) -> None:
        self._stack.pop()

    def _empty_dict(self) -> None:
        self._stack.append({})

    def _empty_list(self) -> None:
        self._stack.append([])

    def _dict(self) -> None:
        items = self._since_mark()
        self._empty_dict()
        self._set(items)

    def _list(self) -> None:
        self._stack.append(self._since_mark())

    def _tuple(self) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _tuple1(self) -> None:
        self._top(1)

    def _tuple2(self) -> None:
        self._top(2)

    def _tuple3(self) -> None:
        self._top(3)

    def _append(self) -> None:
        self._extend([self._stack.pop()])

    def _appends(self) -> None:
        self._extend(self._since_mark())

    def _setitem(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _setitems(self) -> None:
        self._set(self._since_mark())

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise self.refusal(f"{self.subject} would run an unnamed object")
        self._name(f"{module}.{name}")

    # Shared by several opcodes.

    def _name(self, name: str) -> None:
        if self.names is not None and name not in self.names:
            raise self.refusal(f"{self.subject} would run {name[:200]}")
        self._stack.append(Name(name))

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _top(self, count: int) -> None:
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise ValueError("it appends to something that isn't a list")
        self._stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("it sets an item of something that isn't a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, self.keys):
                self._odd_key(target, key)
                continue
            if isinstance(key, int) and key.bit_length() > _KEY_BITS:
                raise self.refusal(f"a dict has a key of {key.bit_length()} bits")
            target[key] = value

    def _odd_key(self, target: dict[Any, Any], key: Any) -> None:
        """A key that isn't hashed: it is refused, unless a subclass can do without the entry."""
        raise self.refusal(f"a dict has a key of type {type(key).__name__}")


class _Bounded:
    """The file of a pickle, from which at most :data:`BYTES_LIMIT` bytes are read, however long a text says it is."""

    def __init__(self, file: BinaryIO, machine: PickleMachine) -> None:
        self._file = file
        self._machine = machine
        self._left = BYTES_LIMIT

    def read(self, count: int) -> bytes:
        """The next bytes; fewer at the end of the file."""
        found = self._file.read(min(count, self._left + 1))
        self._take(len(found))
        return found

    def readline(self) -> bytes:
        """The next line."""
        line = self._file.readline(self._left + 1)
        self._take(len(line))
        return line

    def tell(self) -> int:
        """The position in the file."""
        return self._file.tell()

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise self._machine.refusal(f"{self._machine.subject} is over {BYTES_LIMIT} bytes, the most that are read")
