"""The MATLAB kits of LaSOT and TNL2K, and the pysot toolkit: the same curves with other rules for absent targets.

Both remove frames where the target is absent but divide by all frames, and both want all four numbers of a
ground-truth box to be positive. Sources: HengLan/LaSOT_Evaluation_Toolkit utils/calc_seq_err_robust.m,
wangxiao5791509/TNL2K_evaluation_toolkit (the same files); StrangerZhang/pysot-toolkit pysot/utils/statistics.py.
"""

import numpy as np
from jaxtyping import Bool, Float64

from seqtrack_lit.evaluation.ope import (
    Errors,
    GroundTruth,
    Rules,
    SequenceCurves,
    center_errors,
    centers,
    copy_forward,
    iou,
    ope_curves,
)


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
