"""The encoder: a plain vision transformer that reads search region and templates together (paper section 3.3).

Templates and search region are cut into patches by one embedding; their tokens are concatenated, search first,
and go through all blocks as one sequence, so that features of the search region depend on the target.
Architecture of timm's and MAE's ViT without class token; token order and initialisation of microsoft/VideoX
SeqTrack lib/models/seqtrack/encoder.py and vit.py.

Letters: B batch, T templates, N search tokens, M tokens of one template, A = N + T M all tokens, C width.
"""

import math
from collections import OrderedDict
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seqtrack_lit.checks import flag, number, whole
from seqtrack_lit.models.attention import attend, merge_heads

Templates = Float[Tensor, "B T 3 h w"]
Search = Float[Tensor, "B 3 H W"]


class Encoder(nn.Module):
    """What every encoder has: the geometry of its input and the number of tokens it gives.

    Args:
        search_size: side of the square search crop, pixels.
        template_size: side of the square template crops, pixels.
        templates: number of templates.
        patch: side of a patch, pixels.
        width: width of the features.
        joint: False encodes search region and every template apart, with shared weights (Tab. 4 #3).
    """

    reads_boxes = False  # whether `forward` takes the target's boxes in the templates, too

    def __init__(
        self, *, search_size: int, template_size: int, templates: int, patch: int, width: int, joint: bool
    ) -> None:
        super().__init__()
        whole("model.encoder", 1, search_size=search_size, template_size=template_size, templates=templates)
        flag("model.encoder", joint=joint)
        check_sizes(patch, search_size=search_size, template_size=template_size)
        self.search_size = search_size
        self.template_size = template_size
        self.templates = templates
        self.patch = patch
        self.width = width
        self.joint = joint
        self.search_grid = search_size // patch
        self.template_grid = template_size // patch

    @property
    def search_tokens(self) -> int:
        """N, the tokens of the search region, row by row."""
        return self.search_grid**2

    @property
    def tokens(self) -> int:
        """N + T M, all tokens: search region first, then the templates one after another."""
        return self.search_tokens + self.templates * self.template_grid**2

    def forward(self, templates: Templates, search: Search) -> Float[Tensor, "B A C"]:
        """Normalised images to features."""
        raise NotImplementedError

    def search_features(self, templates: Templates, search: Search) -> Float[Tensor, "B N C"]:
        """The features of the search region alone; encoders that can save the work of the others do."""
        return cast(Tensor, self(templates, search))[:, : self.search_tokens]


class Attention(nn.Module):
    """Self-attention with one matrix for queries, keys and values, as in timm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "B N C"], first: int | None = None) -> Float[Tensor, "B n C"]:
        """Attention of the first n tokens (None: of all) to all tokens."""
        qkv = self.qkv(tokens).view(*tokens.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # 3 B H N E
        queries, keys, values = qkv.unbind(0)
        outputs, _ = attend(queries[:, :, :first], keys, values)
        return cast(Tensor, self.proj(merge_heads(outputs)))


class Block(nn.Module):
    """Attention and a two-layer perceptron, each after a norm and around a residual."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(OrderedDict(fc1=nn.Linear(width, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, width)))

    def forward(self, tokens: Float[Tensor, "B N C"], first: int | None = None) -> Float[Tensor, "B n C"]:
        """Tokens to tokens; only the first n come out where the others are not needed."""
        tokens = tokens[:, :first] + self.attn(self.norm1(tokens), first)
        return cast(Tensor, tokens + self.mlp(self.norm2(tokens)))


