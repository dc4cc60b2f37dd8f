"""Count how far apart the elements of two tensors are, in ulps and in value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from convkit.checkpoint.tensors import carrier, value_dtype

if TYPE_CHECKING:
    import numpy as np

#: Distances are counted by powers of two: 0, 1, 2, 3-4, 5-8, and so on up to 64 bits.
_BINS = 66

#: Complex numbers are counted as pairs.
_REAL = {"complex64": "float32", "complex128": "float64"}


class Tally:
    """Differences between two tensors, fed block by block.

    The distance of two elements in ulps is the number of steps from one to the other through neighbouring values of
    the dtype; -0 and +0 are two values. Elements that differ have no distance if one is NaN or infinite:
    they count as ``incomparable``. Elements of two dtypes are compared by value, without ulps.

    ``apart`` counts those of the elements that differ that aren't ``close``: nearer to each other than the first number
    times the second element, and the second number. Without a tolerance, none are.
    """

    def __init__(self, a: str, b: str, close: tuple[float, float] | None = None) -> None:
        import numpy as np

        paired = (a in _REAL) == (b in _REAL)
        self.dtypes = (_REAL.get(a, a), _REAL.get(b, b)) if paired else (a, b)
        #: dtype of the comparison by value; a complex number and a real one are compared as complex
        self._wide = np.float64 if paired else np.complex128
        self._close = close
        self.elements = self.differing = self.apart = self.incomparable = self.max_ulp = 0
        self.max_abs = self.max_rel = 0.0
        #: flat index of the first element that differs
        self.first: int | None = None
        self.counts = np.zeros(_BINS, np.int64)

    @classmethod
    def of(cls, tallies: Iterable[Tally]) -> Tally:
        """Combine several tallies."""
        total = cls("", "")
        for tally in tallies:
            total.merge(tally)
        return total

    def merge(self, other: Tally) -> None:
        """Count another tally in."""
        self.elements += other.elements
        self.differing += other.differing
        self.apart += other.apart
        self.incomparable += other.incomparable
        self.max_ulp = max(self.max_ulp, other.max_ulp)
        self.max_abs, self.max_rel = max(self.max_abs, other.max_abs), max(self.max_rel, other.max_rel)
        self.counts += other.counts

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Count the next elements: 1-D, each in the carrier of its dtype."""
        import numpy as np

        with np.errstate(all="ignore"):  # a NaN that signals is a NaN
            self._add(x, y)

    def _add(self, x: np.ndarray, y: np.ndarray) -> None:
        import numpy as np

        one, other = self.dtypes
        a, b = x.view(value_dtype(one)), y.view(value_dtype(other))
        if one == other:
            bits = x.view(carrier(one)), y.view(carrier(one))
            where = np.flatnonzero(bits[0] != bits[1])
        else:
            wide = a.astype(self._wide), b.astype(self._wide)
            where = np.flatnonzero((wide[0] != wide[1]) & ~(np.isnan(wide[0]) & np.isnan(wide[1])))
        if where.size and self.first is None:
            self.first = self.elements + int(where[0])
        self.elements += a.size
        self.differing += where.size
        self.counts[0] += a.size - where.size
        if where.size:
            comparable = self._add_values(a[where], b[where])
            if one == other:
                self._add_steps(bits[0][where][comparable], bits[1][where][comparable])

    def _add_values(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Count differences in value, and return which elements have one."""
        import numpy as np

        a, b = a.astype(self._wide), b.astype(self._wide)
        comparable = np.isfinite(a) & np.isfinite(b)
        self.incomparable += int(a.size - comparable.sum())
        self.apart += a.size
        a, b = a[comparable], b[comparable]
        gap = np.minimum(np.abs(a - b), np.finfo(np.float64).max)
        if self._close:
            relative, absolute = self._close
            self.apart -= int((gap <= absolute + relative * np.abs(b)).sum())
        size = np.maximum(np.maximum(np.abs(a), np.abs(b)), np.finfo(np.float64).tiny)
        self.max_abs = max(self.max_abs, float(gap.max(initial=0.0)))
        self.max_rel = max(self.max_rel, float((gap / size).max(initial=0.0)))
        return comparable

    def _add_steps(self, a: np.ndarray, b: np.ndarray) -> None:
        """Count distances in steps, of elements whose bits differ."""
        import numpy as np

        a, b = _ordered(a, self.dtypes[0]), _ordered(b, self.dtypes[0])
        steps = np.where(a > b, a - b, b - a)
        self.max_ulp = max(self.max_ulp, int(steps.max(initial=0)))
        powers = np.minimum(np.frexp((steps - 1).astype(np.float64))[1], 64)  # 2**64 - 2 rounds up
        self.counts += np.bincount(powers + 1, minlength=_BINS)

    def to_json(self) -> dict[str, int | float]:
        """The figures."""
        return {
            "elements": self.elements,
            "differing": self.differing,
            "incomparable": self.incomparable,
            "max_abs": self.max_abs,
            "max_rel": self.max_rel,
            "max_ulp": self.max_ulp,
        }

    def histogram(self) -> dict[str, int]:
        """Elements by their distance in ulps: ``0``, ``1``, ``2``, ``3-4``, ``5-8``, ..."""
        return {_label(power): int(count) for power, count in enumerate(self.counts) if count}


def _ordered(bits: np.ndarray, dtype: str) -> np.ndarray:
    """Map bits to unsigned integers that have the same order as the values."""
    import numpy as np

    sign = bits.dtype.type(1 << (8 * bits.dtype.itemsize - 1))
    if dtype.startswith("uint") or dtype in ("bool", "float8_e8m0fnu"):
        return bits
    if dtype.startswith("int"):
        return bits ^ sign
    return np.where(bits & sign, ~bits, bits | sign)


def _label(power: int) -> str:
    if power < 3:
        return str(power)
    return f"{2 ** (power - 2) + 1}-{2 ** (power - 1)}"
