"""Which frames make a training sample, and the sample made of them.

A sample is a pure function of (seed, epoch, index), whatever process draws it and whatever was drawn before. Frames
are chosen as the official code's "order" mode does (lib/train/data/sampler.py): templates and search frame within
400 frames of each other, in time order, in half of the samples reversed.

T: templates, P: past boxes, h, w: template size, H, W: search size, B: batch.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, Integer
from torch import Tensor

from seqtrack_lit.checks import whole
from seqtrack_lit.crops import Crop, Image, ImagePart
from seqtrack_lit.data.samples.augment import (
    Augmentation,
    Box,
    CropImage,
    CropSettings,
    ImageBoxes,
    JitterSchedule,
    SharedAugmentation,
    brightness,
)
from seqtrack_lit.data.samples.batch import Batch, Sample, collate, to_chw
from seqtrack_lit.data.samples.past import Past, PastErrors, onto
from seqtrack_lit.data.video.sequence import Frames, ReducibleFrames, Video

REACH = 400  # frames between the first frame drawn and any other of a sample (official max_interval)
ATTEMPTS = 30  # samples drawn in place of one that cannot be made, before giving up


@runtime_checkable
class Videos(Protocol):
    """A data set for sampling: numbers of all videos, and one video's boxes and frames."""

    dataset: str
    repeats_image: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Video:
        """One video whole."""

    @property
    def lengths(self) -> Integer[np.ndarray, "videos"]:
        """Number of frames of each video."""

    @property
    def visible_counts(self) -> Integer[np.ndarray, "videos"]:
        """Number of frames of each video in which the target can be seen, or an upper bound of it."""

    def name(self, index: int) -> str:
        """Name of a video."""

    def boxes(self, index: int) -> Float64[np.ndarray, "F 4"]:
        """The target's image boxes, xywh in pixels."""

    def visible(self, index: int) -> Bool[np.ndarray, "F"]:
        """Where the target can be seen."""

    def frames(self, index: int) -> Frames:
        """The images."""


@dataclass(frozen=True)
class WeightedDataset:
    """A data set of the training mix: how to open it, and how often it is drawn relative to the others."""

    open: Callable[[], Videos]
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_opener(self.open)
        if not (isinstance(self.weight, (int, float)) and 0 <= self.weight < math.inf):
            raise ValueError(f"the weight of a data set must be a number >= 0, got {self.weight!r}")


def check_opener(opener: Callable[[], object]) -> None:
    """Find a wrong argument of a partial call before it is called.

    Raises:
        ValueError: the function does not take it, or wants another.
    """
    function, given = getattr(opener, "func", opener), getattr(opener, "keywords", {})
    allowed = inspect.signature(function).parameters
    for name in given:
        if name not in allowed:
            raise ValueError(f"{function.__name__} has no argument {name!r}; it takes {', '.join(allowed)}")
    try:
        inspect.signature(opener).bind()
    except TypeError as error:
        raise ValueError(f"{function.__name__}: {error}") from error


