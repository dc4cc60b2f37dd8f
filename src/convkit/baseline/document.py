"""The baseline of a row as a document: its type, of which the schema is made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from convkit.files.document import Document
from convkit.files.receipt_json import Digest, Seal, Versions

PlanDigest = Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]


class Applied(Struct, frozen=True, kw_only=True):
    """A rule of the plan, and the digests of the leaves that it made.

    A leaf that no rule made has its origin in the rule's place: ``stated``, ``initialised``.
    """

    rule: str
    change: Annotated[str, Meta(description="what it does to axes and values; empty for leaves moved as they are")]
    exactness: str
    leaves: Annotated[dict[str, Digest], Meta(description="by key, in order")]


class StageFigures(Struct, frozen=True, kw_only=True):
    """How far the models' stages are apart, and the bound of that."""

    max_rel: float | None
    bound: float | None


class Judged(Struct, frozen=True, kw_only=True):
    """What a check said: its figures, its bounds, and the planted faults, by name with the stages they were planted in.

    Figures that aren't whole numbers have three significant digits. A fault that belongs to no stage has the stage "".
    """

    state: str
    measured: dict[str, Any]
    bound: dict[str, Any]
    stages: dict[str, StageFigures]
    caught: dict[str, list[str]]
    missed: dict[str, list[str]]
    deviations: Annotated[list[str], Meta(description="fields of configs that are said only nearly")]


class Acceptance(Struct, frozen=True, kw_only=True):
    """Who accepted which output, when and why: a line of the row's history."""

    time: str
    responsible: str
    reason: Annotated[str, Meta(min_length=1)]
    changes: Annotated[dict[str, int], Meta(description="what had moved since the line before, by kind, and how often")]
    verdict: str
    plan_digest: PlanDigest
    target: Annotated[str, Meta(description="over the digests of all leaves and files")]
    versions: Annotated[Versions, Meta(description="of what had a part in it")]


class Baseline(Document, frozen=True, kw_only=True):
    """What a row gave when it was accepted; ``digest`` seals the document's own bytes."""

    schema: Literal["convkit.baseline/1"] = "convkit.baseline/1"
    id: str
    verdict: str
    plan_digest: PlanDigest
    source: Annotated[str | None, Meta(description="over the digests of the source's leaves")]
    config: Annotated[dict[str, Any], Meta(description="of the target, as the plan says it")]
    rules: list[Applied]
    files: Annotated[dict[str, Digest], Meta(description="of each file's bytes, except those of leaves")]
    checks: dict[str, Judged]
    versions: Versions
    accepted: Annotated[list[Acceptance], Meta(description="the oldest first")]
    digest: Seal | UnsetType = UNSET

    @property
    def leaves(self) -> dict[str, tuple[str, Applied]]:
        """Each leaf's digest, and the rule that made it."""
        return {key: (digest, rule) for rule in self.rules for key, digest in rule.leaves.items()}
