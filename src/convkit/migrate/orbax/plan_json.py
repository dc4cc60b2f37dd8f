"""Write a migration as a plan: the fate of every leaf, which changes only in its place."""

from __future__ import annotations

from collections.abc import Iterator

from convkit.checkpoint import TensorSpec
from convkit.migrate.orbax.documents import (
    Asked,
    AskedEncoding,
    MigrationPlan,
    PlannedOrbax,
    PlannedTarget,
    SourceLeaf,
    TargetLeaf,
)
from convkit.migrate.orbax.parts import Fate, Part
from convkit.migrate.orbax.request import Migration, Request
from convkit.plan.figures import Figures

#: bytes of memory that rewriting takes at most; unchanged data takes none
_PEAK = 256 << 20


def plan_document(migration: Migration) -> MigrationPlan:
    """Make the document that describes a migration."""
    source: dict[str, SourceLeaf] = {}
    target: dict[str, TargetLeaf] = {}
    nbytes = 0
    for part in migration.parts:
        for fate in part.fates:
            for leaf, spec in _leaves(fate):
                shape, dtype = (list(spec.shape), spec.dtype) if spec else (None, None)
                was, becomes = _key(part, fate.source, leaf), _key(part, fate.target, leaf)
                if leaf in fate.dropped:
                    source[was] = SourceLeaf(shape=shape, dtype=dtype, reason="asked for", fate="dropped")
                    continue
                source[was] = SourceLeaf(shape=shape, dtype=dtype, reason=fate.rewritten)
                target[becomes] = TargetLeaf(shape=shape, dtype=dtype, reason=fate.rewritten)
                nbytes += spec.nbytes if spec else 0
    request = migration.request
    anew = any(fate.rewritten for part in migration.parts for fate in part.fates)
    return MigrationPlan(
        request=_asked(request),
        source=PlannedOrbax(format=f"orbax-{migration.source.api}", kind=migration.source.kind, config={}),
        target=PlannedTarget(format=f"orbax-{request.to}", config={}),
        source_leaves=source,
        target_leaves=target,
        steps=[],
        warnings=migration.notes,
        summary=Figures(
            source_leaves=len(source),
            target_leaves=len(target),
            bytes_read=nbytes,
            bytes_written=nbytes,
            peak_bytes=_PEAK if anew else 0,
        ),
    )


def _asked(request: Request) -> Asked:
    encoding = request.encoding
    return Asked(
        to=request.to,
        mode=request.mode,
        steps=list(request.steps),
        dual=request.dual,
        drop=list(request.drop),
        encoding=AskedEncoding(encoding.zarr, encoding.ocdbt, encoding.compressor, encoding.chunk_size),
    )


def _leaves(fate: Fate) -> Iterator[tuple[str, TensorSpec | None]]:
    """The leaves of an item by storage name; texts have no spec."""
    if fate.pytree is not None:
        yield from fate.pytree.specs.items()
        yield from ((name, None) for name in fate.pytree.texts)


def _key(part: Part, item: str, leaf: str) -> str:
    return "/".join(name for name in (part.name, item, leaf) if name)