@dataclass(frozen=True)
class FrameSampling:
    """How many frames make a sample and which videos have enough of them (paper section 4.1).

    Args:
        templates: template frames; the search frame comes on top.
        past: boxes of frames before the search frame that go with the sample (temporal ablation; paper Tab. 5: 4).
        past_errors: how these boxes differ from the true ones, and when they were seen.
        min_length: frames a video must have.
    """

    templates: int = 2
    past: int = 0
    past_errors: PastErrors = PastErrors()  # noqa: RUF009 - frozen
    min_length: int = 20

    def __post_init__(self) -> None:
        whole("data.frame_sampling", 1, templates=self.templates, min_length=self.min_length)
        whole("data.frame_sampling", 0, past=self.past)

    @property
    def min_visible(self) -> int:
        """A video is used when the target is visible in more frames than this."""
        return 2 * (self.templates + 1)

    def order(self, visible: Bool[np.ndarray, "F"], rng: np.random.Generator) -> list[int]:
        """Template frames and, last, the search frame.

        Raises:
            ValueError: too few visible frames.
        """
        seen = np.flatnonzero(visible)
        if len(seen) <= self.min_visible:
            raise ValueError(f"target visible in {len(seen)} frames, more than {self.min_visible} are needed")
        base = seen[rng.integers(len(seen))]
        near = seen
        if seen[-1] - seen[0] > REACH:
            near = seen[np.searchsorted(seen, base - REACH) : np.searchsorted(seen, base + REACH, side="right")]
        frames = sorted(self._choose(near, rng).tolist())
        return frames[::-1] if rng.random() < 0.5 else frames

    def _choose(self, near: Int64[np.ndarray, "near"], rng: np.random.Generator) -> Int64[np.ndarray, "frames"]:
        """Frames of a sample out of those near each other, with replacement, as in the official code."""
        return np.asarray(near[rng.integers(len(near), size=self.templates + 1)])

    def samples(self, videos: Mapping[str, Videos], weights: Sequence[float], **settings: Any) -> "TrainingSamples":
        """The samples of a training mix that are drawn this way; the arguments of `TrainingSamples`."""
        return TrainingSamples(videos, weights, frame_sampling=self, **settings)


Target = tuple[int, Float64[np.ndarray, "F 4"], Bool[np.ndarray, "F"]]


class Plan(NamedTuple):
    """All that is drawn of a sample before an image is read; boxes are xywh in the pixels of the unchanged frames."""

    source: int
    video: int
    frames: list[int]  # templates, then search
    target: int  # number of the object; 0 where a data set has one a video
    boxes: Float64[np.ndarray, "F 4"]
    visible: Bool[np.ndarray, "F"]
    shared: SharedAugmentation
    past: Past | None  # None: without past boxes
    around: Box  # the search region is cut around it: the jittered box, or the last past box


class SamplingError(ValueError):
    """No usable sample could be drawn."""


