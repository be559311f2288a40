"""Which frames make a training sample, and the sample made of them.

A sample is a pure function of (seed, epoch, index), whatever process draws it and whatever was drawn before. Frames
are chosen as the official code's "order" mode does (lib/train/data/sampler.py): templates and search frame within
400 frames of each other, in time order, in half of the samples reversed.

T: templates, P: past boxes, h, w: template size, H, W: search size, B: batch.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, Integer
from torch import Tensor

from seqtrack_lit.checks import number, whole
from seqtrack_lit.crops import Crop, Image
from seqtrack_lit.data.samples.augment import (
    Augmentation,
    Box,
    CropImage,
    ImageBoxes,
    JitterSchedule,
    SharedAugmentation,
    Windows,
)
from seqtrack_lit.data.samples.batch import Sample, to_chw
from seqtrack_lit.data.samples.past import Past, PastErrors, onto
from seqtrack_lit.data.synthetic.scenes import Objects
from seqtrack_lit.data.video.sequence import Frames, Video

REACH = 400  # frames between the first frame drawn and any other of a sample (official max_interval)
ATTEMPTS = 30  # samples drawn in place of one that cannot be made, before giving up
CONTRAST_SIZES = (0.4, 2.5)  # size of the other object of a contrast pair over that of the first
CONTRAST_INSIDE = 0.6  # share of the other object that the search crop must show


@runtime_checkable
class Videos(Protocol):
    """What is asked of a data set: numbers of all videos, and one video's boxes and frames."""

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


@runtime_checkable
class Scenes(Videos, Protocol):
    """A data set that knows all objects of a video, not only the target."""

    def objects(self, index: int) -> Objects:
        """Boxes and visibility of all objects, the target first."""

    def moment(self, index: int, frame: int) -> tuple[Objects, int]:
        """The same over the whole scene, of which the video may keep few frames, and a frame's place in it."""


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
    """How many frames make a sample and which videos have enough of them.

    Args:
        templates: template frames; the search frame comes on top.
        past: boxes of frames before the search frame that go with the sample (temporal ablation; paper Tab. 5: 4).
        past_errors: how these boxes differ from the true ones, and when they were seen.
        min_length: frames a video must have.
        distinct: whether the frames of a sample must differ. The official code draws with replacement; a pool that
            keeps few frames of each video would often show the search frame as the template.
        any_object: probability that any visible object of a generated scene is the target, not only its first.
        contrast: probability that an odd sample shows the search crop of the even one before it, asked for another
            object of the scene: teaches to look at the template.
    """

    templates: int = 2
    past: int = 0
    past_errors: PastErrors = PastErrors()  # noqa: RUF009 - frozen
    min_length: int = 20
    distinct: bool = False
    any_object: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        whole("data.frameset", 1, templates=self.templates, min_length=self.min_length)
        whole("data.frameset", 0, past=self.past)
        number("data.frameset", high=1, any_object=self.any_object, contrast=self.contrast)

    @property
    def min_visible(self) -> int:
        """A video is used when the target is visible in more frames than this; distinct ones need to be there once."""
        return self.templates if self.distinct else 2 * (self.templates + 1)

    def order(self, visible: Bool[np.ndarray, "F"], rng: np.random.Generator) -> list[int]:
        """Template frames and, last, the search frame.

        Raises:
            ValueError: too few visible frames.
        """
        count, seen = self.templates + 1, np.flatnonzero(visible)
        if len(seen) <= self.min_visible:
            raise ValueError(f"target visible in {len(seen)} frames, more than {self.min_visible} are needed")
        base = seen[rng.integers(len(seen))]
        near = seen
        if seen[-1] - seen[0] > REACH:
            near = seen[np.searchsorted(seen, base - REACH) : np.searchsorted(seen, base + REACH, side="right")]
        if self.distinct and len(near) >= count:
            frames = sorted(near[rng.permutation(len(near))[:count]].tolist())
        else:
            frames = sorted(near[rng.integers(len(near), size=count)].tolist())
        return frames[::-1] if rng.random() < 0.5 else frames


