"""How fast training samples come, and where their time goes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Integer

from seqtrack_lit.crops import Crop, Image
from seqtrack_lit.data.samples.augment import Augmentation, CropImage, JitterSchedule, SharedAugmentation, Windows
from seqtrack_lit.data.samples.batch import collate
from seqtrack_lit.data.samples.loader import BatchOrder, TrainLoader
from seqtrack_lit.data.samples.sampling import FrameSampling, TrainingSamples, Videos
from seqtrack_lit.data.video.sequence import Frames, Video

STAGES = ("index", "read", "crop", "augment", "collate")


@dataclass
class Stopwatch:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += perf_counter() - start


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Args:
        samples: how many were made in one process.
        opening: seconds to open the data set.
        stages: milliseconds of one sample by stage; "rest" is what is in none.
        loader: samples a second by number of workers.
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
            f"Opened in {self.opening:.2f} s. One process: {1000 / total:.0f} samples/s ({self.samples} measured).",
            "",
            "| Stage | ms a sample | Share |",
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
class Recipe:
    """How samples are made; see the classes."""

    windows: Windows
    frameset: FrameSampling
    augmentation: Augmentation
    jitter: JitterSchedule
    seed: int = 0

    def samples(self, videos: Videos, count: int) -> TrainingSamples:
        """Samples of one data set; an epoch has `count` of them."""
        return TrainingSamples(
            {videos.dataset: videos},
            [1.0],
            seed=self.seed,
            windows=self.windows,
            frameset=self.frameset,
            augmentation=self.augmentation,
            jitter=self.jitter,
            epoch_samples=count,
            total_samples=count,
        )

    def timed(self, watch: Stopwatch) -> "Recipe":
        """The same with a stopwatch in it."""
        windows = _TimedWindows(**_options(self.windows), watch=watch)
        return replace(
            self, windows=windows, augmentation=_TimedAugmentation(**_options(self.augmentation), watch=watch)
        )


def measure(
    open_videos: Callable[[], Videos],
    recipe: Recipe,
    *,
    samples: int = 256,
    batch: int = 16,
    workers: Sequence[int] = (0, 2),
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Speed:
    """Make samples in this process with a stopwatch, then in loaders with worker processes.

    Args:
        open_videos: opens the data set.
        recipe: how samples are made.
        samples: measured in each setting.
        batch: samples collated at once.
        workers: numbers of processes to measure.
        step: called with samples done and samples in all.
    """
    watch, start = Stopwatch(), perf_counter()
    videos = open_videos()
    opening = perf_counter() - start
    total, done = samples * (1 + len(workers)), 0
    timed = recipe.timed(watch).samples(_TimedVideos(videos, watch), samples)
    begin = perf_counter()
    for first in range(0, samples, batch):
        part = [timed[0, index][0] for index in range(first, min(first + batch, samples))]
        with watch.time("collate"):
            collate(part)
        step(done := done + len(part), total)
    elapsed = perf_counter() - begin
    stages = {stage: 1000 * seconds / samples for stage, seconds in watch.seconds.items()}
    stages["rest"] = 1000 * elapsed / samples - sum(stages.values())
    loader = {}
    for count in workers:
        loader[count] = _loader_speed(recipe.samples(videos, samples), count, batch, max(samples // batch, 1))
        step(done := done + samples, total)
    return Speed(samples, opening, stages, loader)


def _loader_speed(samples: TrainingSamples, workers: int, batch: int, batches: int) -> float:
    """Samples a second of a loader that runs; the first batch, for which workers start, is not counted."""
    loader = iter(TrainLoader(samples, BatchOrder(batches + 1, batch), workers=workers))
    next(loader)
    start = perf_counter()
    for _ in loader:
        pass
    return batches * batch / (perf_counter() - start)


class _TimedFrames:
    def __init__(self, frames: Frames, watch: Stopwatch) -> None:
        self.inner, self.watch = frames, watch

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Image:
        with self.watch.time("read"):
            return self.inner[index]


class _TimedVideos:
    """The same videos; looking things up counts as "index", reading frames as "read"."""

    def __init__(self, videos: Videos, watch: Stopwatch) -> None:
        self.inner, self.watch = videos, watch
        self.dataset, self.repeats_image = videos.dataset, videos.repeats_image

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Video:
        return self.inner[index]

    @property
    def lengths(self) -> Integer[np.ndarray, "videos"]:
        return self.inner.lengths

    @property
    def visible_counts(self) -> Integer[np.ndarray, "videos"]:
        return self.inner.visible_counts

    def name(self, index: int) -> str:
        with self.watch.time("index"):
            return self.inner.name(index)

    def boxes(self, index: int) -> Float64[np.ndarray, "F 4"]:
        with self.watch.time("index"):
            return self.inner.boxes(index)

    def visible(self, index: int) -> Bool[np.ndarray, "F"]:
        with self.watch.time("index"):
            return self.inner.visible(index)

    def frames(self, index: int) -> Frames:
        with self.watch.time("index"):
            return _TimedFrames(self.inner.frames(index), self.watch)


@dataclass(frozen=True)
class _TimedWindows(Windows):
    watch: Stopwatch = field(default_factory=Stopwatch)

    def cut(self, crop: Crop, image: Image) -> CropImage:
        with self.watch.time("crop"):
            return super().cut(crop, image)


@dataclass(frozen=True)
class _TimedAugmentation(Augmentation):
    watch: Stopwatch = field(default_factory=Stopwatch)

    def joint(self, rng: np.random.Generator) -> SharedAugmentation:
        with self.watch.time("augment"):
            return super().joint(rng)

    def colors(self, rng: np.random.Generator) -> Callable[[CropImage], CropImage]:
        with self.watch.time("augment"):
            inner = super().colors(rng)

        def timed(crop: CropImage) -> CropImage:
            with self.watch.time("augment"):
                return inner(crop)

        return timed

    def gain(self, crop: CropImage, rng: np.random.Generator) -> CropImage:
        with self.watch.time("augment"):
            return super().gain(crop, rng)


def _options(plain: Any) -> dict[str, Any]:
    return {item.name: getattr(plain, item.name) for item in fields(plain)}
