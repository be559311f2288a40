"""TrackingNet's server: its devkit's metrics.py, which is not what the other toolkits compute.

Boxes are rounded to integers, IoU counts from the threshold on (`>=`), and each score is the trapezoid area over
21 points, so that "precision" is not the share at 20 pixels. Frames without an answer (a short result, NaN) fail.
Source: SilvioGiancola/TrackingNet-devkit, metrics.py (the version with `>=`).
"""

import numpy as np
from jaxtyping import Float64

from seqtrack_lit.evaluation.ope import SUCCESS_THRESHOLDS, Curve, GroundTruth, SequenceCurves, at_most, iou

PRECISION_THRESHOLDS = np.linspace(0, 50, 21)
NORM_THRESHOLDS = np.linspace(0, 0.5, 21)


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
        "precision": at_most(np.sqrt((distance * distance).sum(1)), PRECISION_THRESHOLDS, frames),
        "norm_precision": at_most(norm, NORM_THRESHOLDS, frames),
        "coverage": np.array([(pred.sum(1) > 0).mean()]),
    }
    return SequenceCurves(curves, {**dict.fromkeys(curves, 1.0), "coverage": float(frames)})


def area(curve: Curve) -> float:
    """Trapezoid area under 21 points over [0, 1]."""
    return float(np.trapezoid(curve, x=SUCCESS_THRESHOLDS))
