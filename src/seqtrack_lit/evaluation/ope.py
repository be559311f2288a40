"""One-pass evaluation (OPE): success, precision and normalised precision of one sequence, in float64.

The default convention is that of SeqTrack's own evaluation code (VideoX, SeqTrack/lib/test/analysis/
extract_results.py, the same in OSTrack), because the paper's tables use it; `pytracking` is its parent, which
differs in one rule. Both divide by the number of ALL frames. What they do with frames that have no valid ground
truth is odd in places (an error of -1 counts as correct) and is kept, since numbers are compared with numbers.

Letters: N frames of the ground truth, T thresholds. Boxes are xywh in pixels as the benchmark publishes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

BoxRows = Float64[np.ndarray, "N 4"]
PerFrame = Float64[np.ndarray, "N"]
Curve = Float64[np.ndarray, "T"]

# linspace, not arange: arange(0, 1.05, 0.05)[15] can be 0.7500000000000001, and OP75 with it.
SUCCESS_THRESHOLDS = np.linspace(0, 1, 21)  # IoU above, strictly
PRECISION_THRESHOLDS = np.arange(51, dtype=np.float64)  # centre error in pixels, at most
NORM_THRESHOLDS = np.arange(51, dtype=np.float64) / 100  # centre error in target sizes, at most

# The reference code asks for the data set's name; these are the answers that make a difference.
Rules = Literal["lasot", "lasot_ext", "tnl2k", "uav", "other"]


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What is known about a sequence when its tracking result is scored.

    Args:
        name: the sequence's name, also of its result file.
        boxes: ground truth xywh in pixels; absent targets as published (zeros, NaN, stale).
        visible: whether the target can be seen; None where the data set says nothing.
        cover: GOT-10k's visible share of the target, 0 (nothing) to 8 (all); None elsewhere.
        resolution: (width, height) of the images; only `got10k_ao` needs it.
        attributes: names of the challenges this sequence shows.
        rules: whose peculiarities the default convention applies.
    """

    name: str
    boxes: BoxRows
    visible: Bool[np.ndarray, "N"] | None = None
    cover: Int64[np.ndarray, "N"] | None = None
    resolution: tuple[int, int] | None = None
    attributes: tuple[str, ...] = ()
    rules: Rules = "other"


class SequenceCurves(NamedTuple):
    """One sequence measured: curves as fractions, and the weight of each curve in the data set's mean."""

    curves: Mapping[str, Curve]
    weights: Mapping[str, float]


class Errors(NamedTuple):
    """Per frame: IoU in [0, 1] or -1; centre error in pixels and in target sizes, -1 or inf where invalid."""

    iou: PerFrame
    center: PerFrame
    norm: PerFrame
    valid: Bool[np.ndarray, "N"]


def iou(a_xywh: BoxRows, b_xywh: BoxRows) -> PerFrame:
    """Continuous intersection over union in [0, 1] of boxes paired row by row; 0 where the union is empty, NaN for NaN.

    Rounding can give 1.0000000000000002 for equal boxes, which would be above the last threshold: hence the limit.
    """
    low = np.maximum(a_xywh[:, :2], b_xywh[:, :2])
    high = np.minimum(a_xywh[:, :2] + a_xywh[:, 2:], b_xywh[:, :2] + b_xywh[:, 2:])
    intersection = np.clip(high - low, 0, None).prod(1)
    union = a_xywh[:, 2:].prod(1) + b_xywh[:, 2:].prod(1) - intersection
    ratio: PerFrame = np.divide(intersection, union, out=np.zeros_like(union), where=union != 0)
    return ratio.clip(max=1.0)


def centers(boxes_xywh: BoxRows) -> Float64[np.ndarray, "N 2"]:
    """Centres in the toolkits' pixel convention, x + (w - 1) / 2."""
    return boxes_xywh[:, :2] + (boxes_xywh[:, 2:] - 1) / 2


