"""Weights in a quarter of their size: matrices as 8-bit integers with a scale per output channel, the rest in fp16.

A file is a safetensors file. A matrix `w` [out, ...] is stored as int8 under its name and its scale [out] in fp16
under `w.scale`: w = int8 * scale. Metadata `seqtrack` holds, as JSON, the plain constructor arguments a checkpoint
of ours holds (tokenizer, model, tracker), where the file is of a whole tracker.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from seqtrack_lit.checks import one_of, shown
from seqtrack_lit.files import replacing

Storage = Literal["int8", "fp16"]
SCALE = ".scale"
_SMALL = 4096  # numbers of a matrix below which nothing is won
_LEVELS = 127


def pack(state: Mapping[str, Tensor], storage: Storage = "int8") -> dict[str, Tensor]:
    """Tensors as they are stored."""
    one_of("", get_args(Storage), storage=storage)
    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().float()
        if storage == "fp16" or tensor.ndim < 2 or tensor.numel() <= _SMALL:
            packed[name] = tensor.half()
            continue
        rows = tensor.flatten(1)
        scale = (rows.abs().amax(1).clamp(min=1e-6) / _LEVELS).half()
        whole = (rows / scale.float()[:, None]).round().clamp(-_LEVELS, _LEVELS).to(torch.int8)
        packed[name], packed[name + SCALE] = whole.view(tensor.shape), scale
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices in float32; what was stored without a scale is given back as it is.

    Raises:
        ValueError: a scale is not one number a row of its matrix.
    """
    state = {}
    for name, tensor in packed.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in packed:
            continue
        scale = packed.get(name + SCALE)
        if scale is not None and scale.shape != tensor.shape[:1]:
            raise ValueError(f"{shown(name + SCALE)} has shape {tuple(scale.shape)}, not {tuple(tensor.shape[:1])}")
        state[name] = tensor if scale is None else tensor.float() * scale.float().view(-1, *[1] * (tensor.ndim - 1))
    return state


def save_compact(
    path: str | Path,
    state: Mapping[str, Tensor],
    *,
    storage: Storage = "int8",
    description: Mapping[str, object] | None = None,
) -> None:
    """Write a file, whole or not at all."""
    metadata = {"seqtrack": json.dumps(description)} if description is not None else None
    with replacing(Path(path)) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in pack(state, storage).items()}, temporary, metadata)


def load_compact(path: str | Path) -> tuple[dict[str, Tensor], dict[str, object] | None]:
    """Tensors of a file, matrices in float32, and its description where it has one."""
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get("seqtrack")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    return unpack(tensors), None if text is None else json.loads(text)