class TrainingSamples(torch.utils.data.Dataset[tuple[Sample, list[str]]]):
    """Samples by (epoch, index), each with the reasons why earlier attempts at it failed.

    Args:
        videos: data sets by name.
        weights: how often each is drawn; they need not sum to 1.
        seed: of all random numbers.
        crops, frame_sampling, augmentation, jitter: see there.
        epoch_samples, total_samples: samples of an epoch and of the whole training, for the jitter's schedule.

    Raises:
        ValueError: a data set is empty or has no usable video.
    """

    def __init__(
        self,
        videos: Mapping[str, Videos],
        weights: Sequence[float],
        *,
        seed: int,
        crops: CropSettings,
        frame_sampling: FrameSampling,
        augmentation: Augmentation,
        jitter: JitterSchedule,
        epoch_samples: int,
        total_samples: int,
    ) -> None:
        self.names, self.videos = list(videos), list(videos.values())
        self.seed, self.crops, self.frame_sampling = seed, crops, frame_sampling
        self.augmentation, self.jitter = augmentation, jitter
        self.epoch_samples, self.total_samples = epoch_samples, total_samples
        shares = np.asarray(weights, np.float64)
        self._cumulative = np.cumsum(shares / shares.sum())
        self._usable = [self._usable_videos(name, index) for name, index in videos.items()]

    def __getitem__(self, key: tuple[int, int]) -> tuple[Sample, list[str]]:
        epoch, index = key
        failures: list[str] = []
        for attempt in range(ATTEMPTS):
            rng, place = np.random.default_rng((self.seed, epoch, index, attempt)), "a sample"
            try:
                plan = self._plan(epoch, index, attempt, rng)
                place = f"{self.names[plan.source]}, {self.videos[plan.source].name(plan.video)}"
                return self._make(plan, rng, (epoch, index, attempt)), failures
            except (ValueError, OSError, IndexError, cv2.error) as error:
                failures.append(f"{place}: {error}")
        last = "\n".join(failures[-5:])
        raise SamplingError(f"{ATTEMPTS} samples in a row could not be made; the last ones:\n{last}")

    def _usable_videos(self, name: str, videos: Videos) -> Int64[np.ndarray, "usable"]:
        root = getattr(videos, "root", None)
        where = f"data set {name!r}" + ("" if root is None else f" in {root}")
        if len(videos) == 0:
            raise ValueError(f"{where} is empty: no video was found there; check its path and split")
        if videos.repeats_image:
            usable = np.flatnonzero(videos.visible_counts)
            if len(usable) == 0:
                raise ValueError(f"{where} has {len(videos)} images but no box with an area")
            return usable
        length, visible = self.frame_sampling.min_length, self.frame_sampling.min_visible
        long_enough = np.asarray(videos.lengths) >= length
        usable = np.flatnonzero(long_enough & (np.asarray(videos.visible_counts) > visible))
        if len(usable) == 0:
            raise ValueError(
                f"{where} has {len(videos)} videos but none with at least data.frame_sampling.min_length = "
                f"{length} frames and the target visible in more than {visible}"
            )
        return usable

    def _plan(self, epoch: int, index: int, attempt: int, rng: np.random.Generator) -> Plan:
        """All that is random about a sample before its crops are augmented."""
        return self._draw(rng, (epoch * self.epoch_samples + index) / self.total_samples)

    def _draw(self, rng: np.random.Generator, progress: float) -> Plan:
        """Draw a data set, a video, its frames, the target, and how the frames are changed and cut."""
        source = min(int(np.searchsorted(self._cumulative, rng.random(), side="right")), len(self.videos) - 1)
        videos, usable = self.videos[source], self._usable[source]
        video = int(usable[rng.integers(len(usable))])
        visible = videos.visible(video)
        frames = (
            [0] * (self.frame_sampling.templates + 1)
            if videos.repeats_image
            else self.frame_sampling.order(visible, rng)
        )
        target, boxes, visible = self._target(source, video, frames, rng)
        shared, jitter = self.augmentation.shared(rng), self.jitter.at(progress)
        plan = Plan(source, video, frames, target, boxes, visible, shared, None, boxes[frames[-1]])
        if not self.frame_sampling.past:
            return plan._replace(around=jitter.apply(plan.around, rng))
        past = self.frame_sampling.past_errors.draw(self.frame_sampling.past, rng, still=videos.repeats_image)
        last = past.boxes(self._before(plan, past))[-1]
        return plan._replace(past=past, around=jitter.apply(last, rng) if past.shared else last)

    def _target(self, source: int, video: int, frames: list[int], rng: np.random.Generator) -> Target:
        """Number, image boxes and visibility of the object that is the target in these frames."""
        videos = self.videos[source]
        return 0, videos.boxes(video), videos.visible(video)

    def _make(self, plan: Plan, rng: np.random.Generator, key: tuple[int, int, int]) -> Sample:
        """Cut the crops in the official order: grey, flip, crop, brightness, flip of a crop."""
        images = self._read(plan)
        colors = self.augmentation.colors(rng)
        *earlier, last = plan.frames
        shown = [
            self._cut(self.crops.template, plan.boxes[t : t + 1], next(images), plan.shared, colors, rng)
            for t in earlier
        ]
        boxes = np.concatenate([plan.around[None], plan.boxes[last : last + 1], self._past(plan)])
        search, inside = self._cut(self.crops.search, boxes, next(images), plan.shared, colors, rng)
        return Sample(
            templates=to_chw([image for image, _ in shown]),
            search=to_chw([self.augmentation.gain(search, rng)])[0],
            box=inside[1],
            template_boxes=torch.cat([boxes for _, boxes in shown]),
            past=inside[2:],
            key=torch.tensor(key),
            dataset=torch.tensor(plan.source),
        )

    def _read(self, plan: Plan) -> Iterator[Image | ImagePart]:
        """The images of a sample's frames one after the other, or what its crops show of them."""
        frames: Any = self.videos[plan.source].frames(plan.video)
        keys: list[tuple[Any, ...]] = [(t,) for t in plan.frames]
        read: Callable[..., Image | ImagePart] = frames.__getitem__
        part = getattr(frames, "part", None)  # see CroppedFrames
        if part is not None or (self.crops.decode == "fast" and isinstance(frames, ReducibleFrames)):
            crops = [self.crops.template(plan.boxes[t]) for t in plan.frames[:-1]] + [self.crops.search(plan.around)]
            shown = list(zip(plan.frames, crops, strict=True))
            keys, read = (shown, part) if part is not None else (self._reductions(shown), frames.reduced)
        last, image = None, None
        for key in keys:  # equal ones follow each other
            if key != last:
                image = None  # its memory serves for the next one
                image, last = read(*key), key
            yield image  # type: ignore[misc]

    def _reductions(self, shown: Sequence[tuple[int, Crop]]) -> list[tuple[int, int]]:
        """Frames, and by how much each may be reduced for all of its crops."""
        return [(t, self.crops.reduction([crop for other, crop in shown if other == t])) for t, _ in shown]

    def _cut(
        self,
        region: Callable[[Box], Crop],
        boxes: ImageBoxes,
        image: Image | ImagePart,
        shared: SharedAugmentation,
        colors: Callable[[CropImage], CropImage],
        rng: np.random.Generator,
    ) -> tuple[CropImage, Float32[Tensor, "rows 4"]]:
        """A crop of the frame around the first of some image boxes, and all of them in its coordinates."""
        boxes = shared.boxes(boxes, image.shape[1], self.augmentation.flip_offset)
        crop = region(boxes[0])
        pixels = self.crops.cut(crop, shared.image(image), mirrored=shared.flip)
        return self.augmentation.crop(colors(pixels), self.crops.to_crop(crop, boxes), rng)

    def _past(self, plan: Plan) -> Float64[np.ndarray, "P 4"]:
        """Image boxes before the search frame, shifted and scaled so that the last one is that of the search region."""
        if plan.past is None:
            return np.zeros((0, 4))
        return onto(plan.past.boxes(self._before(plan, plan.past)), plan.around)

    def _before(self, plan: Plan, past: Past) -> Float64[np.ndarray, "P 4"]:
        """True image boxes of the frames before the search frame, in the direction of time the sample is drawn in."""
        boxes, visible, search = self._track(plan)
        chosen = boxes[past.frames(search, 1 if plan.frames[0] <= plan.frames[-1] else -1, visible)]
        for box in (*chosen, boxes[search]):  # no region can be cut around a box without an area
            self.crops.search(box)
        return chosen

    def _track(self, plan: Plan) -> tuple[Float64[np.ndarray, "F 4"], Bool[np.ndarray, "F"], int]:
        """Boxes and visibility of the target in consecutive frames, and the search frame's number among them."""
        return plan.boxes, plan.visible, plan.frames[-1]


def draw_samples(
    videos: Videos,
    *,
    count: int,
    templates: int = 2,
    augmentation: Augmentation | None = None,
    jitter: JitterSchedule | None = None,
    crops: CropSettings | None = None,
    seed: int = 0,
) -> Batch:
    """The first samples of a training on one data set, without a training; by default as `data=paper` makes them.

    Args:
        videos: the data set.
        count: how many.
        templates: of each.
        augmentation: None: the paper's.
        jitter: None: the paper's.
        crops: None: the paper's.
        seed: of all random numbers; the same one draws the same frames whatever the augmentation.

    Raises:
        ValueError: no usable video.
    """
    samples = TrainingSamples(
        {"shown": videos},
        [1.0],
        seed=seed,
        crops=crops or CropSettings(),
        frame_sampling=FrameSampling(templates=templates, min_length=2),
        augmentation=augmentation or Augmentation(photometric=brightness()),
        jitter=jitter or JitterSchedule(),
        epoch_samples=count,
        total_samples=count,
    )
    return collate([samples[0, index][0] for index in range(count)])
