"""Long-term tracking: what a confidence means, when a target is lost, that it is found at another place."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from tests.tracking.conftest import tiny
from tests.tracking.test_shipped import clip

from seqtrack_lit import load_tracker
from seqtrack_lit.boxes import iou
from seqtrack_lit.tracking import seqtrack
from seqtrack_lit.tracking.long_term import Calibration, LongTermTracker, for_long
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.weights import SMALL

GIVEN = {"likelihood": 2.0, "presence": 1.0, "bias": 3.0, "lost_below": 0.2, "found_above": 0.9}


def away_and_back():
    """The card for 4 frames, 6 frames without it, then 6 frames with it in the opposite corner."""
    images, boxes = clip(4)
    ground = clip(1)[0][0]
    x, y, w, h = boxes[0].astype(int)
    card = ground[y : y + h, x : x + w].copy()
    ground[y : y + h, x : x + w] = ground[y : y + h, x + 100 : x + 100 + w]
    back = ground.copy()
    back[180 : 180 + h, 250 : 250 + w] = card
    return images + [ground] * 6 + [back] * 6, boxes[0], np.array([250.0, 180, w, h])


def test_odds_are_a_linear_function_of_both_scores_logarithms():
    found = Calibration(**GIVEN)(torch.tensor([0.1], dtype=torch.float64), torch.tensor([0.8]))
    odds = 3 + 2 * math.log(0.1) + math.log(0.8 / 0.2)
    assert found.item() == pytest.approx(odds, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"found_above": 0.1}, "lost_below = 0.2 lies above found_above = 0.1"),
        ({"lost_below": 1.5}, "calibration.lost_below must be"),
        ({"bias": "3"}, "bias: Input should be a valid number"),
        ({"more": 1}, "more: "),
    ],
)
def test_a_wrong_calibration_is_named_with_its_file(tmp_path, change, message):
    (tmp_path / "a.calibration.json").write_text(json.dumps({**GIVEN, **change}))
    with pytest.raises(ValueError, match=message) as caught:
        Calibration.beside(tmp_path / "a.safetensors")
    assert "a.calibration.json" in str(caught.value)


def test_without_a_calibration_a_tracker_is_the_plain_one(tmp_path):
    tracker = SeqTrackTracker(tiny())
    assert for_long(tracker, tmp_path / "a.ckpt") is tracker
    with pytest.raises(FileNotFoundError, match=r"long_term=true needs .*a\.calibration\.json"):
        for_long(tracker, tmp_path / "a.ckpt", wanted=True)
    with pytest.raises(ValueError, match="dense_head=true"):
        LongTermTracker(tracker, Calibration(**GIVEN))


@pytest.fixture(scope="module")
def shipped():
    return load_tracker(device="cpu")


def test_the_shipped_one_is_long_term(shipped):
    assert isinstance(shipped, LongTermTracker)
    assert shipped.calibration == Calibration.beside(SMALL)
    assert shipped.settings["long_term"] == {"lost_below": 0.2, "found_above": 0.9}
    assert for_long(shipped.tracker, SMALL, wanted=False) is shipped.tracker


def test_while_nothing_is_lost_boxes_are_those_of_the_plain_tracker(shipped):
    images, boxes = clip(5)
    plain, tracker = copy.copy(shipped.tracker), copy.copy(shipped)
    plain.init(images[0], boxes[0])
    tracker.init(images[0], boxes[0])
    for image in images[1:]:
        one, other = tracker.update(image), plain.update(image)
        np.testing.assert_allclose(one.box_xywh, other.box_xywh, atol=1e-3)
        assert one.confidence > 0.5
        assert not one.lost


def test_a_target_that_was_away_is_found_in_the_other_corner(shipped):
    images, first, last = away_and_back()
    tracker, other = copy.copy(shipped), copy.copy(shipped)
    tracker.init(images[0], first)
    estimates = [tracker.update(image) for image in images[1:]]
    lost = [estimate.lost for estimate in estimates]
    assert lost[:3] == [False] * 3
    assert all(lost[4:9])  # two frames below the threshold
    assert not lost[-1]
    assert iou(torch.tensor(estimates[-1].box_xywh[None]), torch.tensor(last[None])).item() > 0.6
    with pytest.raises(ValueError, match="give the target first"):
        other.update(images[1])  # a copy has a state of its own


def covered_beside_a_twin():
    """The card beside its twin in other colours for 10 frames, 8 frames with the twin alone, 6 with both."""
    images, boxes = clip(1)
    x, y, w, h = boxes[0].astype(int)
    ground, card = images[0].copy(), images[0][y : y + h, x : x + w].copy()
    ground[y : y + h, x : x + w] = ground[y : y + h, x + 100 : x + 100 + w]
    ground[y : y + h, x + w + 8 : x + 2 * w + 8] = card[..., ::-1]
    both = ground.copy()
    both[y : y + h, x : x + w] = card
    return [both] * 10 + [ground] * 8 + [both] * 6, boxes[0]


def test_a_look_alike_beside_the_target_is_not_taken_for_it():
    images, first = covered_beside_a_twin()
    tracker = load_tracker(device="cpu", expectation=0, offset=0.0)  # likelihoods of this card lie at the thresholds
    tracker.init(images[0], first)
    estimates = [tracker.update(image) for image in images[1:]]
    assert all(estimate.lost for estimate in estimates[10:17])
    assert not estimates[-1].lost
    assert iou(torch.tensor(estimates[-1].box_xywh[None]), torch.tensor(first[None])).item() > 0.6


@pytest.mark.parametrize("integers", [False, True])
def test_own_videos_are_tracked_in_8_bits_where_the_processor_has_them(monkeypatch, integers):
    monkeypatch.setattr(seqtrack, "computes_int8", lambda: integers)
    monkeypatch.setattr(seqtrack, "onednn_works", lambda dtype, layout: True)
    assert load_tracker(device="cpu").settings["dtype"] == ("int8" if integers else "float32")
    assert load_tracker(device="cpu", dtype="float32").settings["dtype"] == "float32"
    assert seqtrack.load_seqtrack(device="cpu").settings["dtype"] == "float32"
