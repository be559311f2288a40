"""A plain ViT in which a template sees only itself, so that its keys and values are computed once for all frames.

Search tokens see the search region and all templates, as in the plain ViT; template tokens see those of their own
template. What a frame costs is then the search region's N tokens alone. Beyond the paper: LoRATv2 does likewise.

Letters: B batch, T templates, N search tokens, M tokens of one template, A = N + T M all tokens, C width, D blocks,
P = 2 D + 1 prepared vectors of a token: its key and value in every block, and what enters the last block.
"""

import inspect
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from seqtrack_lit.models.attention import attend, merge_heads, split_heads
from seqtrack_lit.models.encoder import Block, Search, Templates, ViTEncoder, number_of


class CachedEncoder(ViTEncoder):
    """`ViTEncoder`, whose arguments and parameters it has, with templates that see only themselves.

    It takes a training of its own: official weights expect templates that see the search region.

    Raises:
        ValueError: `joint` is false, or `checkpoint` true; else as `ViTEncoder`.
    """

    __signature__ = inspect.signature(ViTEncoder)  # descriptions are checked against it

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if not self.joint:
            raise ValueError(
                "model.encoder.joint=false: with CachedEncoder (ablation=cached) the search region sees the templates; "
                "leave it out, or train the plain encoder (ablation=separate)"
            )
        if self.checkpoint:
            raise ValueError(
                "model.encoder.checkpoint=true: CachedEncoder (ablation=cached) does not recompute activations; leave "
                "it out, and lower train.device_batch where memory is short"
            )

    def prepare_templates(
        self, templates: Templates, boxes: Float[Tensor, "B T 4"] | None = None
    ) -> Float[Tensor, "B TM P C"]:
        """Keys and values of the templates, one after another.

        Each goes through the blocks by itself, as one that comes later does: a product of other sizes would round
        otherwise.
        """
        prepared = []
        for template in templates.unbind(1):
            tokens, kept = self._embed(template) + self.template_position, list[Tensor]()
            for block in cast(list[Block], list(self.blocks)):
                kept += _project(block, tokens)[1:]
                last, tokens = tokens, tokens if len(kept) == 2 * len(self.blocks) else _run(block, tokens)
            prepared.append(torch.stack([*kept, last], dim=2))
        return torch.cat(prepared, dim=1)

    def features(
        self, prepared: Float[Tensor, "B TM P C"], search: Search, *, search_only: bool = False
    ) -> Float[Tensor, "B n C"]:
        """See `Encoder`."""
        tokens = self._embed(search) + self.search_position
        blocks, vectors = cast(list[Block], list(self.blocks)), prepared.unbind(2)
        for number, block in enumerate(blocks):
            tokens = _run(block, tokens, vectors[2 * number], vectors[2 * number + 1])
        parts = [tokens]
        if not search_only:
            parts += [_run(blocks[-1], one) for one in vectors[-1].split(self.template_grid**2, dim=1)]  # type: ignore[no-untyped-call]
        return cast(Tensor, self.norm(torch.cat(parts, dim=1)))

    def search_attention(
        self,
        templates: Templates,
        search: Search,
        template_boxes: Float[Tensor, "B T 4"] | None = None,
        *,
        block: int = -1,
    ) -> Float[Tensor, "B heads N A"]:
        """See `Encoder`."""
        blocks, vectors = cast(list[Block], list(self.blocks)), self.prepare_templates(templates).unbind(2)
        tokens, last = self._embed(search) + self.search_position, number_of(block, len(blocks))
        for number in range(last):
            tokens = _run(blocks[number], tokens, vectors[2 * number], vectors[2 * number + 1])
        return _weights(blocks[last], tokens, vectors[2 * last])


def _project(block: Block, tokens: Float[Tensor, "B n C"]) -> list[Float[Tensor, "B n C"]]:
    """Queries, keys and values of a block."""
    return list(block.attn.qkv(block.norm1(tokens)).chunk(3, dim=-1))


def _run(
    block: Block,
    tokens: Float[Tensor, "B n C"],
    keys: Float[Tensor, "B m C"] | None = None,
    values: Float[Tensor, "B m C"] | None = None,
) -> Float[Tensor, "B n C"]:
    """A block for tokens that see each other, and others by their keys and values."""
    queries, own_keys, own_values = _project(block, tokens)
    seen_keys = own_keys if keys is None else torch.cat([own_keys, keys], dim=1)
    seen_values = own_values if values is None else torch.cat([own_values, values], dim=1)
    outputs, _ = attend(*(split_heads(one, block.attn.heads) for one in (queries, seen_keys, seen_values)))
    tokens = tokens + block.attn.proj(merge_heads(outputs))
    return cast(Tensor, tokens + block.mlp(block.norm2(tokens)))


def _weights(
    block: Block, tokens: Float[Tensor, "B n C"], keys: Float[Tensor, "B m C"]
) -> Float[Tensor, "B heads n A"]:
    """The attention of tokens in a block to each other and to others."""
    queries, own_keys, _ = _project(block, tokens)
    seen = split_heads(torch.cat([own_keys, keys], dim=1), block.attn.heads)
    weights = attend(split_heads(queries, block.attn.heads), seen, seen, weights=True)[1]
    assert weights is not None
    return weights
