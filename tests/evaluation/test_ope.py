"""The traps of the metric definitions, one named case each, with the arithmetic beside it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seqtrack_lit.evaluation import ope as overlap
from seqtrack_lit.evaluation import toolkits
from seqtrack_lit.evaluation.metrics import CONVENTIONS, values_of
from seqtrack_lit.evaluation.ope import GroundTruth

BOX = [100.0, 100.0, 40.0, 40.0]


def values(convention: str, truth: GroundTruth, pred: np.ndarray) -> dict[str, float]:
    rules = CONVENTIONS[convention]
    return values_of(rules, rules.measure(truth, pred))


CEILINGS = {  # IoU 1 is not above the last threshold, 1: 20 of 21 points
    "seqtrack": {"AUC": 2000 / 21, "PNorm": 100, "P": 100, "OP50": 100, "OP75": 100},
    "pytracking": {"AUC": 2000 / 21, "PNorm": 100, "P": 100, "OP50": 100, "OP75": 100},
    "lasot_matlab": {"AUC": 2000 / 21, "PNorm": 100, "P": 100, "OP50": 100, "OP75": 100},
    "pysot": {"AUC": 2000 / 21, "PNorm": 100, "P": 100, "OP50": 100, "OP75": 100},
    "got10k_otb": {"AUC": 2000 / 21, "PNorm": 100, "P": 100, "OP50": 100, "OP75": 100, "PNormAUC": 100},
    "got10k_ao": {"AO": 100, "SR50": 100, "SR75": 100},
    "mean_iou": {"IoU": 100, "OP50": 100, "OP75": 100},
    "trackingnet": {"AUC": 100, "PNorm": 100, "P": 100, "coverage": 100},
}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_ground_truth_against_itself(convention: str, made_truth):
    truth = made_truth("a", resolution=(640, 480))
    assert values(convention, truth, truth.boxes) == pytest.approx(CEILINGS[convention])


@pytest.mark.parametrize(("rules", "share"), [("lasot", 0.8), ("lasot_ext", 0.8), ("other", 1.0), ("tnl2k", 1.0)])
def test_ceiling_with_absent_frames(rules: str, share: float, made_truth):
    """2 of 10 frames flagged absent: they count as missed for LaSOT and LaSOText, and are not looked at elsewhere."""
    visible = np.array([True] * 8 + [False] * 2)
    truth = made_truth("a", 10, visible=visible, rules=rules)
    assert values("seqtrack", truth, truth.boxes)["AUC"] == pytest.approx(share * 2000 / 21)


INVALID = {  # one of 10 ground-truth boxes is zero; the answer there is far off. Shares of P and PNorm:
    ("seqtrack", "other"): (0.9, 1.0),  # the normalised error -1 counts as correct
    ("seqtrack", "uav"): (1.0, 1.0),  # both errors are -1
    ("seqtrack", "lasot"): (0.9, 1.0),
    ("lasot_matlab", "other"): (1.0, 1.0),
    ("lasot_matlab", "tnl2k"): (0.9, 0.9),  # the absent frame is removed, but divided by
    ("got10k_otb", "other"): (0.9, 0.9),
}


@pytest.mark.parametrize(("convention", "rules"), INVALID)
def test_frames_without_ground_truth(convention: str, rules: str):
    gt = np.array([BOX] * 9 + [[0.0, 0, 0, 0]])
    pred = np.array([BOX] * 10) + np.array([0.0] * 9 + [500.0])[:, None]
    scores = values(convention, GroundTruth("a", gt, rules=rules), pred)
    assert (scores["P"], scores["PNorm"]) == pytest.approx(tuple(100 * share for share in INVALID[convention, rules]))
    assert scores["AUC"] == pytest.approx(0.9 * 2000 / 21)


def test_boxes_left_of_the_image_are_valid_for_seqtrack_only():
    gt = np.array([BOX] * 5 + [[0.0, 10, 40, 40]] * 5)
    truth = GroundTruth("a", gt)
    assert values("seqtrack", truth, gt)["AUC"] == pytest.approx(2000 / 21)
    assert values("pytracking", truth, gt)["AUC"] == pytest.approx(1000 / 21)


def test_threshold_points_are_exact():
    """arange(0, 1.05, 0.05) may hold 0.7500000000000001 at 15; the share at OP75 must be that above 0.75."""
    assert overlap.SUCCESS_THRESHOLDS[10] == 0.5
    assert overlap.SUCCESS_THRESHOLDS[15] == 0.75
    assert toolkits.AO_THRESHOLDS[50] == 0.5
    assert toolkits.AO_THRESHOLDS[75] == 0.75
    assert overlap.NORM_THRESHOLDS[20] == 0.2


def test_zero_results_repeat_the_box_before_but_padding_stays_zero():
    gt = np.array([BOX] * 4)
    pred = np.array([BOX, BOX, [5.0, 5, 0, 10]])  # frame 2 repeats frame 1; frame 3 is missing: zeros, IoU 0
    np.testing.assert_array_equal(overlap.robust_errors(GroundTruth("a", gt), pred, positive="size").iou, [1, 1, 1, 0])


def test_short_results():
    gt = np.array([BOX] * 4)
    for rules, convention in (("lasot", "seqtrack"), ("other", "lasot_matlab"), ("other", "pysot")):
        with pytest.raises(ValueError, match="bird: the result has 3 lines, the sequence 4 frames"):
            values(convention, GroundTruth("bird", gt, rules=rules), gt[:3])
    assert values("trackingnet", GroundTruth("bird", gt), gt[:3])["coverage"] == 75.0


BROKEN = {
    "NaN": ([np.nan, 1, 2, 3], "seqtrack", "line 2 of the result"),
    "negative size": ([1, 1, -2, 3], "pytracking", "line 2 of the result"),
}


@pytest.mark.parametrize(("row", "convention", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_results_that_cannot_be_scored(row: list[float], convention: str, message: str):
    pred = np.array([BOX, row, BOX])
    with pytest.raises(ValueError, match=f"bird: {message}"):
        values(convention, GroundTruth("bird", np.array([BOX] * 3)), pred)
    assert values("lasot_matlab", GroundTruth("bird", np.array([BOX] * 3)), pred)["AUC"] == pytest.approx(2000 / 21)


def test_ground_truth_with_nan_is_uav123s_alone():
    gt = np.array([BOX, [np.nan] * 4])
    with pytest.raises(ValueError, match="bird: line 2 of the ground truth holds NaN"):
        values("seqtrack", GroundTruth("bird", gt), np.array([BOX] * 2))
    assert values("seqtrack", GroundTruth("bird", gt, rules="uav"), np.array([BOX] * 2))["P"] == 100


def test_got10k_needs_the_image_size_and_whole_results(made_truth):
    truth = made_truth("bird")
    with pytest.raises(ValueError, match="bird: got10k_ao clips boxes to the image"):
        toolkits.got10k_ious(truth, truth.boxes)
    with pytest.raises(ValueError, match="bird: the result has 29 lines, the sequence 30"):
        toolkits.got10k_ious(truth, truth.boxes[1:])


def test_one_frame_video(made_truth):
    truth = made_truth("a", 1, resolution=(640, 480))
    assert values("seqtrack", truth, truth.boxes)["AUC"] == pytest.approx(2000 / 21)
    assert values("got10k_ao", truth, truth.boxes) == {"AO": 0, "SR50": 0, "SR75": 0}  # nothing is counted


@given(arrays(np.float64, (6, 4), elements=st.floats(0, 300)), arrays(np.float64, (6, 4), elements=st.floats(0, 300)))
def test_iou_is_symmetric_and_in_range(a: np.ndarray, b: np.ndarray):
    value = overlap.iou(a, b)
    assert ((value >= 0) & (value <= 1 + 1e-9)).all()
    np.testing.assert_array_equal(value, overlap.iou(b, a))


@given(arrays(np.bool_, 8), st.integers(0, 100))
def test_copy_forward_is_the_loop(bad: np.ndarray, seed: int):
    pred = np.random.default_rng(seed).normal(size=(8, 4))
    expected = pred.copy()
    for i in range(1, 8):
        if bad[i]:
            expected[i] = expected[i - 1]
    np.testing.assert_array_equal(overlap.copy_forward(pred, bad), expected)


def test_mean_iou_counts_frames_after_the_first_that_show_the_target():
    """Of 5 frames: the first is given, IoU 1, 60 / 100 = 0.6, hidden, without ground truth: (1 + 0.6) / 2."""
    gt = np.array([[10.0, 10, 10, 10]] * 4 + [[0.0, 0, 0, 0]])
    pred = np.array([[10.0, 10, 10, 10]] * 2 + [[10.0, 10, 10, 6]] + [[90.0, 90, 10, 10]] * 2)
    visible = np.array([True, True, True, False, True])
    truth = GroundTruth("a", gt, visible=visible)
    assert values("mean_iou", truth, pred) == pytest.approx({"IoU": 80, "OP50": 100, "OP75": 50})
    alone = GroundTruth("b", gt[:1])
    assert CONVENTIONS["mean_iou"].measure(alone, gt[:1]).weights["overlap"] == 0  # nothing to count
