"""A plain ViT in which a template sees only itself, so that its keys and values are computed once for all frames.

Search tokens see the search region and all templates, as in the plain ViT; template tokens see those of their own
template. What a frame costs is then the search region's N tokens alone. Beyond the paper: LoRATv2 does likewise.
Weights of the official code were trained with templates that see the search region, and track badly here.

Letters: B batch, T templates, N search tokens, M tokens of one template, A = N + T M all tokens, C width, D blocks, H
heads, E head width.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from seqtrack_lit.models.attention import attend, merge_heads, split_heads
from seqtrack_lit.models.encoder import Block, Search, Templates, ViTEncoder

KeysValues = list[Float[Tensor, "B T 2 M C"]]


class CachedEncoder(ViTEncoder):
    """`ViTEncoder`, whose arguments and parameters it has, with templates that see only themselves."""

    def forward(self, templates: Templates, search: Search) -> Float[Tensor, "B A C"]:
        """Normalised images to features: search region first, then the templates one after another."""
        keys_values, features = self._read_templates(templates)
        return torch.cat([self._read_search(keys_values, search), *features], dim=1)

    def search_features(self, templates: Templates, search: Search) -> Float[Tensor, "B N C"]:
        """The features of the search region alone."""
        return self._read_search(self._read_templates(templates)[0], search)

    def cache(self, templates: Templates) -> Float[Tensor, "B T D 2 M C"]:
        """Keys and values of templates in every block, which depend on nothing else."""
        return torch.stack(self._read_templates(templates)[0], dim=2)

    def search_features_from(self, cache: Float[Tensor, "B T D 2 M C"], search: Search) -> Float[Tensor, "B N C"]:
        """`search_features` for cached templates, equal to the last bit."""
        return self._read_search(list(cache.unbind(2)), search)

    def _read_templates(self, templates: Templates) -> tuple[KeysValues, list[Float[Tensor, "B M C"]]]:
        """Keys and values of every block, and the features of every template.

        Each template goes through the blocks by itself, as one that comes later does: matrix products of another size
        round differently.
        """
        layers: list[list[Tensor]] = [[] for _ in self.blocks]
        features = []
        for template in templates.unbind(1):
            tokens = self._embed(template) + self.template_position
            for block, kept in zip(cast(list[Block], self.blocks), layers, strict=True):
                tokens, keys_values = _step(block, tokens, [])
                kept.append(keys_values)
            features.append(cast(Tensor, self.norm(tokens)))
        return [torch.stack(kept, dim=1) for kept in layers], features

    def _read_search(self, keys_values: KeysValues, search: Search) -> Float[Tensor, "B N C"]:
        tokens = self._embed(search) + self.search_position
        for block, kept in zip(cast(list[Block], self.blocks), keys_values, strict=True):
            tokens, _ = _step(block, tokens, list(kept.unbind(1)))
        return cast(Tensor, self.norm(tokens))


def _step(
    block: Block, tokens: Float[Tensor, "B n C"], others: list[Float[Tensor, "B 2 M C"]]
) -> tuple[Float[Tensor, "B n C"], Float[Tensor, "B 2 n C"]]:
    """A block for tokens that see each other and the keys and values of others; with their own keys and values."""
    heads = block.attn.heads
    queries, keys, values = block.attn.qkv(block.norm1(tokens)).chunk(3, dim=-1)
    own = torch.stack([keys, values], dim=1)
    seen = torch.cat([own, *others], dim=2)  # B 2 all C
    outputs, _ = attend(split_heads(queries, heads), split_heads(seen[:, 0], heads), split_heads(seen[:, 1], heads))
    tokens = tokens + block.attn.proj(merge_heads(outputs))
    return tokens + block.mlp(block.norm2(tokens)), own
