"""How fast training samples are made, and where the time goes."""

import cProfile
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from seqtrack_lit.data.samples.augment import Augmentation, CropSettings, JitterSchedule
from seqtrack_lit.data.samples.batch import collate
from seqtrack_lit.data.samples.loader import BatchOrder, TrainLoader
from seqtrack_lit.data.samples.sampling import FrameSampling, TrainingSamples, Videos

# Functions whose time (with what they call) is a stage; "augment" is what `_cut` takes beside `CropSettings.cut`.
_STAGES: dict[str, Callable[..., object]] = {
    "index": TrainingSamples._draw,
    "read": TrainingSamples._read,
    "crop": CropSettings.cut,
    "augment": TrainingSamples._cut,
    "collate": collate,
}


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Args:
        samples: how many were made in each setting.
        opening: seconds to open the data set.
        stages: milliseconds of one sample by stage, under cProfile, which slows small functions; "rest" is what is in
            no stage.
        loader: samples a second by number of workers, without the profiler.
    """

    samples: int
    opening: float
    stages: dict[str, float]
    loader: dict[int, float]

    def markdown(self, title: str) -> str:
        """Two small tables."""
        total = sum(self.stages.values())
        lines = [
            f"# {title}",
            "",
            f"Opened in {self.opening:.2f} s; {self.samples} samples measured in each setting.",
            "",
            "| Stage (with cProfile) | ms a sample | Share |",
            "|---|---|---|",
            *(f"| {stage} | {ms:.3f} | {ms / total:.0%} |" for stage, ms in self.stages.items()),
            f"| all | {total:.3f} | 100% |",
            "",
            "| Loader workers | samples/s |",
            "|---|---|",
            *(f"| {workers} | {speed:.0f} |" for workers, speed in self.loader.items()),
            "",
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class SampleSettings:
    """How samples are made; see the classes."""

    crops: CropSettings
    frame_sampling: FrameSampling
    augmentation: Augmentation
    jitter: JitterSchedule
    seed: int = 0

    def samples(self, videos: Videos, count: int) -> TrainingSamples:
        """Samples of one data set; an epoch has `count` of them."""
        return self.frame_sampling.samples(
            {videos.dataset: videos},
            [1.0],
            seed=self.seed,
            crops=self.crops,
            augmentation=self.augmentation,
            jitter=self.jitter,
            epoch_samples=count,
            total_samples=count,
        )


def measure(
    open_videos: Callable[[], Videos],
    settings: SampleSettings,
    *,
    samples: int = 256,
    batch: int = 16,
    workers: Sequence[int] = (0, 2),
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Speed:
    """Make samples in this process under cProfile, then in loaders with worker processes.

    Args:
        open_videos: opens the data set.
        settings: how samples are made.
        samples: measured in each setting.
        batch: samples collated at once.
        workers: numbers of processes to measure.
        step: called with samples done and samples in all.
    """
    start = perf_counter()
    videos = open_videos()
    opening = perf_counter() - start
    total, done = samples * (1 + len(workers)), 0
    made, profiler = settings.samples(videos, samples), cProfile.Profile()
    elapsed = 0.0
    for first in range(0, samples, batch):
        count, begin = min(batch, samples - first), perf_counter()
        with profiler:
            collate([made[0, index][0] for index in range(first, first + count)])
        elapsed += perf_counter() - begin
        step(done := done + count, total)
    loader = {}
    for processes in workers:
        loader[processes] = _loader_speed(settings.samples(videos, samples), processes, batch, max(samples // batch, 1))
        step(done := done + samples, total)
    stages = {name: 1000 * seconds / samples for name, seconds in _stages(profiler, elapsed).items()}
    return Speed(samples, opening, stages, loader)


def _stages(profiler: cProfile.Profile, elapsed: float) -> dict[str, float]:
    """Seconds by stage, and the rest."""
    spent: dict[object, float] = {entry.code: entry.totaltime for entry in profiler.getstats()}
    codes: dict[str, Any] = {name: inspect.unwrap(function) for name, function in _STAGES.items()}
    seconds = {name: spent.get(function.__code__, 0.0) for name, function in codes.items()}
    seconds["augment"] -= seconds["crop"]
    return {**seconds, "rest": elapsed - sum(seconds.values())}


def _loader_speed(samples: TrainingSamples, workers: int, batch: int, batches: int) -> float:
    """Samples a second of a loader that runs; the first batch, for which workers start, is not counted."""
    loader = iter(TrainLoader(samples, BatchOrder(batches + 1, batch), workers=workers))
    next(loader)
    start = perf_counter()
    for _ in loader:
        pass
    return batches * batch / (perf_counter() - start)
