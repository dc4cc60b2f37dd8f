"""The input that both models are run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convkit.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Facts

#: Rotation at position 0 is the identity and grows from there: a fault in it hides in a short input.
POSITIONS = 256
ROWS = 2
_FEWEST = 2
SEED = 20261122


def probe_length(source: Facts, target: Facts, asked: int | None = None) -> int:
    """Positions to run: what was asked, else 256; more where longrope needs it, never more than the models allow.

    Raises:
        UsageError: fewer than 2 (Cerebras refuses a single position).
    """
    if asked is not None and asked < _FEWEST:
        raise UsageError(f"a probe of {asked} positions", remedy=f"name {_FEWEST} or more")
    switch = max(source.switches_at, target.switches_at)
    wanted = max(asked or POSITIONS, switch + POSITIONS // 4 if switch else 0)
    return min(wanted, source.positions, target.positions)


def make_probe(source: Facts, target: Facts, length: int, seed: int = SEED) -> dict[str, Tensor]:
    """Random ids ``[2, length]`` that both models know, always the same for a seed.

    Encoders also get two token types where they have them, and a second row whose end is padding:
    int64, 1 where a position is seen.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    vocab = min(source.vocab_size, target.vocab_size)
    probe = {"input_ids": torch.randint(vocab, (ROWS, length), generator=generator)}
    if not source.causal:
        seen = torch.ones(ROWS, length, dtype=torch.long)
        seen[1, length - length // 6 :] = 0
        probe["attention_mask"] = seen
        kinds = max(1, min(source.segments, target.segments))
        probe["token_type_ids"] = (torch.arange(length) * kinds // length).expand(ROWS, length).contiguous()
    return probe
