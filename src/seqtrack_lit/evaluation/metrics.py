"""Metrics (AUC, P, PNorm, OP, AO, SR): which points or areas of which curves, by the convention of each toolkit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float64

from seqtrack_lit.evaluation import ope, toolkits
from seqtrack_lit.evaluation.ope import Curve, GroundTruth, SequenceCurves

ScoreFunction = Callable[[Mapping[str, Curve]], float]

# AUC: mean of the success curve over its 21 thresholds. P: centre error at most 20 px. PNorm: at most 0.20 target
# sizes. OP50, OP75: IoU above 0.5, 0.75. All in [0, 1] here, percent in Scores.
_OPE: dict[str, ScoreFunction] = {
    "AUC": lambda curves: float(curves["success"].mean()),
    "PNorm": lambda curves: float(curves["norm_precision"][20]),
    "P": lambda curves: float(curves["precision"][20]),
    "OP50": lambda curves: float(curves["success"][10]),
    "OP75": lambda curves: float(curves["success"][15]),
}


@dataclass(frozen=True)
class Convention:
    """A toolkit's rules: curves of a sequence, scores from the mean curves, whether results may hold NaN."""

    measure: Callable[[GroundTruth, Float64[np.ndarray, "M 4"]], SequenceCurves]
    score: Mapping[str, ScoreFunction]
    nan: bool = False


CONVENTIONS: dict[str, Convention] = {
    "seqtrack": Convention(ope.seqtrack, _OPE),
    "pytracking": Convention(ope.pytracking, _OPE),
    "lasot_matlab": Convention(toolkits.lasot_matlab, _OPE, nan=True),
    "pysot": Convention(toolkits.pysot, _OPE),
    # PNormAUC: the toolkit's own "normalized precision score", the mean over errors of 0 to 0.5 target sizes.
    "got10k_otb": Convention(
        toolkits.got10k_otb, {**_OPE, "PNormAUC": lambda curves: float(curves["norm_precision"].mean())}, nan=True
    ),
    # AO: mean IoU over the counted frames of all videos. SR50, SR75: share of them with IoU above 0.5, 0.75.
    "got10k_ao": Convention(
        toolkits.got10k_ao,
        {
            "AO": lambda curves: float(curves["overlap"][0]),
            "SR50": lambda curves: float(curves["success"][50]),
            "SR75": lambda curves: float(curves["success"][75]),
        },
    ),
    # IoU: the mean of the videos' mean IoU without the first frame, the number that small comparisons state.
    "mean_iou": Convention(
        ope.mean_iou,
        {
            "IoU": lambda curves: float(curves["overlap"][0]),
            "OP50": lambda curves: float(curves["success"][10]),
            "OP75": lambda curves: float(curves["success"][15]),
        },
    ),
    # All three are areas under 21 points, P too.
    "trackingnet": Convention(
        toolkits.trackingnet,
        {
            "AUC": lambda curves: toolkits.area(curves["success"]),
            "PNorm": lambda curves: toolkits.area(curves["norm_precision"]),
            "P": lambda curves: toolkits.area(curves["precision"]),
            "coverage": lambda curves: float(curves["coverage"][0]),
        },
        nan=True,
    ),
}


# Scores of VOT's experiments are measured in evaluation/vot_scores.py.
VOT: dict[str, frozenset[str]] = {
    "vot_baseline": frozenset(("EAO", "A", "R")),
    "vot_realtime": frozenset(("EAO", "A", "R")),
    "vot_unsupervised": frozenset(("A",)),
}


def convention_of(name: str) -> Convention:
    """The convention of this name.

    Raises:
        ValueError: there is none.
    """
    if name in VOT:
        raise ValueError(f"convention {name} is of VOT's runs: it goes with benchmark=vot2020 alone")
    if name not in CONVENTIONS:
        raise ValueError(f"unknown convention {name!r}; one of {', '.join(CONVENTIONS)}")
    return CONVENTIONS[name]


@cache
def curve_lengths(convention: str) -> dict[str, int]:
    """Names and lengths of a convention's curves."""
    boxes = np.ones((2, 4))
    curves = CONVENTIONS[convention].measure(GroundTruth("", boxes, resolution=(2, 2)), boxes).curves
    return {name: len(curve) for name, curve in curves.items()}


def mean_curves(sequences: Sequence[SequenceCurves]) -> SequenceCurves:
    """Weighted mean of curves; a curve whose weights are all zero is zero."""
    curves, weights = {}, {}
    for name, first in sequences[0].curves.items():
        weight = np.array([one.weights[name] for one in sequences])
        stacked = np.stack([one.curves[name] for one in sequences])
        weights[name] = float(weight.sum())
        curves[name] = weight @ stacked / weights[name] if weights[name] > 0 else np.zeros_like(first)
    return SequenceCurves(curves, weights)


def values_of(convention: Convention, curves: SequenceCurves) -> dict[str, float]:
    """The scores in percent of (mean) curves."""
    return {name: 100 * score(curves.curves) for name, score in convention.score.items()}
