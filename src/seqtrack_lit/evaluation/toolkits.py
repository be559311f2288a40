"""The conventions of other toolkits: GOT-10k, LaSOT and TNL2K (MATLAB), pysot, TrackingNet's server.

got10k_ao, got10k_otb   AO and SR of GOT-10k, and the success plots the toolkit draws for the other data sets.
    got-10k/toolkit, got10k/experiments/got10k.py and otb.py, got10k/utils/metrics.py
lasot_matlab, pysot     Both remove frames where the target is absent but divide by all frames, and both want all four
    numbers of a ground-truth box to be positive. HengLan/LaSOT_Evaluation_Toolkit utils/calc_seq_err_robust.m,
    wangxiao5791509/TNL2K_evaluation_toolkit (the same files); StrangerZhang/pysot-toolkit pysot/utils/statistics.py
trackingnet             Boxes are rounded to integers, IoU counts from the threshold on (`>=`), and each score is the
    trapezoid area over 21 points, so that "precision" is not the share at 20 pixels. Frames without an answer (a short
    result, NaN) fail. SilvioGiancola/TrackingNet-devkit, metrics.py (the version with `>=`)
"""

import numpy as np
from jaxtyping import Bool, Float64

from seqtrack_lit.evaluation.ope import (
    NORM_THRESHOLDS,
    PRECISION_THRESHOLDS,
    SUCCESS_THRESHOLDS,
    BoxRows,
    Curve,
    Errors,
    GroundTruth,
    PerFrame,
    Rules,
    SequenceCurves,
    above,
    at_most,
    center_errors,
    centers,
    copy_forward,
    iou,
    ope_curves,
)

AO_THRESHOLDS = np.linspace(0, 1, 101)
_EPS = np.finfo(np.float64).eps
TRACKINGNET_PRECISION = np.linspace(0, 50, 21)
TRACKINGNET_NORM = np.linspace(0, 0.5, 21)


def got10k_ious(truth: GroundTruth, pred: Float64[np.ndarray, "M 4"]) -> Float64[np.ndarray, "frames"]:
    """IoU of the frames GOT-10k counts: all but the first and those with cover 0, both boxes clipped to the image.

    Raises:
        ValueError: the result is not as long as the sequence, or the sequence's resolution is not known.
    """
    if len(pred) != len(truth.boxes):
        raise ValueError(f"{truth.name}: the result has {len(pred)} lines, the sequence {len(truth.boxes)} frames")
    if truth.resolution is None:
        raise ValueError(
            f"{truth.name}: got10k_ao clips boxes to the image and needs its size (meta_info.ini `resolution`); "
            "use another convention for this benchmark"
        )
    size = np.array(truth.resolution, dtype=np.float64)
    kept = np.ones(len(pred), dtype=bool) if truth.cover is None else truth.cover > 0
    kept[0] = False
    return _iou(_clip(pred[kept], size), _clip(truth.boxes[kept], size))


def got10k_ao(truth: GroundTruth, pred: Float64[np.ndarray, "M 4"]) -> SequenceCurves:
    """Average overlap and success rates; a sequence weighs as much as it has counted frames (pooled mean)."""
    overlap = got10k_ious(truth, pred)
    frames = len(overlap)
    curves = {
        "overlap": np.array([overlap.mean() if frames else 0.0]),
        "success": above(overlap, AO_THRESHOLDS, max(frames, 1)),
    }
    return SequenceCurves(curves, dict.fromkeys(curves, float(frames)))


def got10k_otb(truth: GroundTruth, pred: Float64[np.ndarray, "M 4"]) -> SequenceCurves:
    """The toolkit's OTB-style plots (OTB, NFS, UAV123, LaSOT): NaN rows leave the denominator, flags are ignored."""
    frames = min(len(pred), len(truth.boxes))
    pred, gt = pred[:frames].copy(), truth.boxes[:frames]
    pred[0] = gt[0]
    known = ~(np.isnan(pred).any(1) | np.isnan(gt).any(1))
    pred, gt = pred[known], gt[known]
    distance = centers(pred) - centers(gt)
    plain = np.linalg.norm(distance, axis=1)
    norm = np.linalg.norm(distance / np.maximum(1.0, gt[:, 2:]), axis=1)
    curves = {
        "success": above(_iou(pred, gt), SUCCESS_THRESHOLDS, len(gt)),
        "precision": at_most(plain, PRECISION_THRESHOLDS, len(gt)),
        "norm_precision": at_most(norm, NORM_THRESHOLDS, len(gt)),
    }
    return SequenceCurves(curves, dict.fromkeys(curves, 1.0))


