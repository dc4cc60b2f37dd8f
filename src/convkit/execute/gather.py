"""Gather any range of one leaf, rearranged or decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from msgspec.structs import replace

from convkit.checkpoint.tensors import carrier
from convkit.execute.job import Job
from convkit.execute.origins import Passing
from convkit.execute.parts import Window
from convkit.execute.runs import RUN
from convkit.execute.slabs import clip, copy_box
from convkit.execute.turned import CLOSE, Part
from convkit.files.scratch import Scratch
from convkit.mapping.ops import Cast, Overflow, bits_of
from convkit.plan.pieces import Piece

if TYPE_CHECKING:
    import numpy as np


class Gather:
    """Gives a slab of one leaf: as it was read, or through a buffer. For one thread.

    Args:
        whole: what is fed with a source leaf that is read or decoded whole, by its key.
        until: the element before which the last slab ends; None for the end of the leaf.
        scratch: files for what is transposed.
    """

    def __init__(
        self,
        job: Job,
        whole: Callable[[str], Passing] | None = None,
        *,
        until: int | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        self.job = job
        self.whole = whole
        step = job.step
        self.ops = step.ops if step else ()
        self.pad = step.pad if step else None
        self.dtype = step.sources[0].spec.dtype if step else job.spec.dtype
        self.decoded: dict[str, tuple[int, np.ndarray]] = {}
        #: of the values that were cast so far
        self.overflow = Overflow()
        #: pieces of sources, and how much of the leaf is best made from each at once
        self.units: list[tuple[Piece, int]] = []
        #: pieces of sources that lie open
        self.windows: list[Window] = []
        for piece in job.pieces:
            if job.reader.lies_open(piece.source):
                end = job.spec.size if until is None else until
                self.windows.append(Window(job.reader, piece, end, whole, scratch))
            else:
                self.units.append((piece, _dense(piece)))
        #: whether slabs that hold few rows of the leaf cost more
        self.tall = any(piece.crosswise for piece, _ in self.units) or any(window.tall for window in self.windows)

    def close(self) -> None:
        """Let others use the scratch files."""
        for window in self.windows:
            window.close()

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """Elements ``[start, stop)`` of the leaf: 1-D, carrier dtype; a view if they need no work."""
        import numpy as np

        parts = [part for window in self.windows for part in window.parts(start, stop)]
        parts += self._decoded(start, stop)
        if len(parts) == 1 and not self.ops and parts[0].box.contiguous:
            data, box = parts[0].data, parts[0].box
            low, high = box.source_span
            if high - low == stop - start:
                return data[low:high]
        buffer = np.empty(stop - start, dtype=carrier(self.dtype))
        if self.pad:
            buffer[:] = bits_of(self.pad.fill, self.dtype)
        for part in parts:
            copy_box(part.box, part.data, 0, buffer, start)
        dtype = self.dtype
        for op in self.ops:
            made = op.apply(buffer, dtype)
            if isinstance(op, Cast):
                self.overflow += op.overflow(buffer, made)
            buffer = made
            dtype = op.dtype(dtype)
        return buffer

    def _decoded(self, start: int, stop: int) -> Iterator[Part]:
        """What a range needs of the sources that must be decoded."""
        self._decode(start, stop)
        for piece, _ in self.units:
            for box in clip(piece, start, stop):
                first, data = self.decoded[piece.source]
                yield Part(data, replace(box, source_offset=box.source_offset - first))

    def _decode(self, start: int, stop: int) -> None:
        """Read what a range needs of the sources, and what must be decoded with it."""
        together = {piece.source for piece, unit in self.units if unit > 1}
        spans: dict[str, list[tuple[int, int]]] = {}
        for piece, unit in self.units:
            before, after = start - piece.target_offset, stop - piece.target_offset
            around = (piece.target_offset + before // unit * unit, piece.target_offset - -after // unit * unit)
            if boxes := list(clip(piece, *around)):
                spans.setdefault(piece.source, []).extend(box.source_span for box in boxes)
        for key in self.decoded.keys() - spans.keys():
            del self.decoded[key]
        for key, some in spans.items():
            low, high = min(low for low, _ in some), max(high for _, high in some)
            held = self.decoded.get(key)
            covered = held is not None and held[0] <= low and high <= held[0] + held[1].size
            del held  # the last reference, except that of the dict
            if not covered:
                self.decoded[key] = self._read_on(key, low, high, shared=key in together)

    def _read_on(self, key: str, low: int, high: int, *, shared: bool) -> tuple[int, np.ndarray]:
        """Elements ``[low, high)`` of a source and those decoded with them; elements already held aren't read again.

        What is ``shared`` is needed by other threads too.
        """
        import numpy as np

        grain = self._together(key)
        first, stop = low - low % grain, min(self.job.reader.spec(key).size, -(-high // grain) * grain)
        held_first, held = self.decoded.pop(key, (0, None))
        if shared and self.job.held:
            held = None
            return first, self.job.held.part(key, first, stop, lambda: self._read(key, first, stop))
        tail = None
        if grain > 1 and held is not None and held_first <= low < held_first + held.size:
            first, tail = low, held[low - held_first :].copy()
        held = None  # release it before reading more
        data = self._read(key, first + (0 if tail is None else tail.size), stop)
        return first, data if tail is None else np.concatenate([tail, data])

    def _together(self, key: str) -> int:
        """How many elements of a source are held together: those decoded together, unless the leaf only moves, or they
        are too many, and the next range may go on where this one ended.
        """
        reader = self.job.reader
        grain, moves = reader.granularity(key), self.job.digest_of is not None
        large = grain * reader.spec(key).itemsize > RUN
        return 1 if (moves or large) and reader.continues(key) else grain

    def _read(self, key: str, start: int, stop: int) -> np.ndarray:
        data = self.job.reader.read(key, start, stop)
        if self.whole and self.job.reader.spec(key).size == data.size:
            self.whole(key).take(data)
        return data


def _dense(piece: Piece) -> int:
    """The least span of the target, from a multiple on, whose elements lie about as close in the source as all do.

    1 if rows stay rows, one layer if the matrices of stacked layers are transposed, else the whole piece.
    """
    closeness = [1.0]
    size, reach, span = 1, 1, 1
    for n, s, t in reversed([*zip(piece.shape, piece.source_strides, piece.target_strides, strict=True)]):
        size, reach, span = size * n, reach + (n - 1) * s, span + (n - 1) * t
        closeness.append(reach / size)
    unit = span
    for inner, stride in zip(reversed(closeness[:-1]), piece.target_strides, strict=True):
        if inner > CLOSE * closeness[-1]:
            break
        unit = stride
    return unit
