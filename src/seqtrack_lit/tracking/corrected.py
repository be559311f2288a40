"""Tracking with corrections: boxes by hand stay as they are, and what lies between two is tracked from both sides.

Letters: T targets, F tracked frames.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from time import perf_counter
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from seqtrack_lit.boxes import difference, moved
from seqtrack_lit.crops import Image
from seqtrack_lit.data.video.sequence import Frames
from seqtrack_lit.evaluation.ope import iou
from seqtrack_lit.tracking.batched import together
from seqtrack_lit.tracking.tracker import Estimate, Tracker

Corrections = Sequence[Mapping[int, Float64[np.ndarray, "4"]]]  # of each target boxes xywh by place of the frame
Found = Estimate | None  # None: not tracked there
_BLOCK = 2**26  # bytes of pictures kept while frames are read backwards
_SAME = 0.5  # overlap from which both tracks are of one target


class Step(NamedTuple):
    """A frame that was tracked: its place, the picture, an estimate of each target, and the time it took."""

    place: int
    image: Image
    found: list[Found]
    seconds: float


def follow(
    trackers: Sequence[Tracker],
    frames: Iterable[tuple[int, Image]],
    corrections: Corrections,
    *,
    step: int = 1,
) -> Iterator[Step]:
    """Track through frames; every target starts at its first correction, and anew at each further one.

    Args:
        trackers: one a target; of one network, if they are SeqTrack's.
        frames: place and picture, in the order of tracking.
        corrections: one a tracker.
        step: 1 forwards, -1 backwards: which frame comes next.
    """
    started, update = [False] * len(trackers), together(trackers)
    for place, image in frames:
        begun = perf_counter()
        found: list[Found] = [None] * len(trackers)
        now = [target for target, given in enumerate(corrections) if started[target] and place not in given]
        for target, estimate in zip(now, update([trackers[target] for target in now], image), strict=True):
            found[target] = estimate
        for target, given in enumerate(corrections):
            if place not in given:
                continue
            found[target] = Estimate(given[place])
            started[target] = place + step not in given  # else nothing is tracked from here
            if started[target]:
                trackers[target].init(image, given[place])
        yield Step(place, image, found, perf_counter() - begun)


def backwards(frames: Frames, last: int) -> Iterator[tuple[int, Image]]:
    """Place and picture from `last` to 0; read forwards block by block, as videos are decoded."""
    block = max(8, _BLOCK // frames[last].nbytes)
    for stop in range(last + 1, 0, -block):
        places = range(max(0, stop - block), stop)
        images = [frames[place] for place in places]
        yield from zip(reversed(places), reversed(images), strict=True)


class Pass:
    """What tracking in one direction found, of all targets and frames."""

    def __init__(self, targets: int, frames: int) -> None:
        self.boxes = np.full((targets, frames, 4), np.nan)
        self.confidences = np.zeros((targets, frames))
        self.lost = np.zeros((targets, frames), bool)

    def add(self, step: Step) -> None:
        """Keep the estimates of a frame."""
        for target, estimate in enumerate(step.found):
            if estimate is not None:
                self.boxes[target, step.place] = estimate.box_xywh
                self.confidences[target, step.place] = estimate.confidence
                self.lost[target, step.place] = estimate.lost

    def estimates(self, place: int) -> list[Found]:
        """The estimates of a frame."""
        return [
            Estimate(boxes[place], float(confidences[place]), lost=bool(lost[place]))
            if np.isfinite(boxes[place]).all()
            else None
            for boxes, confidences, lost in zip(self.boxes, self.confidences, self.lost, strict=True)
        ]


def track_backwards(
    trackers: Sequence[Tracker],
    frames: Frames,
    corrections: Corrections,
    forward: Pass,
    progress: Callable[[], None] = lambda: None,
) -> Pass:
    """Track from the last correction to the first frame, and merge it with what was found forwards.

    Args:
        trackers: one a target.
        frames: those of the forward pass.
        corrections: those of the forward pass.
        forward: what was found forwards.
        progress: called after every frame.
    """
    count = forward.boxes.shape[1]
    backward = Pass(len(trackers), count)
    last = max(map(max, corrections))
    for step in follow(trackers, backwards(frames, last), corrections, step=-1):
        backward.add(step)
        progress()
    merged = Pass(len(trackers), count)
    for target, given in enumerate(corrections):
        order = sorted(given)
        for name in ("boxes", "confidences", "lost"):
            into, a, b = (getattr(one, name)[target] for one in (merged, forward, backward))
            into[: order[0]], into[order[0] :] = b[: order[0]], a[order[0] :]
        for start, stop in pairwise(order):
            merge(forward, backward, merged, target, slice(start, stop + 1))
        merged.boxes[target] = smoothed(merged.boxes[target], order)
    return merged


def merge(forward: Pass, backward: Pass, into: Pass, target: int, part: slice) -> None:
    """One target between two corrections, which are the first and the last frame of the part.

    Where both tracks agree, their mean, each weighted by the distance to the other's correction; elsewhere the one or
    the other: forward up to a frame, backward from there on, where both together are surest (experiments/corrections).
    """
    share = np.linspace(0, 1, part.stop - part.start)
    a, b = forward.boxes[target, part], backward.boxes[target, part]
    sure_a, sure_b = forward.confidences[target, part], backward.confidences[target, part]
    same = iou(a, b)
    later = _later(sure_a, sure_b, same)
    share = np.where(same > _SAME, share, later)
    into.boxes[target, part] = a + (b - a) * share[:, None]
    into.confidences[target, part] = sure_a + (sure_b - sure_a) * share
    into.lost[target, part] = np.where(share < 0.5, forward.lost[target, part], backward.lost[target, part])


def smoothed(boxes: Float64[np.ndarray, "F 4"], fixed: Sequence[int]) -> Float64[np.ndarray, "F 4"]:
    """A track without the noise of single readings: each box has half of the weight, its neighbours a quarter.

    Of centres and of logarithms of sizes. The first, the last and the fixed boxes stay, and so do those that hardly
    overlap a neighbour, where the track jumps or frames are far apart.
    """
    result = boxes.copy()
    before, here, after = boxes[:-2], boxes[1:-1], boxes[2:]
    follows = (iou(before, here) > _SAME) & (iou(here, after) > _SAME)
    follows[[place - 1 for place in fixed if 0 < place < len(boxes) - 1]] = False
    both = difference(here[follows], before[follows]) + difference(here[follows], after[follows])
    result[1:-1][follows] = moved(here[follows], both / 4)
    return result


def _later(
    forward: Float64[np.ndarray, "F"], backward: Float64[np.ndarray, "F"], same: Float64[np.ndarray, "F"]
) -> Bool[np.ndarray, "F"]:
    """Frames that are taken from the backward track: from the place on where the sum of confidences is largest."""
    before = np.concatenate([[0.0], np.cumsum(forward)[:-1]])
    after = np.cumsum(backward[::-1])[::-1]
    at = int(np.argmax((before + after + same)[1:])) + 1
    return np.arange(len(forward)) >= at
