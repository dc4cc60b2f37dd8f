"""What a part of a conversion says of itself once it is made, and a part of a check of what it has found."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from convkit.files.document import Document
from convkit.files.receipt_json import MadePart, Natural, Seal


class PartDocument(Document, frozen=True, kw_only=True):
    """What a part of a conversion says of itself: it is made, and nothing is published."""

    schema: Literal["convkit.part/1"] = "convkit.part/1"
    convkit: str
    commit: str
    command_line: Annotated[str | UnsetType, Meta(description="what was typed, with credentials masked")] = UNSET
    target: Annotated[str, Meta(description="the final name of what is made in parts")]
    plan_digest: Seal
    identity: Annotated[Seal, Meta(description="of what all parts have in common")]
    parts: Annotated[int, Meta(ge=1, description="how many there are")]
    made: Annotated[MadePart, Meta(description="this part; one of number 0 was only begun")]
    warnings: list[str]
    seconds: Annotated[float, Meta(ge=0)]
    bytes: Annotated[Natural, Meta(description="of leaves that this run made, or of source leaves that it digested")]


class ShareDocument(Document, frozen=True, kw_only=True):
    """What a part of a check has found in its share; there is a verdict once all parts are joined."""

    schema: Literal["convkit.share/1"] = "convkit.share/1"
    check: Literal["roundtrip", "equivalence"]
    source: str
    target: str
    part: Annotated[int, Meta(ge=1)]
    parts: Annotated[int, Meta(ge=1, description="how many there are")]
    about: Annotated[
        dict[str, Any],
        Meta(
            description="convkit, the receipt's digest, that of the plan, and that of the files' states; of an "
            "equivalence check the versions of what computes, and the digest of the settings"
        ),
    ]
    stages: Annotated[
        list[str] | UnsetType, Meta(description="those that were compared; left out where no model was run")
    ] = UNSET
    bytes: Annotated[
        Natural, Meta(description="of source leaves that were compared; of all tensors that models have read")
    ]
    problems: list[str]