def center_errors(pred: BoxRows, gt: BoxRows) -> tuple[PerFrame, PerFrame]:
    """Distance of the centres in pixels, and in units of the target's width and height.

    The second divides first and subtracts then, as the reference does: an error of exactly 0.20 comes out as
    0.2000000000000002 and fails the threshold.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # frames without ground truth are masked by the caller
        plain = np.linalg.norm(centers(pred) - centers(gt), axis=1)
        norm = np.linalg.norm(centers(pred) / gt[:, 2:] - centers(gt) / gt[:, 2:], axis=1)
    return plain, norm


def copy_forward(pred: Float64[np.ndarray, "M 4"], bad: Bool[np.ndarray, "M"]) -> Float64[np.ndarray, "M 4"]:
    """Replace bad rows by the row before them (already replaced itself); row 0 stays."""
    source = np.where(bad, 0, np.arange(len(pred)))
    return pred[np.maximum.accumulate(source)]


def robust_errors(truth: GroundTruth, pred: Float64[np.ndarray, "M 4"], *, positive: Literal["size", "all"]) -> Errors:
    """Errors per frame as calc_seq_err_robust computes them; the order of the steps matters.

    Args:
        truth: the sequence; `visible` is used where `rules` is lasot or lasot_ext only, as in the reference.
        pred: tracked boxes; a longer result is cut, a shorter one padded with zero boxes (an error for LaSOT).
        positive: a ground-truth box is valid when its size ("size"), or all four numbers ("all"), are positive.

    Raises:
        ValueError: NaN or negative sizes in the result, NaN in the ground truth (but UAV), a short LaSOT result.
    """
    gt, frames = truth.boxes, len(truth.boxes)
    bad = np.flatnonzero(np.isnan(pred).any(1) | (pred[:, 2:] < 0).any(1))
    if bad.size:
        raise ValueError(
            f"{truth.name}: line {bad[0] + 1} of the result is {pred[bad[0]].tolist()}; NaN and negative sizes "
            "cannot be scored by this convention (lasot_matlab repairs them)"
        )
    missing = np.isnan(gt).any(1)
    if missing.any() and truth.rules != "uav":
        raise ValueError(f"{truth.name}: line {np.argmax(missing) + 1} of the ground truth holds NaN")
    pred = pred[:frames]
    zero = (pred[:, 2:] == 0).any(1) & ~missing[: len(pred)]
    pred = copy_forward(pred, zero)
    if len(pred) < frames:
        if truth.rules == "lasot":
            raise ValueError(f"{truth.name}: the result has {len(pred)} lines, the sequence {frames} frames")
        pred = np.concatenate([pred, np.zeros((frames - len(pred), 4))])
    pred = np.concatenate([gt[:1], pred[1:]])

    visible = truth.visible if truth.visible is not None else np.ones(frames, dtype=bool)
    valid = np.asarray((gt[:, 2:] > 0 if positive == "size" else gt > 0).all(1))
    if truth.rules in ("lasot", "lasot_ext"):
        valid &= visible
    overlap = np.where(valid, iou(pred, gt), -1.0)
    plain, norm = center_errors(pred, gt)
    plain = np.where(valid, plain, -1.0 if truth.rules == "uav" else np.inf)
    norm = np.where(valid, norm, -1.0)
    if truth.rules == "lasot":
        plain, norm = np.where(visible, plain, np.inf), np.where(visible, norm, np.inf)
    return Errors(overlap, plain, norm, valid)


def above(values: PerFrame, thresholds: Curve, frames: int) -> Curve:
    """Share of `frames` whose value is strictly above each threshold."""
    return np.asarray((values[:, None] > thresholds).sum(0) / frames)


def at_most(values: PerFrame, thresholds: Curve, frames: int) -> Curve:
    """Share of `frames` whose value is at most each threshold."""
    return np.asarray((values[:, None] <= thresholds).sum(0) / frames)


def ope_curves(errors: Errors, frames: int) -> dict[str, Curve]:
    """The three curves of one-pass evaluation, as shares of `frames`."""
    return {
        "success": above(errors.iou, SUCCESS_THRESHOLDS, frames),
        "precision": at_most(errors.center, PRECISION_THRESHOLDS, frames),
        "norm_precision": at_most(errors.norm, NORM_THRESHOLDS, frames),
    }


def _measure(truth: GroundTruth, pred: Float64[np.ndarray, "M 4"], positive: Literal["size", "all"]) -> SequenceCurves:
    curves = ope_curves(robust_errors(truth, pred, positive=positive), len(truth.boxes))
    return SequenceCurves(curves, dict.fromkeys(curves, 1.0))


def seqtrack(truth: GroundTruth, pred: Float64[np.ndarray, "M 4"]) -> SequenceCurves:
    """The convention of SeqTrack and OSTrack, the default: see `robust_errors`."""
    return _measure(truth, pred, "size")


def pytracking(truth: GroundTruth, pred: Float64[np.ndarray, "M 4"]) -> SequenceCurves:
    """The convention of pytracking's master: a ground truth with x or y at or below 0 is invalid, too."""
    return _measure(truth, pred, "all")


def mean_iou(truth: GroundTruth, pred: Float64[np.ndarray, "M 4"]) -> SequenceCurves:
    """Mean IoU over the frames after the first whose target is there and can be seen; every such video counts the same.

    Of no toolkit: it needs nothing but boxes, which suits videos of one's own.
    """
    errors = robust_errors(truth, pred, positive="size")
    counted = errors.valid if truth.visible is None else errors.valid & truth.visible
    overlap = errors.iou[1:][counted[1:]]
    frames = len(overlap)
    curves = {
        "overlap": np.array([overlap.mean() if frames else 0.0]),
        "success": above(overlap, SUCCESS_THRESHOLDS, max(frames, 1)),
    }
    return SequenceCurves(curves, dict.fromkeys(curves, float(frames > 0)))
