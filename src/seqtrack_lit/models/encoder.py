"""The encoder: a plain vision transformer over search region and templates together (paper section 3.3).

Templates and search region are cut into patches by one embedding; their tokens are concatenated, search first,
and go through all blocks as one sequence, so that features of the search region depend on the target.
Architecture of timm's and MAE's ViT without class token; token order and initialisation of microsoft/VideoX
SeqTrack lib/models/seqtrack/encoder.py and vit.py.

Letters: B batch, T templates, N search tokens, M tokens of one template, A = N + T M all tokens, C width.
"""

from collections import OrderedDict
from functools import cache
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seqtrack_lit.checks import flag, number, whole
from seqtrack_lit.models.attention import Heads, attend, merge_heads

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Templates = Float[Tensor, "B T 3 h w"]
Search = Float[Tensor, "B 3 H W"]


def normalise(images: UInt8[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 3 H W"]:
    """RGB images as the models expect them: in [0, 1], then ImageNet's mean and standard deviation; float32."""
    mean, std = _statistics(images.device)
    return (images / 255.0 - mean) / std


@cache
def _statistics(device: torch.device) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    """ImageNet's mean and standard deviation, sent to a device once: a copy per frame would synchronise it."""
    with torch.inference_mode(False):  # training uses them too
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std


class Encoder(nn.Module):
    """Base class of the encoders: the geometry of the input and the number of tokens.

    Args:
        search_size: side of the square search crop, pixels.
        template_size: side of the square template crops, pixels.
        templates: number of templates.
        patch: side of a patch, pixels.
        width: width of the features.
        joint: False encodes search region and every template separately, with shared weights (Tab. 4 #3).
    """

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

    def prepare_templates(self, templates: Templates, boxes: Float[Tensor, "B T 4"] | None = None) -> Tensor:
        """What depends on the templates alone, computed once for many search regions: here, the images themselves.

        Args:
            templates: normalised template crops.
            boxes: the target in each template (cxcywh, fractions), for encoders that read it.
        """
        return templates

    def features(self, prepared: Tensor, search: Search, *, search_only: bool = False) -> Float[Tensor, "B n C"]:
        """The output of `forward` for prepared templates; if `search_only`, the first N tokens of it."""
        features = cast(Tensor, self(prepared, search))
        return features[:, : self.search_tokens] if search_only else features

    def search_attention(
        self,
        templates: Templates,
        search: Search,
        template_boxes: Float[Tensor, "B T 4"] | None = None,
        *,
        block: int = -1,
    ) -> Float[Tensor, "B heads N A"]:
        """The attention of the search tokens to all tokens in a block, by head; each row sums to 1.

        Args:
            templates: normalised template crops.
            search: normalised search crop.
            template_boxes: the target in each template, for encoders that read it.
            block: number of the block, from 0, or -1 for the last one.

        Raises:
            ValueError: this encoder does not compute it, or there is no such block.
        """
        raise ValueError("attention weights are returned by the encoders ViTEncoder and TwoStageEncoder, not by timm's")


class Attention(nn.Module):
    """Self-attention with one matrix for queries, keys and values, as in timm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "B N C"], first: int | None = None) -> Float[Tensor, "B n C"]:
        """Attention of the first n tokens (None: of all) to all tokens."""
        queries, keys, values = self._heads(tokens)
        outputs, _ = attend(queries[:, :, :first], keys, values)
        return cast(Tensor, self.proj(merge_heads(outputs)))

    def weights(self, tokens: Float[Tensor, "B N C"], first: int) -> Float[Tensor, "B H n N"]:
        """The attention of the first n tokens to all tokens; each row sums to 1."""
        queries, keys, values = self._heads(tokens)
        _, weights = attend(queries[:, :, :first], keys, values, weights=True)
        assert weights is not None
        return weights

    def _heads(self, tokens: Float[Tensor, "B N C"]) -> tuple[Heads, Heads, Heads]:
        """Queries, keys and values; split in this order, their gradients are stacked as the linear layer has them."""
        qkv = self.qkv(tokens).view(*tokens.shape[:2], 3, self.heads, -1)  # B N 3 H E
        queries, keys, values = (one.transpose(1, 2) for one in qkv.unbind(2))
        return queries, keys, values


class Block(nn.Module):
    """Attention and a two-layer MLP, each after a norm and around a residual."""

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


def attention_in(
    blocks: nn.ModuleList, tokens: Float[Tensor, "B N C"], block: int, first: int
) -> Float[Tensor, "B H n N"]:
    """The attention of the first n tokens in one of some blocks.

    Raises:
        ValueError: there is no such block.
    """
    number = number_of(block, len(blocks))
    for one in blocks[:number]:
        tokens = one(tokens, None)
    last = cast(Block, blocks[number])
    return last.attn.weights(last.norm1(tokens), first)


def number_of(block: int, count: int) -> int:
    """The number of a block among `count` of them, from 0; negative ones count from the end.

    Raises:
        ValueError: there is no such block.
    """
    if not -count <= block < count:
        raise ValueError(f"block {block}: there are {count} in which search region and templates meet")
    return block % count


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


@runtime_checkable
class EncoderInit(Protocol):
    """Initial weights of a ViTEncoder."""

    def encoder(self, encoder: "ViTEncoder") -> None:
        """Set them."""


class ViTEncoder(Encoder):
    """Plain ViT.

    Args:
        search_size: side of the square search crop, pixels.
        template_size: side of the square template crops, pixels.
        templates: number of templates.
        patch: side of a patch, pixels.
        width: width of the tokens.
        depth: number of blocks.
        heads: attention heads of a block.
        mlp_ratio: hidden width of a block's MLP over `width`.
        joint: False encodes search region and every template separately, with shared weights (Tab. 4 #3).
        checkpoint: recompute activations in the backward pass: less memory, more time.
        pretrained: MAE weights of ViT-B or ViT-L: True downloads them, a path reads mae_pretrain_vit_*.pth (the
            official start; CC-BY-NC 4.0).
        init: initial weights of what `pretrained` does not fill. None is the official rule: linear layers and
            positions truncated normal with standard deviation 0.02, biases 0, patch embedding as torch's default.
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
        init: EncoderInit | None = None,
    ) -> None:
        whole("model.encoder", 1, patch=patch, width=width, heads=heads)
        whole("model.encoder", 0, depth=depth)
        flag("model.encoder", checkpoint=checkpoint)
        number("model.encoder", above=True, mlp_ratio=mlp_ratio)
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
        if init is None:
            self._initialise()
        else:
            init.encoder(self)
        if pretrained:
            from seqtrack_lit.models.pretrained import mae_state  # timm takes seconds to import

            grids = {"search_grid": self.search_grid, "template_grid": self.template_grid}
            self.load_state_dict(mae_state(pretrained, width=width, patch=patch, depth=depth, **grids))

    def forward(self, templates: Templates, search: Search) -> Float[Tensor, "B A C"]:
        """Normalised images to features: search region first, then the templates one after another."""
        return self.features(self.prepare_templates(templates), search)

    def prepare_templates(
        self, templates: Templates, boxes: Float[Tensor, "B T 4"] | None = None
    ) -> Float[Tensor, "B TM C"]:
        """Their tokens; in separate encoding, their features."""
        tokens = self._embed(templates.flatten(0, 1)) + self.template_position  # BT M C
        if not self.joint:
            tokens = self._run_blocks(tokens)
        return tokens.reshape(len(templates), -1, self.width)

    def features(
        self, prepared: Float[Tensor, "B TM C"], search: Search, *, search_only: bool = False
    ) -> Float[Tensor, "B n C"]:
        """See `Encoder`; the last block computes no features that are not wanted."""
        tokens = self._embed(search) + self.search_position
        if self.joint:
            return self._run_blocks(torch.cat([tokens, prepared], dim=1), self.search_tokens if search_only else None)
        features = self._run_blocks(tokens)
        return features if search_only else torch.cat([features, prepared], dim=1)

    def search_attention(
        self,
        templates: Templates,
        search: Search,
        template_boxes: Float[Tensor, "B T 4"] | None = None,
        *,
        block: int = -1,
    ) -> Float[Tensor, "B heads N A"]:
        """See `Encoder`."""
        if not self.joint:
            raise ValueError("model.encoder.joint=false: the search region never attends to the templates")
        search_tokens = self._embed(search) + self.search_position
        tokens = torch.cat([search_tokens, self.prepare_templates(templates)], dim=1)
        return attention_in(self.blocks, tokens, block, self.search_tokens)

    def _embed(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n C"]:
        return cast(Tensor, self.patch_embed(images)).flatten(2).transpose(1, 2)  # b C y x -> b (y x) C

    def _run_blocks(self, tokens: Float[Tensor, "b n C"], first: int | None = None) -> Float[Tensor, "b m C"]:
        """All blocks and the final norm; the last block gives only the `first` tokens, None: all."""
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            wanted = first if index == last else None
            if self.checkpoint and torch.is_grad_enabled():
                tokens = cast(Tensor, checkpoint(block, tokens, wanted, use_reentrant=False))
            else:
                tokens = block(tokens, wanted)
        return cast(Tensor, self.norm(tokens[:, :first]))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
                nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.trunc_normal_(self.search_position, std=0.02)
        nn.init.trunc_normal_(self.template_position, std=0.02)
