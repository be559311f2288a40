"""Past boxes of a training sample as a tracker would have them (temporal sequence, paper Tab. 5).

A tracker's last boxes follow the target with small errors that change slowly, and its search region is cut around the
last of them. Their information about the present, size and motion, is therefore the same in training and in tracking
only if past boxes and region belong together: the last past box is always the box the region is cut around.

P: past boxes.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from seqtrack_lit.checks import number, whole
from seqtrack_lit.data.samples.augment import Box, ImageBoxes


class Past(NamedTuple):
    """What is drawn of the past boxes of one sample, oldest first.

    back: how many frames before the search frame each of them was seen; equal numbers: a box that is repeated.
    errors: shift of the centre in x and y over sqrt(w * h), and of log w and log h.
    shared: whether all of them and the region share one more error, as wide as without past boxes.
    """

    back: list[int]
    errors: Float64[np.ndarray, "P 4"]
    shared: bool

    def frames(self, search: int, step: int, visible: Bool[np.ndarray, "F"]) -> list[int]:
        """Frames of the past boxes for a search frame; step: 1, or -1 where time runs backwards.

        Where there is no such frame, or no target in it, stands the next older frame; where there is none, the oldest
        there is; where the past shows no target at all, the search frame itself.
        """
        wanted = [search - step * back for back in self.back]
        known = [t for t in wanted if 0 <= t < len(visible) and visible[t]] or [search]
        return [known[max(bisect_right(known, step * t, key=lambda t: step * t) - 1, 0)] for t in wanted]

    def boxes(self, true: ImageBoxes) -> Float64[np.ndarray, "P 4"]:
        """The boxes (xywh, pixels) with their errors but without the shared one."""
        sizes = true[:, 2:] * np.exp(self.errors[:, 2:])
        shift = self.errors[:, :2] * np.sqrt(true[:, 2:].prod(1, keepdims=True))
        return np.concatenate([true[:, :2] + true[:, 2:] / 2 + shift - sizes / 2, sizes], axis=1)


@dataclass(frozen=True)
class PastErrors:
    """How the past boxes of training samples differ from the true ones, frame after frame.

    Errors are a walk that is drawn back to the true box: the correlation of two frames is `correlation` to the power
    of their distance, the standard deviation the same at all times.

    Args:
        center: standard deviation of the centre over sqrt(w * h), in x and in y.
        size: standard deviation of the logarithm of width and height.
        correlation: of the errors of neighbouring frames, in [0, 1].
        strides: distance of past boxes (and of the search frame from the last) is drawn from 1 to this many frames.
        shared: share of samples in which all past boxes and the search region share one error of the configured jitter.
        start: share of samples as in a tracker's first frames: the first box, which is given and has no error,
            repeated until enough frames have been tracked.
        still_center, still_size: images that do not move get a constant velocity, so much in each frame (standard
            deviations, units as `center` and `size`).

    Raises:
        ValueError: a value out of range.
    """

    center: float = 0.04
    size: float = 0.03
    correlation: float = 0.95
    strides: int = 3
    shared: float = 0.3
    start: float = 0.1
    still_center: float = 0.06
    still_size: float = 0.02

    def __post_init__(self) -> None:
        group = "data.frame_sampling.past_errors"
        whole(group, 1, strides=self.strides)
        number(group, high=1, correlation=self.correlation, shared=self.shared, start=self.start)
        number(
            group,
            center=self.center,
            size=self.size,
            still_center=self.still_center,
            still_size=self.still_size,
        )
        if self.shared + self.start > 1:
            raise ValueError(f"{group}: shared + start must be at most 1, got {self.shared} + {self.start}")

    def draw(self, count: int, rng: np.random.Generator, *, still: bool = False) -> Past:
        """Draw times and errors of `count` past boxes; still: of an image that does not move."""
        kind, stride = rng.random(), int(rng.integers(1, self.strides + 1))
        back = [stride * k for k in range(count, 0, -1)]
        started = int(rng.integers(1, count + 1)) if kind >= 1 - self.start else 0
        if started:  # the first box stands for itself and for the frames before it
            back[:started] = [back[started - 1]] * started
        errors = self._walk(count, self.correlation**stride, started, rng)
        if still:
            velocity = rng.normal(size=4) * ([self.still_center] * 2 + [self.still_size] * 2)
            errors -= np.outer(back, velocity)
        return Past(back, errors, shared=kind < self.shared)

    def _walk(self, count: int, correlation: float, exact: int, rng: np.random.Generator) -> Float64[np.ndarray, "P 4"]:
        """Errors of one frame after the other, those of the first `exact` rows 0."""
        steps = rng.normal(size=(count, 4)) * ([self.center] * 2 + [self.size] * 2)
        steps[:exact] = 0
        for row in range(1, count):
            if row >= exact:
                steps[row] = correlation * steps[row - 1] + math.sqrt(1 - correlation**2) * steps[row]
        return steps


def onto(boxes: ImageBoxes, region: Box) -> Float64[np.ndarray, "P 4"]:
    """The boxes with one error more, which all share: the one that brings the last of them onto a region's box.

    Centres move by one distance in pixels, sizes are multiplied by one factor in width and one in height.
    """
    last = boxes[-1]
    shift = region[:2] + region[2:] / 2 - last[:2] - last[2:] / 2
    sizes = boxes[:, 2:] * region[2:] / last[2:]
    moved = np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2 + shift - sizes / 2, sizes], axis=1)
    moved[-1] = region  # to the last bit: it is the middle of the region
    return moved
