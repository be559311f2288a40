"""What training minimises: cross-entropy of the token sequence, and a dense loss that only training uses.

Letters: B batch, L tokens (5; 4 for the bidirectional decoder, which has no END), V vocabulary, N search tokens.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from seqtrack_lit.boxes import Boxes, patch_shares
from seqtrack_lit.tokens import BoxTokenizer


class TokenLoss(NamedTuple):
    """`total`, a scalar, the mean of `samples` [B]; `tokens` [L], the plain mean cross-entropy of each position.

    `samples` and `tokens` are for looking and have no gradient.
    """

    total: Tensor
    tokens: Tensor
    samples: Tensor


def token_loss(
    logits: Float[Tensor, "B L V"],
    boxes_cxcywh: Boxes,
    tokenizer: BoxTokenizer,
    *,
    end_weight: float = 1.0,
    soft_bins: float = 0.0,
) -> TokenLoss:
    """Mean cross-entropy over the four coordinates and END.

    Args:
        logits: under teacher forcing, after START, t1, ..., t4.
        boxes_cxcywh: targets, fractions of the search crop; clamped to it by the tokenizer.
        tokenizer: boxes -> tokens.
        end_weight: weight of END in a weighted mean; 0.01 is the official code (normaliser 4.01 per sample).
        soft_bins: > 0 teaches a Gaussian of this standard deviation (in bins) around the exact coordinate instead
            of its token; 0 is the paper.
    """
    _, target = tokenizer.teacher(boxes_cxcywh)
    target = target[:, : logits.shape[1]]
    # softmax and sums in float32, whatever the network computed in
    log_likelihood = logits.float().log_softmax(-1)
    hard = -log_likelihood.gather(2, target[..., None]).squeeze(-1)  # B L
    loss = hard
    if soft_bins > 0:
        soft = -(_gaussian(boxes_cxcywh, tokenizer, soft_bins) * log_likelihood[:, :4, : tokenizer.bins]).sum(-1)
        loss = torch.cat([soft, hard[:, 4:]], dim=1)
    weight = torch.ones(loss.shape[1], device=loss.device)
    weight[4:] = end_weight
    weighted = loss * weight
    total = weighted.sum() / (weight.sum() * len(loss))
    return TokenLoss(total, hard.detach().mean(0), weighted.detach().sum(1) / weight.sum())


def _gaussian(boxes_cxcywh: Boxes, tokenizer: BoxTokenizer, sigma: float) -> Float[Tensor, "B 4 bins"]:
    """A distribution over the bins around each exact coordinate; sums to 1 also at the border."""
    bins = torch.arange(tokenizer.bins, device=boxes_cxcywh.device, dtype=torch.float32)
    distance = bins - tokenizer.continuous(boxes_cxcywh.float())[..., None]
    return (-0.5 * (distance / sigma) ** 2).softmax(-1)


def dense_loss(logits: Float[Tensor, "B N"], boxes_cxcywh: Boxes) -> Float[Tensor, ""]:
    """Binary cross-entropy of "how much of this patch is target", one logit per search token, row by row.

    Not in the paper: it makes matching begin at half as many samples in tiny models; dropped at inference.
    """
    grid = math.isqrt(logits.shape[1])
    return F.binary_cross_entropy_with_logits(logits.float(), patch_shares(boxes_cxcywh, grid))
