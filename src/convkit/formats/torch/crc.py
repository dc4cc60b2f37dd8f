"""CRC-32 of bytes that come in pieces, in any order: the checksums of pieces are joined by arithmetic.

A CRC is a polynomial over GF(2), modulo that of CRC-32, with its bits reversed. To append n bytes is to multiply by
x^(8 n) and to add the checksum of what is appended (the method is zlib's ``crc32_combine``).
"""

from __future__ import annotations

import threading
import zlib
from functools import cache

#: x^32 modulo the polynomial, bits reversed
_POLYNOMIAL = 0xEDB88320
#: 1, bits reversed
_ONE = 1 << 31


def joined(first: int, second: int, length: int) -> int:
    """The CRC-32 of two pieces, of their own ones and the ``length`` of the second in bytes.

    >>> joined(zlib.crc32(b"some "), zlib.crc32(b"bytes"), 5) == zlib.crc32(b"some bytes")
    True
    """
    return _times(_power(length), first) ^ second


class Pieces:
    """The checksums of the pieces of some bytes; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[int, tuple[int, int]] = {}

    def add(self, start: int, data: memoryview) -> None:
        """Add the piece that begins at a byte."""
        crc = zlib.crc32(data)
        with self._lock:
            self._held[start] = crc, len(data)

    def whole(self, size: int) -> int | None:
        """The checksum of all bytes; None if some of them weren't added."""
        crc = at = 0
        for start in sorted(self._held):
            if start != at:
                return None
            own, length = self._held[start]
            crc, at = joined(crc, own, length), at + length
        return crc if at == size else None


def _times(a: int, b: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


@cache
def _square(exponent: int) -> int:
    """x to the power of two to the ``exponent``."""
    return 1 << 30 if exponent == 0 else _times(_square(exponent - 1), _square(exponent - 1))


@cache
def _power(length: int) -> int:
    """x^(8 length); most pieces have the same length."""
    found, exponent = _ONE, 3
    while length:
        if length & 1:
            found = _times(_square(exponent), found)
        length, exponent = length >> 1, exponent + 1
    return found
