"""Encoders of timm: any plain ViT, with its weights; the families are listed in pretrained.py.

Letters: B batch, T templates, N search tokens, M tokens of one template, A = N + T M all tokens, P prefix tokens
(class and registers), C width, R width of a rotary embedding.
"""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from seqtrack_lit.checks import flag
from seqtrack_lit.models.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, Search, Templates, check_sizes
from seqtrack_lit.models.pretrained import create_vit, resample, split_positions


class TimmEncoder(Encoder):
    """A ViT of timm over search region and templates together.

    Class and register tokens stand before all others and are dropped after the blocks. Absolute positions are
    resampled to the grid of the search region and to that of the templates, and learned apart from then on; rotary
    positions are computed for each image's own grid. Images arrive normalised with ImageNet's statistics and are
    brought to those the weights were trained with.

    Args:
        name: timm's name of model and weights, e.g. vit_base_patch14_reg4_dinov2.lvd142m.
        pretrained: True downloads the weights, a path reads them from a file, False starts at random.
        search_size: side of the square search crop, pixels; a multiple of the patch.
        template_size: side of the square template crops, pixels; likewise.
        templates: number of templates.
        joint: true; separate encoding is there with the built-in ViT only.
        checkpoint: recompute activations in the backward pass: less memory, more time.
        options: further arguments of timm's model, e.g. {"drop_path_rate": 0.1} or {"depth": 6}.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        *,
        name: str,
        pretrained: bool | str = False,
        search_size: int = 256,
        template_size: int = 256,
        templates: int = 2,
        joint: bool = True,
        checkpoint: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        flag("model.encoder", checkpoint=checkpoint, joint=joint)
        if not joint:
            raise ValueError(
                "model.encoder.joint=false (ablation=separate) needs the built-in ViT: write model/encoder=mae_b16, "
                "mae_l16 (MAE's weights) or vit_b16, vit_l16 (random) instead of an encoder of timm"
            )
        options = {"dynamic_img_size": True, **_options(options or {})}
        if pretrained is True:  # before anything is downloaded
            with torch.device("meta"):
                patch = create_vit(name, False, options).patch_embed.patch_size[0]
            check_sizes(patch, search_size=search_size, template_size=template_size)
        model = create_vit(name, pretrained, options)
        super().__init__(
            search_size=search_size,
            template_size=template_size,
            templates=templates,
            patch=model.patch_embed.patch_size[0],
            width=model.embed_dim,
            joint=True,
        )
        self.checkpoint = checkpoint
        self.patch_embed = model.patch_embed
        self.rope = getattr(model, "rope", None)
        self.norm_pre = model.norm_pre
        self.blocks = model.blocks
        # models that pool by the mean keep their last norm behind the pooling
        self.norm = model.fc_norm if isinstance(model.norm, nn.Identity) else model.norm
        prefix, positions = split_positions(model)
        self.prefix = None if prefix is None else nn.Parameter(prefix)
        self.search_position = _table(positions, self.search_grid)
        self.template_position = _table(positions, self.template_grid)
        mean, std = (torch.tensor(model.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
        own_mean, own_std = (torch.tensor(value)[:, None, None] for value in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("scale", own_std / std, persistent=False)
        self.register_buffer("shift", (own_mean - mean) / std, persistent=False)

    def forward(self, templates: Templates, search: Search) -> Float[Tensor, "B A C"]:
        """Normalised images to features: search region first, then the templates one after another."""
        return self.features(self.prepare_templates(templates), search)

    def prepare_templates(
        self, templates: Templates, boxes: Float[Tensor, "B T 4"] | None = None
    ) -> Float[Tensor, "B TM C"]:
        """Their tokens."""
        tokens = self._embed(templates.flatten(0, 1), self.template_position)  # BT M C
        return tokens.reshape(len(templates), -1, self.width)

    def features(
        self, prepared: Float[Tensor, "B TM C"], search: Search, *, search_only: bool = False
    ) -> Float[Tensor, "B n C"]:
        """Features for the tokens of templates: search region first, then, unless `search_only`, the templates."""
        tokens = torch.cat([self._embed(search, self.search_position), prepared], dim=1)
        prefix = 0
        if self.prefix is not None:
            prefix = self.prefix.shape[1]
            tokens = torch.cat([self.prefix.expand(len(search), -1, -1), tokens], dim=1)
        tokens = self.norm_pre(tokens)
        rotary = {} if self.rope is None else {"rope": self._rotary()}
        for block in self.blocks:
            if self.checkpoint and torch.is_grad_enabled():
                tokens = recompute(partial(block, **rotary), tokens, use_reentrant=False)
            else:
                tokens = block(tokens, **rotary)
        return cast(Tensor, self.norm(tokens))[:, prefix : prefix + self.search_tokens if search_only else None]

    def _embed(self, images: Float[Tensor, "b 3 h w"], position: Tensor | None) -> Float[Tensor, "b n C"]:
        patches = cast(Tensor, self.patch_embed(images * self.scale + self.shift)).flatten(1, 2)  # b y x C -> b (y x) C
        return patches if position is None else patches + position

    def _rotary(self) -> Float[Tensor, "A R"]:
        """Rotary positions of all tokens but the prefix; every image has its own grid."""
        assert self.rope is not None
        search = self.rope.get_embed(shape=[self.search_grid, self.search_grid])
        template = self.rope.get_embed(shape=[self.template_grid, self.template_grid])
        return torch.cat([search] + [template] * self.templates)


def _options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments of a timm model by other people: nothing that opens a file or builds something else."""
    own = {*inspect.signature(timm.create_model).parameters, "num_classes", "features_only", "out_indices"}
    for key in options:
        if key in own or str(key).startswith("pretrained"):
            raise ValueError(f"model.encoder.options.{key} is no argument of timm's vision transformers; leave it out")
    return options


def _table(positions: Tensor | None, side: int) -> nn.Parameter | None:
    return None if positions is None else nn.Parameter(resample(positions, side).clone())
