"""VOT's measures: overlap, failures, expected average overlap (EAO), accuracy (A), robustness (R).

Definitions and their peculiarities are those of vot-toolkit 0.7.4 (region/raster.py, analysis/multistart.py,
analysis/accuracy.py), against which the tests compare. Paper: Kristan et al., The Eighth Visual Object Tracking VOT2020
Challenge Results, ECCV Workshops 2020.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from seqtrack_lit.data.video.regions import Mask, Polygon, Rectangle, Region, RegionList, Special, VotAnnotation
from seqtrack_lit.evaluation.vot_results import BinaryRegions

GRACE, THRESHOLD = 10, 0.1  # a run fails after 10 frames in a row with an overlap of at most 0.1
Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels, all inclusive


@dataclass(frozen=True, eq=False)
class RunOverlaps:
    """Overlaps of one run, in its order.

    Args:
        overlaps: a value in [0, 1] a frame; the first is 0, because the given region counts as no answer.
        empty: frames without target.
    """

    overlaps: Float64[np.ndarray, "frames"]
    empty: Bool[np.ndarray, "frames"]

    @property
    def progress(self) -> int:
        """Frames before the failure; all of them where there is none.

        The count of bad frames begins with frame 0 and starts again at frames without target, as in the toolkit.
        """
        left = GRACE
        for frame, (overlap, empty) in enumerate(zip(self.overlaps.tolist(), self.empty.tolist(), strict=True)):
            left = left - 1 if overlap <= THRESHOLD and not empty else GRACE
            if left == 0:
                return frame + 1 - GRACE
        return len(self.overlaps)


@dataclass(frozen=True, eq=False)
class Multistart:
    """What the runs of a tracker come to, all fractions.

    Args:
        eao: mean of the curve over the lengths low to high.
        accuracy: mean overlap before failures.
        robustness: share of frames before failures.
        curve: expected average overlap of the first j frames, j = 0 .. high - 1; 0 at j = 0.
    """

    eao: float
    accuracy: float
    robustness: float
    curve: Float64[np.ndarray, "high"]


def multistart(
    runs: Sequence[Sequence[RunOverlaps]], lengths: Sequence[int], *, low: int = 115, high: int = 755
) -> Multistart:
    """EAO, accuracy and robustness of a tracker.

    Args:
        runs: the runs of each sequence.
        lengths: frames of each sequence, their weights in the robustness.
        low: first length of EAO, in frames.
        high: last length; the curve ends at high - 1, so this one never counts, as in the toolkit.
    """
    ends = [[run.progress for run in of] for of in runs]
    before = np.array([sum(of) for of in ends], np.float64)
    pairs = [(run, end) for of, of_ends in zip(runs, ends, strict=True) for run, end in zip(of, of_ends, strict=True)]
    inside = sum(float(run.overlaps[:end].sum()) for run, end in pairs)
    total = np.array([sum(len(run.overlaps) for run in of) for of in runs], np.float64)
    weights = np.asarray(lengths, np.float64)
    curve = eao_curve(pairs, high)
    return Multistart(
        eao=float(curve[low : high + 1].mean()),
        accuracy=inside / float(before.sum()) if before.sum() else 0.0,
        robustness=float((before / total) @ weights / weights.sum()),
        curve=curve,
    )


def eao_curve(runs: Iterable[tuple[RunOverlaps, int]], high: int) -> Float64[np.ndarray, "high"]:
    """Expected average overlap after j frames, j = 0 .. high - 1.

    A run counts at j below its length with its mean overlap over frames 1 to j, where frames after the failure are 0. A
    failed run counts at greater j with the sum of all over j - 1 (not j, as in the toolkit); another one does not.

    Args:
        runs: each with its progress.
        high: length of the curve.
    """
    total, count = np.zeros(high), np.zeros(high)
    for run, progress in runs:
        overlaps = run.overlaps.copy()
        overlaps[progress:] = 0.0
        length = min(len(overlaps), high)
        steps = np.arange(1, length)
        total[1:length] += np.cumsum(overlaps[1:length]) / steps
        count[1:length] += 1
        if progress < len(overlaps) < high:
            total[length:] += overlaps[1:].sum() / (np.arange(length, high) - 1)
            count[length:] += 1
    return np.divide(total, count, out=np.zeros(high), where=count > 0)


def overlap(first: Region, second: Region, size: tuple[int, int]) -> float:
    """Intersection over union of two regions, which went through `as_read`, as pixels of an image.

    The toolkit rasterises into the box around both, clipped to the image. Two boxes of at most one pixel's width or
    height around both count as two empty regions: 1. Regions outside of the image: 0.

    Args:
        first: answer or ground truth.
        second: ground truth or answer.
        size: width and height of the image.
    """
    one, two = _bounds(first), _bounds(second)
    left, top, right, bottom = min(one[0], two[0]), min(one[1], two[1]), max(one[2], two[2]), max(one[3], two[3])
    if left >= right or top >= bottom:
        return 1.0
    window = (max(0, left), max(0, top), min(size[0] - 1, right), min(size[1] - 1, bottom))
    if window[0] >= window[2] or window[1] >= window[3]:
        return 0.0
    a, b = _raster(first, window), _raster(second, window)
    x0, y0 = max(a.x, b.x), max(a.y, b.y)
    x1 = min(a.x + a.pixels.shape[1], b.x + b.pixels.shape[1])
    y1 = min(a.y + a.pixels.shape[0], b.y + b.pixels.shape[0])
    both = 0
    if x1 > x0 and y1 > y0:
        first_part = a.pixels[y0 - a.y : y1 - a.y, x0 - a.x : x1 - a.x]
        both = int(np.count_nonzero(first_part & b.pixels[y0 - b.y : y1 - b.y, x0 - b.x : x1 - b.x]))
    union = int(np.count_nonzero(a.pixels)) + int(np.count_nonzero(b.pixels)) - both
    return both / union if union else 0.0


def run_overlaps(
    known: VotAnnotation, orders: Sequence[range], trajectories: Sequence[RegionList]
) -> list[RunOverlaps]:
    """Overlaps of the runs on one sequence; each region of the ground truth is decoded once.

    Args:
        known: ground truth.
        orders: the frames of each run in its order.
        trajectories: its answers.
    """
    overlaps = [np.zeros(len(order)) for order in orders]
    empty = np.zeros(len(known), np.bool_)
    for frame in range(len(known)):
        truth = known.region(frame)
        empty[frame], read = is_empty(truth), as_read(truth)
        for order, trajectory, of in zip(orders, trajectories, overlaps, strict=True):
            if frame in order:
                at = order.index(frame)
                answer = as_read(trajectory[at], binary=isinstance(trajectory, BinaryRegions))
                of[at] = overlap(answer, read, known.size)
    return [RunOverlaps(of, empty[np.asarray(order)]) for of, order in zip(overlaps, orders, strict=True)]


def as_read(region: Region, *, binary: bool = False) -> Region:
    """A region as the toolkit has it after reading: masks trimmed, other numbers rounded as float32.

    A mask of which only the first column holds the target is empty when it was read as text, not when from a .bin.
    """
    if isinstance(region, Mask):
        rows, columns = np.flatnonzero(region.pixels.any(1)), np.flatnonzero(region.pixels.any(0))
        if not columns.size or (columns[-1] == 0 and not binary):
            return Mask(np.zeros((0, 0), np.bool_))
        left, top = int(columns[0]), int(rows[0])
        return Mask(region.pixels[top : rows[-1] + 1, left : columns[-1] + 1], region.x + left, region.y + top)
    if isinstance(region, Rectangle):
        return Rectangle(*(float(np.round(np.float32(value))) for value in (region.x, region.y, region.w, region.h)))
    if isinstance(region, Polygon):
        return Polygon(np.round(region.points.astype(np.float32)).astype(np.float64))
    return region


def is_empty(region: Region) -> bool:
    """Whether the toolkit takes a frame of ground truth as one without target; a mask of one row is one, too."""
    if isinstance(region, Special):
        return True
    if isinstance(region, Rectangle):
        return not (region.w > 0 and region.h > 0)
    if isinstance(region, Polygon):
        points = region.points.astype(np.float32)
        return bool((points.min(0) == points.max(0)).any())
    read = as_read(region)
    return isinstance(read, Mask) and min(read.pixels.shape) <= 1


def _bounds(region: Region) -> Window:
    """The box around a region that went through `as_read`; zeros for one that is empty."""
    if isinstance(region, Rectangle):
        return int(region.x), int(region.y), int(region.x + region.w - 1), int(region.y + region.h - 1)
    if isinstance(region, Polygon):
        (left, top), (right, bottom) = region.points.min(0), region.points.max(0)
        return int(left), int(top), int(right), int(bottom)
    if isinstance(region, Mask) and region.pixels.size:
        height, width = region.pixels.shape
        return region.x, region.y, region.x + width - 1, region.y + height - 1
    return 0, 0, 0, 0


def _raster(region: Region, window: Window) -> Mask:
    """The pixels of a region that went through `as_read` inside a window."""
    left, top, right, bottom = window
    if isinstance(region, Polygon):
        return Mask(_raster_polygon(region.points, window), left, top)
    if isinstance(region, Special):
        return Mask(np.zeros((0, 0), np.bool_), left, top)
    x0, y0, x1, y1 = _bounds(region)
    x0, y0, x1, y1 = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
    if x1 < x0 or y1 < y0:
        return Mask(np.zeros((0, 0), np.bool_), left, top)
    if isinstance(region, Rectangle):
        return Mask(np.broadcast_to(np.True_, (y1 - y0 + 1, x1 - x0 + 1)), x0, y0)
    return Mask(region.pixels[y0 - region.y : y1 - region.y + 1, x0 - region.x : x1 - region.x + 1], x0, y0)


def _raster_polygon(points: Float64[np.ndarray, "N 2"], window: Window) -> Bool[np.ndarray, "h w"]:
    """Scan lines between pairs of edges, whole numbers cut off towards zero; a port of rasterize_polygon."""
    width, height = window[2] - window[0] + 1, window[3] - window[1] + 1
    mask = np.zeros((height, width), np.bool_)
    corners = (points - np.array(window[:2])).tolist()
    for row in range(height):
        nodes = []
        for (x, y), (before_x, before_y) in zip(corners, [corners[-1], *corners[:-1]], strict=True):
            crosses = min(y, before_y) <= row <= max(y, before_y)
            if crosses:
                rise = before_y - y
                nodes.append(math.trunc(x + (row - y) / rise * (before_x - x)) if rise else math.trunc(x))
        _fill(mask[row], sorted(nodes))
    return mask


def _fill(line: Bool[np.ndarray, "w"], nodes: list[int]) -> None:
    """Fill between pairs of nodes; of two equal ones the first is left out unless they are the last."""
    at, width = 0, len(line)
    while at < len(nodes) - 1 and nodes[at] < width:
        if nodes[at] == nodes[at + 1] and at < len(nodes) - 2:
            at += 1
            continue
        if nodes[at + 1] >= 0:
            nodes[at], nodes[at + 1] = max(nodes[at], 0), min(nodes[at + 1], width - 1)
            line[nodes[at] : nodes[at + 1] + 1] = True
        at += 2


def counted(
    answers: Int64[np.ndarray, "frames"], truths: Int64[np.ndarray, "frames"], burnin: int = 1
) -> Bool[np.ndarray, "frames"]:
    """Frames that count for the accuracy of one run without restarts.

    Args:
        answers: special codes of the trajectory, -1 for other regions; 0 unknown, 1 given, 2 failure do not count.
        truths: the same of the ground truth; unknown (0) does not count.
        burnin: frames from the given region on that do not count.
    """
    keep = np.asarray((truths != 0) & (answers == -1), np.bool_)
    for start in np.flatnonzero((answers == 1) & (truths != 0)):
        keep[start : start + burnin] = False
    return keep
