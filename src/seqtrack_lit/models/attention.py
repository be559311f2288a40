"""Scaled dot-product attention, the one operation encoder and decoder share.

Letters: B batch, H heads, Q queries, K keys, E head width (model width = H E).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Heads = Float[Tensor, "B H N E"]


def attend(
    queries: Float[Tensor, "B H Q E"],
    keys: Float[Tensor, "B H K E"],
    values: Float[Tensor, "B H K E"],
    *,
    attn_mask: Bool[Tensor, "Q K"] | None = None,
    dropout: float = 0.0,
    weights: bool = False,
) -> tuple[Float[Tensor, "B H Q E"], Float[Tensor, "B H Q K"] | None]:
    """softmax(queries keys^T / sqrt(E)) values.

    Args:
        queries: B H Q E.
        keys: B H K E.
        values: B H K E.
        attn_mask: which keys (columns) a query (row) may see; all when None.
        dropout: probability of dropping an attention weight; the caller passes 0 outside of training.
        weights: whether to return the attention weights too, before dropout; each row sums to 1.

    Returns:
        The outputs [B H Q E], and the weights [B H Q K] if `weights`.
    """
    # The fused kernel returns no weights, and its backward in low precision on a CPU takes 43 % of a training
    # step at the sizes of the tiny model: both cases are written out.
    slow_kernel = queries.device.type == "cpu" and queries.dtype != torch.float32
    if not weights and not slow_kernel:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=attn_mask, dropout_p=dropout), None
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    attention = scores.softmax(-1, dtype=torch.float32).to(values.dtype)
    outputs = F.dropout(attention, dropout) @ values if dropout else attention @ values
    return outputs, attention if weights else None


def split_heads(tokens: Float[Tensor, "B N C"], heads: int) -> Heads:
    """Tokens to heads: B N (H E) -> B H N E."""
    return tokens.reshape(*tokens.shape[:2], heads, -1).transpose(1, 2)


def merge_heads(tokens: Heads) -> Float[Tensor, "B N C"]:
    """Heads to tokens: B H N E -> B N (H E)."""
    return tokens.transpose(1, 2).flatten(2)
