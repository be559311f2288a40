"""Losses against hand arithmetic."""

import math

import pytest
import torch

from seqtrack_lit.boxes import patch_shares
from seqtrack_lit.tokens import BoxTokenizer
from seqtrack_lit.training.losses import dense_loss, token_loss

BOX = torch.tensor([[0.5, 0.5, 0.25, 0.5]])  # 9 bins: tokens 4 4 2 4
NINE = BoxTokenizer(bins=9)


def confident(tokens: list[int], sizes: list[float], vocabulary: int = 11) -> torch.Tensor:
    """Logits that put `size` on the token and 0 elsewhere."""
    logits = torch.zeros(1, len(tokens), vocabulary)
    for i, (token, size) in enumerate(zip(tokens, sizes, strict=True)):
        logits[0, i, token] = size
    return logits


def nll(size: float) -> float:
    """-log softmax of the one raised entry among 11."""
    return -size + math.log(math.exp(size) + 10)


@pytest.mark.parametrize("order", ["cxcywh", "whcxcy", "xyxy"])
def test_a_model_that_knows_nothing(order: str) -> None:
    tokenizer = BoxTokenizer(bins=9, order=order)
    assert float(token_loss(torch.zeros(1, 5, 11), BOX, tokenizer).total) == pytest.approx(math.log(11))


def test_end_weight_is_a_weighted_mean() -> None:
    """(4 * nll(2) + 0.01 * nll(0)) / 4.01, as torch's cross_entropy(weight=...) does it."""
    logits = confident([4, 4, 2, 4, 9], [2, 2, 2, 2, 0])
    loss = token_loss(logits, BOX, NINE, end_weight=0.01)
    assert float(loss.total) == pytest.approx((4 * nll(2) + 0.01 * nll(0)) / 4.01)
    weight = torch.ones(11)
    weight[9] = 0.01
    reference = torch.nn.functional.cross_entropy(logits[0], torch.tensor([4, 4, 2, 4, 9]), weight=weight)
    assert float(loss.total) == pytest.approx(float(reference))
    assert loss.tokens.tolist() == pytest.approx([nll(2)] * 4 + [nll(0)])


def test_order_and_missing_end() -> None:
    """order w,h,cx,cy: tokens 2 4 4 4; the bidirectional decoder has four answers."""
    loss = token_loss(confident([2, 4, 4, 4], [1, 2, 3, 4]), BOX, BoxTokenizer(bins=9, order="whcxcy"))
    assert loss.tokens.tolist() == pytest.approx([nll(size) for size in (1, 2, 3, 4)], rel=1e-5)
    assert float(loss.total) == pytest.approx(sum(nll(size) for size in (1, 2, 3, 4)) / 4)


def test_soft_targets() -> None:
    """Gaussian of 1 bin around bin 4 of 9 against logits 2 at bin 4: loss = lse - 2 * q(4)."""
    q = [math.exp(-0.5 * (i - 4) ** 2) for i in range(9)]
    lse = math.log(math.exp(2) + 10)
    box = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    loss = token_loss(confident([4, 4, 4, 4, 9], [2, 2, 2, 2, 2]), box, NINE, soft_bins=1.0)
    assert float(loss.total) == pytest.approx((4 * (lse - 2 * q[4] / sum(q)) + lse - 2) / 5)
    narrow = token_loss(confident([4, 4, 4, 4, 9], [2] * 5), box, NINE, soft_bins=0.01)
    assert float(narrow.total) == pytest.approx(nll(2))


def test_patch_shares() -> None:
    """Grid of 2: a box over the left half and the upper three quarters; one that leaves the crop."""
    shares = patch_shares(torch.tensor([[0.25, 0.375, 0.5, 0.75], [0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 1.0, 1.0]]), 2)
    assert shares[0].tolist() == pytest.approx([1.0, 0.0, 0.5, 0.0])
    assert shares[1].tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0])
    assert shares[2].tolist() == pytest.approx([0.0] * 4)


def test_dense_loss() -> None:
    """Targets 1, 0, .5, 0 against answers 0: log 2 each."""
    assert float(dense_loss(torch.zeros(1, 4), torch.tensor([[0.25, 0.375, 0.5, 0.75]]))) == pytest.approx(math.log(2))


def test_low_precision_logits_are_summed_in_float32() -> None:
    logits = torch.randn(2, 5, 11, dtype=torch.bfloat16)
    box = BOX.repeat(2, 1)
    exact = token_loss(logits.float(), box, NINE).total
    assert torch.equal(token_loss(logits, box, NINE).total, exact)
