"""Make the input that both models are run on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from convkit.errors import ConvkitError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Facts

#: Rotation is the identity at position 0 and grows from there, so a short input hides faults in it.
POSITIONS = 256
ROWS = 2
_FEWEST = 2
SEED = 20261122
#: what encoders take
TEXT = ("input_ids", "attention_mask", "token_type_ids")


def probe_length(source: Facts, target: Facts, asked: int | None = None) -> int:
    """Choose the number of positions: as requested or 256, more for longrope, never more than the models allow.

    Raises:
        UsageError: fewer than 2 (Cerebras refuses a single position).
    """
    if asked is not None and asked < _FEWEST:
        raise UsageError(f"a probe of {asked} positions is too short", remedy=f"give {_FEWEST} or more")
    switch = max(source.switches_at, target.switches_at)
    wanted = max(asked or POSITIONS, switch + POSITIONS // 4 if switch else 0)
    return min(wanted, source.positions, target.positions)


def positions_of(facts: Facts, given: Mapping[str, Tensor]) -> int:
    """The positions of an input: its tokens, or a model's patches and class token."""
    return given["input_ids"].shape[1] if "input_ids" in given else facts.positions


def _of(facts: Facts) -> str:
    return f"images of {list(facts.image)}" if facts.image else "text"


def make_probe(
    source: Facts, target: Facts, length: int, seed: int = SEED, takes: Collection[str] = TEXT
) -> dict[str, Tensor]:
    """Draw random ids, int64 ``[2, length]``, that both models know; the same for the same seed. Models of images get
    ``pixel_values``, float32 ``[2, channels, height, width]``, normally distributed: instead, or besides if they have a
    vocabulary. Where tiles make an image, the rows' images have the first and the last shape, as ``aspect_ratio_ids``
    (int64 ``[2, 1]``, from 1 on) say.

    Encoders also get an ``attention_mask`` (int64, 1 for positions that are seen) whose second row ends in padding, and
    ``token_type_ids``: two types if the models have them. ``takes`` names what both models take.
    Retrievers get other ids as contexts (``ctx_input_ids``), of which the first row ends in padding.
    Where a model counts positions from the padding's id on, that id is there and nowhere else: frameworks count the
    same only if nothing follows it.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    if source.image != target.image:
        problem = f"the source takes {_of(source)}, the target {_of(target)}"
        raise ConvkitError(problem, remedy="their configs are of different models")
    probe: dict[str, Tensor] = {}
    if source.image:
        probe["pixel_values"] = torch.randn(ROWS, *source.image, generator=generator)
    if "aspect_ratio_ids" in takes:
        probe["aspect_ratio_ids"] = torch.tensor([[1], [min(source.shapes, target.shapes)]])
    vocab = min(source.vocab_size, target.vocab_size)
    if not vocab:
        return probe
    probe["input_ids"] = torch.randint(vocab, (ROWS, length), generator=generator)
    if "decoder_input_ids" in takes:
        probe["decoder_input_ids"] = torch.randint(vocab, (ROWS, length), generator=generator)
    pads = [facts.padding for facts in (target, source) if facts.padding is not None]
    for pad in pads:
        other = next((one for one in range(vocab) if one not in pads), pad)
        probe["input_ids"][probe["input_ids"] == pad] = other
    if not source.causal and "attention_mask" in takes:
        seen = torch.ones(ROWS, length, dtype=torch.long)
        seen[1, length - length // 6 :] = 0
        probe["attention_mask"] = seen
        for pad in pads[:1]:
            probe["input_ids"][seen == 0] = pad
    if not source.causal and "token_type_ids" in takes:
        kinds = max(1, min(source.segments, target.segments))
        probe["token_type_ids"] = (torch.arange(length) * kinds // length).expand(ROWS, length).contiguous()
    if "ctx_input_ids" in takes:
        contexts = {name: value.flip(0) for name, value in probe.items() if f"ctx_{name}" in takes}
        contexts["input_ids"] = torch.randint(vocab, (ROWS, length), generator=generator)
        probe |= {f"ctx_{name}": value for name, value in contexts.items()}
    return probe