def check_sizes(patch: int, **sizes: int) -> None:
    """Refuse sides of crops that patches do not tile.

    Raises:
        ValueError: names the key, the nearest sizes that fit, and what to write.
    """
    for name, size in sizes.items():
        if size < patch or size % patch:
            down = max(patch, size // patch * patch)
            raise ValueError(
                f"model.encoder.{name} must be a multiple of the patch size {patch}, got {size}; the nearest are "
                f"{down} and {down + patch}: write model.encoder.{name}={down}"
            )


class ViTEncoder(Encoder):
    """Plain ViT. All arguments after `checkpoint` set the start of training only.

    By default it starts at random as the official one does, in truncated normals of standard deviation 0.02.

    Args:
        search_size: side of the square search crop, pixels.
        template_size: side of the square template crops, pixels.
        templates: number of templates.
        patch: side of a patch, pixels.
        width: width of the tokens.
        depth: number of blocks.
        heads: attention heads of a block.
        mlp_ratio: hidden width of a block's perceptron over `width`.
        joint: False encodes search region and every template apart, with shared weights (Tab. 4 #3).
        checkpoint: recompute activations in the backward pass: less memory, more time.
        pretrained: MAE weights of ViT-B or ViT-L: True downloads them, a path reads mae_pretrain_vit_*.pth (the
            official start; CC-BY-NC 4.0). The arguments below then have no effect on what the file fills.
        xavier: linear layers Xavier-uniform (queries, keys and values each by itself) instead of normal.
        position_std: standard deviation of the position embeddings.
        patch_gain: factor on the patch embedding's weights.
        match_gain: > 0 starts keys equal to queries, orthogonal with this gain, so that attention begins as a
            comparison of tokens: what matching needs. 0 leaves them to the rule of the other linear layers.
        target_share: > 0 adds one vector to the positions of template patches inside the target and another to
            those outside, the target taken as a central square with this share of the template's side
            (1 / crop factor).
        target_std: standard deviation of these two vectors.
        target_bias: start of the query biases, in lengths of the unit vector along the target vector: every
            token begins by looking at the target.
    """

    def __init__(
        self,
        *,
        search_size: int = 256,
        template_size: int = 256,
        templates: int = 2,
        patch: int = 16,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        joint: bool = True,
        checkpoint: bool = False,
        pretrained: bool | str = False,
        xavier: bool = False,
        position_std: float = 0.02,
        patch_gain: float = 1.0,
        match_gain: float = 0.0,
        target_share: float = 0.0,
        target_std: float = 0.5,
        target_bias: float = 0.0,
    ) -> None:
        whole("model.encoder", 1, patch=patch, width=width, heads=heads)
        whole("model.encoder", 0, depth=depth)
        flag("model.encoder", checkpoint=checkpoint, xavier=xavier)
        number("model.encoder", above=True, mlp_ratio=mlp_ratio)
        number("model.encoder", position_std=position_std, match_gain=match_gain, target_std=target_std)
        number("model.encoder", 0, 1, target_share=target_share)
        number("model.encoder", -math.inf, patch_gain=patch_gain, target_bias=target_bias)
        if width % heads:
            raise ValueError(f"model.encoder.width must be a multiple of model.encoder.heads = {heads}, got {width}")
        super().__init__(
            search_size=search_size,
            template_size=template_size,
            templates=templates,
            patch=patch,
            width=width,
            joint=joint,
        )
        self.checkpoint = checkpoint
        self.patch_embed = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.search_position = nn.Parameter(torch.zeros(1, self.search_grid**2, width))
        self.template_position = nn.Parameter(torch.zeros(1, self.template_grid**2, width))
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self._initialise(xavier, position_std, patch_gain)
        if match_gain:
            self._start_matching(match_gain)
        if target_share:
            self._mark_target(target_share, target_std, target_bias)
        if pretrained:
            from seqtrack_lit.models.timm_encoder import start_from_mae  # timm takes seconds to import

            start_from_mae(self, pretrained)

    def forward(self, templates: Templates, search: Search) -> Float[Tensor, "B A C"]:
        """Normalised images to features: search region first, then the templates one after another."""
        search_tokens = self._embed(search) + self.search_position
        template_tokens = self._embed(templates.flatten(0, 1)) + self.template_position  # BT M C
        if self.joint:
            return self._run_blocks(torch.cat([search_tokens, _concat_templates(template_tokens, len(search))], dim=1))
        return torch.cat(
            [self._run_blocks(search_tokens), _concat_templates(self._run_blocks(template_tokens), len(search))], dim=1
        )

    def search_features(self, templates: Templates, search: Search) -> Float[Tensor, "B N C"]:
        """The features of the search region alone: the last block computes no others."""
        search_tokens = self._embed(search) + self.search_position
        if not self.joint:
            return self._run_blocks(search_tokens)
        template_tokens = self._embed(templates.flatten(0, 1)) + self.template_position
        tokens = torch.cat([search_tokens, _concat_templates(template_tokens, len(search))], dim=1)
        return self._run_blocks(tokens, self.search_tokens)

    def _embed(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n C"]:
        return cast(Tensor, self.patch_embed(images)).flatten(2).transpose(1, 2)  # b C y x -> b (y x) C

    def _run_blocks(self, tokens: Float[Tensor, "b n C"], first: int | None = None) -> Float[Tensor, "b m C"]:
        """All blocks and the final norm; the last block gives only the `first` tokens, None: all."""
        last = len(self.blocks) - 1
        for place, block in enumerate(self.blocks):
            wanted = first if place == last else None
            if self.checkpoint and torch.is_grad_enabled():
                tokens = cast(Tensor, checkpoint(block, tokens, wanted, use_reentrant=False))
            else:
                tokens = block(tokens, wanted)
        return cast(Tensor, self.norm(tokens[:, :first]))

    @torch.no_grad()
    def _initialise(self, xavier: bool, position_std: float, patch_gain: float) -> None:
        for name, module in self.named_modules():
            if not isinstance(module, nn.Linear):
                continue
            nn.init.zeros_(module.bias)
            if not xavier:
                nn.init.trunc_normal_(module.weight, std=0.02)
                continue
            for matrix in module.weight.chunk(3 if name.endswith("qkv") else 1):
                nn.init.xavier_uniform_(matrix)
        nn.init.trunc_normal_(self.search_position, std=position_std)
        nn.init.trunc_normal_(self.template_position, std=position_std)
        self.patch_embed.weight.mul_(patch_gain)

    @torch.no_grad()
    def _start_matching(self, gain: float) -> None:
        for attention in self._attentions():
            queries, keys, _ = attention.qkv.weight.chunk(3)
            keys.copy_(nn.init.orthogonal_(queries, gain))

    @torch.no_grad()
    def _mark_target(self, share: float, std: float, bias: float) -> None:
        target, around = torch.randn(2, self.width) * std
        edges = torch.linspace(0, 1, self.template_grid + 1)
        low, high = 0.5 - share / 2, 0.5 + share / 2
        inside = (edges[1:].clamp(max=high) - edges[:-1].clamp(min=low)).clamp(min=0) * self.template_grid
        inside = (inside[:, None] * inside).flatten()[:, None]  # y x -> (y x) 1, share of the patch inside the target
        self.template_position.add_(inside * target + (1 - inside) * around)
        for attention in self._attentions():
            keys = attention.qkv.weight.chunk(3)[1]
            attention.qkv.bias.chunk(3)[0].copy_(keys @ (target / target.norm()) * bias)

    def _attentions(self) -> list[Attention]:
        return [module for module in self.modules() if isinstance(module, Attention)]


def _concat_templates(tokens: Float[Tensor, "BT M C"], batch: int) -> Float[Tensor, "B TM C"]:
    """The tokens of a sample's templates one after another."""
    return tokens.reshape(batch, -1, tokens.shape[-1])
