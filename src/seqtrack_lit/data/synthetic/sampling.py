"""Sampling that only generated videos allow, because all objects of their scenes are known.

Random numbers are drawn in the same order as by `samples.sampling`; with every option off the samples are the same.

F: frames.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int64

from seqtrack_lit.checks import flag, number
from seqtrack_lit.data.samples.sampling import FrameSampling, Plan, Target, TrainingSamples, Videos
from seqtrack_lit.data.synthetic.scenes import Objects

PAIR_SIZES = (0.4, 2.5)  # size of the second object of a distractor pair over that of the first
PAIR_INSIDE = 0.6  # share of the second object that the search crop must show


@runtime_checkable
class SceneVideos(Videos, Protocol):
    """A data set with the boxes of all objects of a video, not only of the target."""

    def objects(self, index: int) -> Objects:
        """Boxes and visibility of all objects, the target first."""

    def moment(self, index: int, frame: int) -> tuple[Objects, int]:
        """The same over the whole scene, of which the video may keep few frames, and a frame's number in it."""


@dataclass(frozen=True)
class SceneSampling(FrameSampling):
    """`FrameSampling` for a pool that keeps few frames of each generated video.

    Args:
        distinct: whether the frames of a sample must differ: out of few frames, drawing with replacement would often
            make the search frame the template.
        any_object: probability that any visible object of a scene is the target, not only its first.
        distractor_pairs: probability that an odd sample has the search crop of the even one before it and another
            object of the scene as its target: the template alone tells which.
    """

    distinct: bool = False
    any_object: float = 0.0
    distractor_pairs: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        flag("data.frame_sampling", distinct=self.distinct)
        number("data.frame_sampling", high=1, any_object=self.any_object, distractor_pairs=self.distractor_pairs)

    @property
    def min_visible(self) -> int:
        """A video is used when the target is visible in more frames than this; distinct ones are needed once."""
        return self.templates if self.distinct else super().min_visible

    def _choose(self, near: Int64[np.ndarray, "near"], rng: np.random.Generator) -> Int64[np.ndarray, "frames"]:
        count = self.templates + 1
        if self.distinct and len(near) >= count:
            return np.asarray(near[rng.permutation(len(near))[:count]])
        return super()._choose(near, rng)

    def samples(self, videos: Mapping[str, Videos], weights: Sequence[float], **settings: Any) -> "SceneSamples":
        """The samples of a mix in which at least one data set is generated."""
        return SceneSamples(videos, weights, frame_sampling=self, **settings)


class SceneSamples(TrainingSamples):
    """`TrainingSamples` drawn by a `SceneSampling`; data sets that are not generated are sampled as by it.

    Raises:
        ValueError: objects of scenes are needed, but no data set has them.
    """

    frame_sampling: SceneSampling

    def __init__(
        self, videos: Mapping[str, Videos], weights: Sequence[float], *, frame_sampling: SceneSampling, **settings: Any
    ) -> None:
        super().__init__(videos, weights, frame_sampling=frame_sampling, **settings)
        self._scenes = {number: v for number, v in enumerate(self.videos) if isinstance(v, SceneVideos)}
        if (frame_sampling.any_object or frame_sampling.distractor_pairs) and not self._scenes:
            raise ValueError(
                "data.frame_sampling.any_object and .distractor_pairs need generated videos, in which all objects of a "
                f"scene are known; of {', '.join(self.names)} only the target is"
            )

    def _plan(self, epoch: int, index: int, attempt: int, rng: np.random.Generator) -> Plan:
        share = self.frame_sampling.distractor_pairs
        if share and attempt == 0 and index % 2 and rng.random() < share:
            progress = (epoch * self.epoch_samples + index) / self.total_samples
            first = self._draw(np.random.default_rng((self.seed, epoch, index - 1, 0)), progress)
            second = self._distractor(first, rng)
            if second is not None:
                return second
        return super()._plan(epoch, index, attempt, rng)

    def _target(self, source: int, video: int, frames: list[int], rng: np.random.Generator) -> Target:
        share = self.frame_sampling.any_object
        if share and source in self._scenes and rng.random() < share:
            objects = self._scenes[source].objects(video)
            seen = np.flatnonzero(objects.visible[:, frames].all(1))
            target = int(seen[rng.integers(len(seen))])
            return target, objects.boxes[target], objects.visible[target]
        return super()._target(source, video, frames, rng)

    def _distractor(self, plan: Plan, rng: np.random.Generator) -> Plan | None:
        """The same frames and search region with another object as the target; None where there is no other in it."""
        if plan.source not in self._scenes:
            return None
        objects = self._scenes[plan.source].objects(plan.video)
        search = objects.boxes[:, plan.frames[-1]]
        region, area = self.crops.search(plan.around), search[:, 2] * search[:, 3]
        low = np.maximum(search[:, :2], np.subtract(region.center, region.side / 2))
        high = np.minimum(search[:, :2] + search[:, 2:], np.add(region.center, region.side / 2))
        shown = np.maximum(high - low, 0)
        smallest, largest = (factor**2 * area[plan.target] for factor in PAIR_SIZES)
        good = objects.visible[:, plan.frames].all(1) & (area > smallest) & (area < largest)
        good &= shown[:, 0] * shown[:, 1] >= PAIR_INSIDE * area
        good[plan.target] = False
        others = np.flatnonzero(good)
        if not len(others):
            return None
        target = int(others[rng.integers(len(others))])
        return plan._replace(target=target, boxes=objects.boxes[target], visible=objects.visible[target])

    def _track(self, plan: Plan) -> tuple[Float64[np.ndarray, "F 4"], Bool[np.ndarray, "F"], int]:
        """Over the whole scene: the neighbours of a frame in a pool are not the frames before it."""
        if plan.source not in self._scenes:
            return super()._track(plan)
        objects, search = self._scenes[plan.source].moment(plan.video, plan.frames[-1])
        return objects.boxes[plan.target], objects.visible[plan.target], search
