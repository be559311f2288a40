"""Where and in which precision a tracker's network runs."""

from typing import Literal, get_args

import torch

from seqtrack_lit.checks import one_of, shown
from seqtrack_lit.models.prepacked import computes_bfloat16, onednn_works

Precision = Literal["float32", "bfloat16", "float16", "auto", "int8"]


def device_of(name: object) -> torch.device:
    """A device of this machine that trackers run on; a GPU with its number.

    Raises:
        ValueError: there is no such device, or no tracker runs on it.
    """
    try:
        device = torch.device(name) if isinstance(name, str | torch.device) else None
    except RuntimeError:
        device = None
    given = f"device={shown(name)[1:-1] if isinstance(name, str) else name}"
    if device is None:
        raise ValueError(f"{given}: no such device; give cpu, cuda or cuda:<number>")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"{given}: trackers run on cpu and cuda only (the window is float64, which MPS has not)")
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        raise ValueError(f"device={name}: PyTorch finds {count} GPUs on this machine; give another one or device=cpu")
    return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)


def precision_of(dtype: object, device: torch.device) -> tuple[torch.dtype, Literal["int8"] | None]:
    """The precision of a network, and "int8" where its encoder's matrices are prepacked as 8-bit integers.

    Raises:
        ValueError: no precision of trackers, or not one of this device.
    """
    name = str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else dtype
    one_of("tracker", get_args(Precision), dtype=name)
    if name == "auto":
        cuda = device.type == "cuda"
        fast = torch.cuda.is_bf16_supported(including_emulation=False) if cuda else computes_bfloat16()
        return (torch.bfloat16 if fast else torch.float32), None
    if name == "int8":
        if device.type != "cpu":
            raise ValueError(f"tracker.dtype=int8 is for CPUs, not for {device}; take auto")
        if not onednn_works(torch.float32, "int8"):
            raise ValueError("tracker.dtype=int8: this torch has no such products for this processor; take auto")
        return torch.float32, "int8"
    found: torch.dtype = getattr(torch, str(name))
    return found, None
