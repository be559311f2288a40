"""Which precision to train in: what was asked for, or what the processor has instructions for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, cast, get_args

import torch

from seqtrack_lit.checks import flag, one_of

Precision = Literal["fp32", "bf16", "fp16"]
#: How Lightning calls them; weights and their averages are float32 in all, fp16 scales the loss.
LIGHTNING: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed",
}  # fmt: skip
_CPU_FLAGS = ("avx512_bf16", "amx_bf16")  # x86 instructions that multiply in bf16


def choose_precision(wanted: str, *, gpu: bool) -> tuple[Precision, str]:
    """The precision to train in, and why.

    Args:
        wanted: fp32, bf16, fp16, or auto: bf16 where the processor computes in it; a GPU that does not, but has
            tensor cores (Volta, Turing), trains in fp16; everything else in fp32.
        gpu: whether training runs on a CUDA device.

    Raises:
        ValueError: another word, or fp16 on a CPU.
    """
    one_of("train", (*get_args(Precision), "auto"), precision=wanted)
    if wanted == "fp16" and not gpu:
        raise ValueError("train.precision=fp16 needs a GPU; on a CPU train with bf16 or fp32")
    if wanted != "auto":
        return cast(Precision, wanted), "as asked"
    if not gpu:
        flags = cpu_flags()
        return ("bf16", f"the CPU has {', '.join(flags)}") if flags else ("fp32", f"no {' or '.join(_CPU_FLAGS)} here")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16", "the GPU computes in bf16"
    if torch.cuda.get_device_capability() >= (7, 0):
        return "fp16", "the GPU has tensor cores for fp16, none for bf16"
    return "fp32", "the GPU computes in neither bf16 nor fp16"


def cpu_flags() -> list[str]:
    """Which instructions for bf16 this machine's CPU has: a property, not a measurement, so the same in every run."""
    if known := getattr(torch.cpu, "get_capabilities", None):  # since torch 2.10
        found = known()
        return [name for name in _CPU_FLAGS if found.get(name)]
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return [name for name in _CPU_FLAGS if name in flags]


def same_for_sweep(chosen: Precision, sweep: Path, *, gpu: bool) -> Precision:
    """What the sweep's first job on this kind of device chose; kept in its folder, so that jobs can be compared."""
    path = sweep / f".precision_{'gpu' if gpu else 'cpu'}"
    sweep.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x") as file:
            file.write(chosen)
        return chosen
    except FileExistsError:
        kept = path.read_text()
        return kept if kept in get_args(Precision) else chosen  # type: ignore[return-value] # empty: being written


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Let fp32 matrix products and convolutions on GPUs round their factors to 10 bits (TF32), or forbid it.

    Raises:
        ValueError: neither true nor false.
    """
    flag("train", tf32=allowed)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
