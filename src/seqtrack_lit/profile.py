"""What a model costs: parameters, multiply-accumulates, time of a tracked frame by stage (paper Tab. 1)."""

import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from seqtrack_lit.crops import Crop, Image
from seqtrack_lit.models.encoder import normalise
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one frame, in units (not G), under two conventions.

    Both take one pass of the decoder over the START token, and all templates beside one search region, every token
    through all blocks; of the last block the models really compute only what the decoder reads (about 4 % less).

    Args:
        paper: the convention that meets the paper's Tab. 1: the encoder's attention matmuls and the output
            projections of the decoder's attentions are not counted, a LayerNorm counts 4 per element.
        everything: all of it but LayerNorm.
    """

    paper: float
    everything: float


def count_parameters(model: SeqTrack) -> dict[str, int]:
    """Numbers of parameters by part and in total."""
    parts = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    parts |= {name: p.numel() for name, p in model.named_parameters(recurse=False)}
    return {**parts, "total": sum(p.numel() for p in model.parameters())}


def count_macs(model: SeqTrack) -> Macs:
    """Count on a weightless copy, by what the operators really do."""
    shadow = copy.deepcopy(model).to("meta", torch.float32).eval().requires_grad_(False)

    def every_token(templates: Tensor, search: Tensor, template_boxes: Tensor | None = None) -> Tensor:
        return shadow.encoder(templates, search)[:, :wanted]  # type: ignore[no-any-return]

    shadow.features = every_token  # type: ignore[method-assign]
    wanted = shadow.encoder.search_tokens if shadow.memory == "search" else None
    normed: list[int] = []
    for module in shadow.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(lambda _module, _inputs, output: normed.append(output.numel()))
    templates = torch.zeros(1, model.templates, 3, model.template_size, model.template_size, device="meta")
    search = torch.zeros(1, 3, model.search_size, model.search_size, device="meta")
    past = torch.zeros(1, model.past, 4, dtype=torch.long, device="meta") if model.past else None
    with FlopCounterMode(display=False) as counter:
        shadow(templates, search, torch.zeros(1, 1, dtype=torch.long, device="meta"), past)
    counts = counter.get_flop_counts()
    root = type(model).__name__
    attention = sum(n for operator, n in counts[f"{root}.encoder"].items() if "bmm" in str(operator))
    projections = sum(sum(ops.values()) for name, ops in counts.items() if name.endswith("attention.out"))
    everything = counter.get_total_flops()  # two operations are one multiply-accumulate
    return Macs(
        paper=(everything - attention - projections) / 2 + 4 * sum(normed),
        everything=everything / 2,
    )


@dataclass(frozen=True)
class FrameTime:
    """Median milliseconds of one tracked frame by stage on one device; frames per second of the whole."""

    stages: dict[str, float]
    fps: float


def time_tracker(tracker: SeqTrackTracker, *, frames: int, image_size: tuple[int, int] = (1280, 720)) -> FrameTime:
    """Track a moving target on random images and time each stage by itself.

    Args:
        tracker: the tracker, on its device and in its precision.
        frames: number of timed frames, after three to warm up.
        image_size: width and height of the images, pixels.

    The stages are timed one after the other with a wait for the device between them, the whole frame without.
    """
    model, device = tracker.model, tracker.device
    width, height = image_size
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    box = np.array([width * 0.4, height * 0.4, width * 0.1, height * 0.15])
    tracker.init(images[0], box)
    start = tracker.box

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def timed(stage: Callable[[], object]) -> float:
        wait()
        begin = perf_counter()
        stage()
        wait()
        return 1000 * (perf_counter() - begin)

    def one_frame(image: Image) -> dict[str, float]:
        tracker.box = start
        crop = Crop.around(start, factor=tracker.search_factor, size=model.search_size)
        pixels = crop.cut(image)
        search = _to_device(pixels, tracker)
        past = torch.zeros(1, model.past, 4, dtype=torch.long, device=device) if model.past else None
        encoder = timed(lambda: model.encode(tracker.templates, search))
        both = timed(lambda: model.generate(tracker.templates, search, hann_window=tracker.hann_window, past=past))
        return {
            "crop": timed(lambda: crop.cut(image)),
            "to device": timed(lambda: _to_device(pixels, tracker)),
            "encoder": encoder,
            "decoder": both - encoder,
            "whole frame": timed(lambda: tracker.update(image)),
        }

    with torch.inference_mode():
        rows = [one_frame(images[index % 2]) for index in range(frames + 3)][3:]
    medians = {stage: statistics.median(row[stage] for row in rows) for stage in rows[0]}
    return FrameTime(stages=medians, fps=1000 / medians["whole frame"])


def _to_device(pixels: Image, tracker: SeqTrackTracker) -> Tensor:
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(tracker.device)
    return normalise(images).to(tracker.dtype)
