"""Turn a step into the strided copies that carry it out."""

from __future__ import annotations

from msgspec import Struct

from convkit.mapping.sizes import strided_pieces
from convkit.plan.step import Step


class Piece(Struct, frozen=True):
    """One strided copy: ``shape`` elements from a source leaf to a target leaf (in elements, C order)."""

    source: str
    target: str
    shape: tuple[int, ...]
    source_offset: int
    source_strides: tuple[int, ...]
    target_offset: int
    target_strides: tuple[int, ...]

    @property
    def crosswise(self) -> bool:
        """Whether neighbours in the target lie far apart in the source: a transposition."""
        wide = [s for n, s in zip(self.shape, self.source_strides, strict=True) if n > 1]
        return bool(wide) and min(wide) != wide[-1] and self.shape[-1] > 1


def pieces(step: Step) -> list[Piece]:
    """The strided copies that carry out the step."""
    out = []
    sources = [(side, strided_pieces(side.axes, step.sizes, side.spec.shape)) for side in step.sources]
    for target in step.targets:
        found = strided_pieces(target.axes, step.sizes, target.spec.shape)
        for source, have in sources:
            for atoms, there in found.items():
                at_source, at_target = dict(source.at), dict(target.at)
                here = have.get(atoms.union(at_target).difference(at_source))
                if here is None:
                    continue
                axes = [a for a in atoms if a in here.strides]
                axes.sort(key=lambda a, there=there: (-there.strides[a], a))  # type: ignore[misc]
                shape = tuple(step.sizes[a] for a in axes)
                if 0 in shape:
                    continue
                out.append(
                    Piece(
                        source.key,
                        target.key,
                        shape,
                        here.offset + sum(i * here.strides[a] for a, i in target.at if a in here.strides),
                        tuple(here.strides[a] for a in axes),
                        there.offset + sum(i * there.strides[a] for a, i in source.at if a in there.strides),
                        tuple(there.strides[a] for a in axes),
                    )
                )
    return out
