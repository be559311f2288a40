import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqtrack_lit.boxes import (
    clip_xywh,
    cxcywh_to_xywh,
    cxcywh_to_xyxy,
    difference,
    iou,
    misread,
    moved,
    xyxy_to_cxcywh,
)


def test_conversions_by_hand():
    xywh = torch.tensor([[10.0, 20.0, 30.0, 40.0]])
    cxcywh = torch.tensor([[25.0, 40.0, 30.0, 40.0]])
    assert torch.equal(cxcywh_to_xywh(cxcywh), xywh)
    assert torch.equal(cxcywh_to_xyxy(cxcywh), torch.tensor([[10.0, 20.0, 40.0, 60.0]]))
    assert torch.equal(xyxy_to_cxcywh(cxcywh_to_xyxy(cxcywh)), cxcywh)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1.0),
        ([0, 0, 2, 2], [1, 0, 2, 2], 2 / 6),  # overlap 1x2, union 4 + 4 - 2
        ([0, 0, 2, 2], [2, 0, 2, 2], 0.0),  # touching edges
        ([0, 0, 4, 4], [1, 1, 2, 2], 4 / 16),  # inside
        ([0, 0, 0, 0], [0, 0, 0, 0], 0.0),  # empty union
    ],
)
def test_iou_by_hand(a, b, expected):
    assert iou(torch.tensor(a).double(), torch.tensor(b).double()).item() == pytest.approx(expected, abs=1e-15)


def test_a_box_moved_by_the_difference_to_another_is_the_other():
    own, other = np.array([[10.0, 20, 40, 20]]), np.array([[14.0, 18, 20, 30]])
    lack = difference(own, other)
    np.testing.assert_allclose(lack, [[-6 / 40, 3 / 20, np.log(1 / 2), np.log(3 / 2)]])
    np.testing.assert_allclose(moved(own, lack), other)
    np.testing.assert_allclose(moved(own[0], 0 * lack[0]), own[0])


def test_clip_order_of_operations():
    # x1 = -30 -> 0; x2 = -30 + 50 = 20 from the UNCLIPPED corner; so w = 20, not 50
    assert clip_xywh((-30.0, 5.0, 50.0, 20.0), 100, 80, 10.0) == (0.0, 5.0, 20.0, 20.0)
    # far right: x1 is kept at W - 10 = 90, x2 at W = 100
    assert clip_xywh((120.0, 5.0, 50.0, 20.0), 100, 80, 10.0) == (90.0, 5.0, 10.0, 20.0)
    # reaching out at the lower right: the corner stays, the far one is kept at (W, H)
    assert clip_xywh((50.0, 65.0, 70.0, 60.0), 100, 80, 10.0) == (50.0, 65.0, 50.0, 15.0)
    # crossed corners become the margin
    assert clip_xywh((40.0, 5.0, -3.0, 20.0), 100, 80, 10.0) == (40.0, 5.0, 10.0, 20.0)


@given(st.tuples(*[st.floats(-500, 500)] * 2, *[st.floats(-100, 900)] * 2))
def test_clipped_box_stays_usable(box):
    x, y, w, h = clip_xywh(box, 320, 240, 10.0)
    assert 0 <= x <= 310
    assert 0 <= y <= 230
    assert 10 <= w <= 320
    assert 10 <= h <= 240


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([[100, 50, 40, 30]], None),
        ([[0.1, 0.2, 0.3, 0.4]], ("fractions", 0)),
        ([[0, 0, 0, 0], [0.9, 0.5, 0.2, 0.3]], ("fractions", 1)),  # reaches out a little, as real boxes do
        ([[0.1, 0.2, 0.3, 0.4], [3, 2, 9, 9]], None),  # one in pixels: all are
        ([[0, 0, 640, 480]], None),  # the whole picture is no mistake
        ([[0, 0, 1281, 9]], ("huge", 0)),
        ([[100, 50, 40, 30], [1, 1, 9, 961]], ("huge", 1)),
        ([[300, 200, 600, 400]], ("corners", 0)),  # as x,y,w,h it would end at 900
        ([[300, 200, 371, 303]], None),  # ends at 671 of 640 and 503 of 480: 5 % of the sides and no more
        ([[300, 200, 600, 190]], None),  # y2 < y1: no corners
        ([[10, 10, 30, 30], [300, 200, 600, 400]], ("corners", 1)),
        ([[10, 10, 9, 30], [300, 200, 600, 400]], None),  # one that cannot be corners
        ([[np.nan, 10, 30, 30]], None),
        ([[0, 0, 0, 0]], None),
    ],
)
def test_boxes_that_look_like_something_else(boxes, expected):
    assert misread(np.array(boxes, float), 640, 480) == expected


def test_without_a_picture_only_fractions_are_seen():
    assert misread(np.array([[0.1, 0.2, 0.3, 0.4]]), 0, 0) == ("fractions", 0)
    assert misread(np.array([[300.0, 200, 600, 400]]), 0, 0) is None