def _iou(a: BoxRows, b: BoxRows) -> PerFrame:
    """The toolkit's IoU: machine epsilon on the union keeps two empty boxes at 0."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    intersection = np.clip(high - low, 0, None).prod(1)
    ratio: PerFrame = intersection / (a[:, 2:].prod(1) + b[:, 2:].prod(1) - intersection + _EPS)
    return ratio.clip(0, 1)


def _clip(boxes: BoxRows, size: Float64[np.ndarray, "2"]) -> BoxRows:
    """Corner into [0, size]; width and height into what is left from the clipped corner (not the far corner)."""
    corner = np.clip(boxes[:, :2], 0, size)
    return np.concatenate([corner, np.clip(boxes[:, 2:], 0, size - corner)], axis=1)


def lasot_matlab(truth: GroundTruth, pred: Float64[np.ndarray, "M 4"]) -> SequenceCurves:
    """LaSOT's and TNL2K's kit: bad results repeat the one before; frames without ground truth have error -1.

    A sequence whose curve is zero everywhere leaves that curve's mean over the data set.

    Raises:
        ValueError: the result is shorter than the sequence.
    """
    pred = _cut(truth, pred)
    bad = np.isnan(pred).any(1) | (pred[:, 2:] <= 0).any(1)
    pred = copy_forward(pred, bad & ~np.isnan(truth.boxes).any(1))
    pred = np.concatenate([truth.boxes[:1], pred[1:]])
    present = _present(truth, ("lasot", "lasot_ext", "tnl2k"))
    if truth.rules == "tnl2k":  # its flags come with the kit only; boxes of zeros say the same (but for 12 frames)
        present &= (truth.boxes != 0).any(1)
    pred, gt = pred[present], truth.boxes[present]
    valid = (gt > 0).all(1)
    plain, norm = center_errors(pred, gt)
    errors = Errors(
        np.where(valid, iou(pred, gt), -1.0), np.where(valid, plain, -1.0), np.where(valid, norm, -1.0), valid
    )
    curves = ope_curves(errors, len(truth.boxes))
    return SequenceCurves(curves, {name: float(curve.sum() > np.finfo(float).eps) for name, curve in curves.items()})


def pysot(truth: GroundTruth, pred: Float64[np.ndarray, "M 4"]) -> SequenceCurves:
    """The pysot toolkit: the first frame is scored as answered, nothing is repaired; centres count where positive.

    Raises:
        ValueError: the result is shorter than the sequence.
    """
    pred, present = _cut(truth, pred), _present(truth, ("lasot", "lasot_ext"))
    pred, gt = pred[present], truth.boxes[present]
    valid = (gt > 0).all(1)
    plain, _ = center_errors(pred, gt)
    size = gt[:, 2:] + 1e-16
    norm_gt = centers(gt) / size
    norm = np.linalg.norm(norm_gt - centers(pred) / size, axis=1)
    errors = Errors(
        np.where(valid, iou(pred, gt), -1.0),
        np.where((centers(gt) > 0).all(1), plain, -1.0),
        np.where((norm_gt > 0).all(1), norm, -1.0),
        valid,
    )
    curves = ope_curves(errors, len(truth.boxes))
    return SequenceCurves(curves, dict.fromkeys(curves, 1.0))


def _cut(truth: GroundTruth, pred: Float64[np.ndarray, "M 4"]) -> Float64[np.ndarray, "N 4"]:
    if len(pred) < len(truth.boxes):
        raise ValueError(
            f"{truth.name}: the result has {len(pred)} lines, the sequence {len(truth.boxes)} frames; this "
            "convention does not fill up short results"
        )
    return pred[: len(truth.boxes)]


def _present(truth: GroundTruth, flagged: tuple[Rules, ...]) -> Bool[np.ndarray, "N"]:
    """Frames that are not flagged absent, in the data sets whose flags the toolkit reads."""
    if truth.visible is None or truth.rules not in flagged:
        return np.ones(len(truth.boxes), dtype=bool)
    return truth.visible.copy()


def trackingnet(truth: GroundTruth, pred: Float64[np.ndarray, "M 4"]) -> SequenceCurves:
    """Success, precision, normalised precision; and coverage, the share of frames with an answer."""
    frames = len(truth.boxes)
    pred = np.concatenate([pred[:frames], np.full((max(0, frames - len(pred)), 4), np.nan)])
    pred, gt = np.round(pred), np.round(truth.boxes)
    pred[0] = gt[0]
    distance = (pred[:, :2] + (pred[:, 2:] + 1) / 2) - (gt[:, :2] + (gt[:, 2:] + 1) / 2)
    size = gt[:, 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        norm = np.sqrt((distance / size * distance / size).sum(1))  # the devkit's order of operations
    curves = {
        "success": (iou(pred, gt)[:, None] >= SUCCESS_THRESHOLDS).mean(0),
        "precision": at_most(np.sqrt((distance * distance).sum(1)), TRACKINGNET_PRECISION, frames),
        "norm_precision": at_most(norm, TRACKINGNET_NORM, frames),
        "coverage": np.array([(pred.sum(1) > 0).mean()]),
    }
    return SequenceCurves(curves, {**dict.fromkeys(curves, 1.0), "coverage": float(frames)})


def area(curve: Curve) -> float:
    """Trapezoid area under 21 points over [0, 1]."""
    return float(np.trapezoid(curve, x=SUCCESS_THRESHOLDS))
