"""Figures of logits that come in slices of the vocabulary: those of the whole."""

from __future__ import annotations

import pytest

from convkit.verify.equivalence.agreement import Distribution

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("slices", [(5000,), (700, 4300), (1, 4998, 1)])
def test_slices_of_a_vocabulary_add_up(slices: tuple[int, ...]):
    random = torch.Generator().manual_seed(3)
    ours, theirs = (5 * torch.randn(2, 3, 5000, generator=random) for _ in "ab")
    theirs[0] = ours[0]
    found = Distribution()
    for pair in zip(ours.split(slices, -1), theirs.split(slices, -1), strict=True):
        found.add(*pair)
    logs = [logits.double().log_softmax(-1) for logits in (ours, theirs)]
    kl = (logs[0].exp() * (logs[0] - logs[1])).sum(-1)
    assert found.max_kl == pytest.approx(kl.max().item())
    assert found.difference == (ours - theirs).abs().max().item()
    tops = [logits.topk(5).indices for logits in (ours, theirs)]
    shared = (tops[0][..., :, None] == tops[1][..., None, :]).any(-1).double().mean().item()
    assert found.shared_top(5) == pytest.approx(shared)
