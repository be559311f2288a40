"""Which precision to train in: what was asked for, or the faster of two."""

import time
from typing import Literal

import torch

from seqtrack_lit.checks import one_of
from seqtrack_lit.models.seqtrack import SeqTrack, normalise

Precision = Literal["fp32", "bf16"]
#: How Lightning calls them; weights and their averages are float32 in both.
LIGHTNING: dict[str, Literal["32-true", "bf16-mixed"]] = {"fp32": "32-true", "bf16": "bf16-mixed"}
_PROBE = 32  # samples of the timed batch at most


def choose_precision(wanted: str, net: SeqTrack, *, batch: int, gpu: bool) -> tuple[Precision, str]:
    """The precision to train in, and why.

    Args:
        wanted: fp32, bf16, or auto: bf16 on a GPU that computes in it, and on a CPU the faster of both, timed.
        net: the network; its weights stay as they are.
        batch: samples a device takes at once.
        gpu: whether training runs on a GPU.
    """
    one_of("train", ("fp32", "bf16", "auto"), precision=wanted)
    if wanted != "auto":
        return ("bf16" if wanted == "bf16" else "fp32"), "as asked"
    if gpu:
        good = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16", "the GPU computes in bf16") if good else ("fp32", "the GPU does not compute in bf16")
    size = min(batch, _PROBE)
    seconds = {"fp32": _time(net, size, low=False), "bf16": _time(net, size, low=True)}
    faster: Precision = "bf16" if seconds["bf16"] < seconds["fp32"] else "fp32"
    times = ", ".join(f"{name} {1e3 * value / size:.2f} ms" for name, value in seconds.items())
    return faster, f"the faster one here: {times} per sample"


def _time(net: SeqTrack, size: int, *, low: bool) -> float:
    """Seconds of forward and backward of one batch on the CPU, the best of two after one to warm up."""
    templates = torch.zeros(size, net.templates, 3, net.template_size, net.template_size, dtype=torch.uint8)
    search = torch.zeros(size, 3, net.search_size, net.search_size, dtype=torch.uint8)
    inputs = torch.full((size, 5), net.tokenizer.start)
    past = torch.zeros(size, net.past, 4, dtype=torch.int64) if net.past else None
    seconds = []
    state = torch.get_rng_state()  # dropout draws numbers that training must not miss
    for _ in range(3):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = net(normalise(templates), normalise(search), inputs, past).tokens
        logits.float().logsumexp(-1).mean().backward()
        seconds.append(time.perf_counter() - start)
    torch.set_rng_state(state)
    net.zero_grad(set_to_none=True)
    return min(seconds[1:])
