"""The got10k toolkit: AO and SR of GOT-10k, and the success plots it draws for the other data sets.

Source: got-10k/toolkit, got10k/experiments/got10k.py and otb.py, got10k/utils/metrics.py.
"""

import numpy as np
from jaxtyping import Float64

from seqtrack_lit.evaluation.ope import (
    NORM_THRESHOLDS,
    PRECISION_THRESHOLDS,
    SUCCESS_THRESHOLDS,
    BoxRows,
    GroundTruth,
    PerFrame,
    SequenceCurves,
    above,
    at_most,
    centers,
)

AO_THRESHOLDS = np.linspace(0, 1, 101)
_EPS = np.finfo(np.float64).eps


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