class Plan(NamedTuple):
    """All that is drawn of a sample before an image is read; boxes are xywh in the pixels of the unchanged frames."""

    source: int
    video: int
    frames: list[int]  # templates, then search
    target: int  # 0 unless the data set knows several objects
    boxes: Float64[np.ndarray, "F 4"]
    visible: Bool[np.ndarray, "F"]
    joint: SharedAugmentation
    past: Past | None  # None: no past boxes are asked for
    around: Box  # what the search window is cut around: the jittered box, or the last past box


class SamplingError(ValueError):
    """No usable sample could be drawn."""


class TrainingSamples(torch.utils.data.Dataset[tuple[Sample, list[str]]]):
    """Samples by (epoch, index), each with the reasons why earlier attempts at it failed.

    Args:
        videos: data sets by name.
        weights: how often each is drawn; they need not sum to 1.
        seed: of all random numbers.
        windows, frameset, augmentation, jitter: see there.
        epoch_samples, total_samples: samples of an epoch and of the whole training, for the jitter's schedule.

    Raises:
        ValueError: a data set is empty or has no usable video, or an option asks for objects it does not know.
    """

    def __init__(
        self,
        videos: Mapping[str, Videos],
        weights: Sequence[float],
        *,
        seed: int,
        windows: Windows,
        frameset: FrameSampling,
        augmentation: Augmentation,
        jitter: JitterSchedule,
        epoch_samples: int,
        total_samples: int,
    ) -> None:
        self.names, self.videos = list(videos), list(videos.values())
        self.seed, self.windows, self.frameset = seed, windows, frameset
        self.augmentation, self.jitter = augmentation, jitter
        self.epoch_samples, self.total_samples = epoch_samples, total_samples
        shares = np.asarray(weights, np.float64)
        self._cumulative = np.cumsum(shares / shares.sum())
        self._usable = [self._usable_videos(name, index) for name, index in videos.items()]
        self._scenes = {number: v for number, v in enumerate(self.videos) if isinstance(v, Scenes)}
        if (frameset.any_object or frameset.contrast) and not self._scenes:
            raise ValueError(
                "data.frameset.any_object and .contrast need generated videos, which know all objects of a scene; "
                f"{', '.join(self.names)} know the target only"
            )

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
        long_enough = np.asarray(videos.lengths) >= self.frameset.min_length
        usable = np.flatnonzero(long_enough & (np.asarray(videos.visible_counts) > self.frameset.min_visible))
        if len(usable) == 0:
            raise ValueError(
                f"{where} has {len(videos)} videos but none with at least data.frameset.min_length = "
                f"{self.frameset.min_length} frames and the target visible in more than {self.frameset.min_visible}"
            )
        return usable

    def _plan(self, epoch: int, index: int, attempt: int, rng: np.random.Generator) -> Plan:
        """Draw a sample; an odd one may be drawn as the contrast of the one before it."""
        progress = (epoch * self.epoch_samples + index) / self.total_samples
        if self.frameset.contrast and attempt == 0 and index % 2 and rng.random() < self.frameset.contrast:
            shared = np.random.default_rng((self.seed, epoch, index - 1, 0))
            other = self._contrast(self._draw(shared, progress), rng)
            if other is not None:
                return other
        return self._draw(rng, progress)

    def _draw(self, rng: np.random.Generator, progress: float) -> Plan:
        """Draw a data set, a video, its frames, the object to follow, and how the frames are changed and cut."""
        source = min(int(np.searchsorted(self._cumulative, rng.random(), side="right")), len(self.videos) - 1)
        videos, usable = self.videos[source], self._usable[source]
        video = int(usable[rng.integers(len(usable))])
        boxes, visible, target = videos.boxes(video), videos.visible(video), 0
        frames = [0] * (self.frameset.templates + 1) if videos.repeats_image else self.frameset.order(visible, rng)
        if self.frameset.any_object and source in self._scenes and rng.random() < self.frameset.any_object:
            objects = self._scenes[source].objects(video)
            seen = np.flatnonzero(objects.visible[:, frames].all(1))
            target = int(seen[rng.integers(len(seen))])
            boxes, visible = objects.boxes[target], objects.visible[target]
        joint, jitter = self.augmentation.joint(rng), self.jitter.at(progress)
        plan = Plan(source, video, frames, target, boxes, visible, joint, None, boxes[frames[-1]])
        if not self.frameset.past:
            return plan._replace(around=jitter.apply(plan.around, rng))
        past = self.frameset.past_errors.draw(self.frameset.past, rng, still=videos.repeats_image)
        last = past.boxes(self._before(plan, past))[-1]
        return plan._replace(past=past, around=jitter.apply(last, rng) if past.wide else last)

    def _contrast(self, plan: Plan, rng: np.random.Generator) -> Plan | None:
        """The same frames and the same search window, asked for another object; None when it shows no other."""
        if plan.source not in self._scenes:
            return None
        objects = self._scenes[plan.source].objects(plan.video)
        search = objects.boxes[:, plan.frames[-1]]
        window, area = self.windows.search(plan.around), search[:, 2] * search[:, 3]
        low = np.maximum(search[:, :2], np.subtract(window.center, window.side / 2))
        high = np.minimum(search[:, :2] + search[:, 2:], np.add(window.center, window.side / 2))
        shown = np.maximum(high - low, 0)
        smallest, largest = (factor**2 * area[plan.target] for factor in CONTRAST_SIZES)
        good = objects.visible[:, plan.frames].all(1) & (area > smallest) & (area < largest)
        good &= shown[:, 0] * shown[:, 1] >= CONTRAST_INSIDE * area
        good[plan.target] = False
        others = np.flatnonzero(good)
        if not len(others):
            return None
        target = int(others[rng.integers(len(others))])
        return plan._replace(target=target, boxes=objects.boxes[target], visible=objects.visible[target])

    def _make(self, plan: Plan, rng: np.random.Generator, key: tuple[int, int, int]) -> Sample:
        """Read the frames and cut the crops, in the official order: grey, flip, crop, brightness, flip of a crop."""
        frames = self.videos[plan.source].frames(plan.video)
        images = {t: frames[t] for t in dict.fromkeys(plan.frames)}
        colors = self.augmentation.colors(rng)
        *earlier, last = plan.frames
        shown = [
            self._cut(self.windows.template, plan.boxes[t : t + 1], images[t], plan.joint, colors, rng) for t in earlier
        ]
        boxes = np.concatenate([plan.around[None], plan.boxes[last : last + 1], self._past(plan)])
        search, inside = self._cut(self.windows.search, boxes, images[last], plan.joint, colors, rng)
        return Sample(
            templates=to_chw(np.stack([image for image, _ in shown])),
            search=to_chw(self.augmentation.gain(search, rng)),
            box=inside[1],
            template_boxes=torch.cat([boxes for _, boxes in shown]),
            past=inside[2:],
            key=torch.tensor(key),
            dataset=torch.tensor(plan.source),
        )

    def _cut(
        self,
        window: Callable[[Box], Crop],
        boxes: ImageBoxes,
        image: Image,
        joint: SharedAugmentation,
        colors: Callable[[CropImage], CropImage],
        rng: np.random.Generator,
    ) -> tuple[CropImage, Float32[Tensor, "rows 4"]]:
        """A crop of the frame around the first of some image boxes, and all of them in its coordinates."""
        boxes = joint.boxes(boxes, image.shape[1], self.augmentation.flip_offset)
        crop = window(boxes[0])
        pixels, inside = colors(self.windows.cut(crop, joint.image(image))), self.windows.to_crop(crop, boxes)
        return self.augmentation.crop(pixels, inside, rng)

    def _past(self, plan: Plan) -> Float64[np.ndarray, "P 4"]:
        """Image boxes before the search frame as a tracker that looks at the sample's search window would have them."""
        if plan.past is None:
            return np.zeros((0, 4))
        return onto(plan.past.boxes(self._before(plan, plan.past)), plan.around)

    def _before(self, plan: Plan, past: Past) -> Float64[np.ndarray, "P 4"]:
        """True image boxes of the frames before the search frame, in the direction of time the sample is drawn in."""
        boxes, visible, search = plan.boxes, plan.visible, plan.frames[-1]
        step = 1 if plan.frames[0] <= search else -1
        if plan.source in self._scenes:  # a pool of few frames: its neighbours are not the frames before
            objects, search = self._scenes[plan.source].moment(plan.video, search)
            boxes, visible = objects.boxes[plan.target], objects.visible[plan.target]
        chosen = boxes[past.frames(search, step, visible)]
        for box in (*chosen, boxes[search]):  # no window can be cut around a box without an area
            self.windows.search(box)
        return chosen
