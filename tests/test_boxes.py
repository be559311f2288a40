import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqtrack_lit.boxes import clip_xywh, cxcywh_to_xywh, cxcywh_to_xyxy, iou, xywh_to_cxcywh, xyxy_to_cxcywh


def test_conversions_by_hand():
    xywh = torch.tensor([[10.0, 20.0, 30.0, 40.0]])
    cxcywh = torch.tensor([[25.0, 40.0, 30.0, 40.0]])
    assert torch.equal(xywh_to_cxcywh(xywh), cxcywh)
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


def test_clip_order_of_operations():
    # x1 = -30 -> 0; x2 = -30 + 50 = 20 from the UNCLIPPED corner; so w = 20, not 50
    assert clip_xywh((-30.0, 5.0, 50.0, 20.0), 100, 80, 10.0) == (0.0, 5.0, 20.0, 20.0)
    # far right: x1 is kept at W - 10 = 90, x2 at W = 100
    assert clip_xywh((120.0, 5.0, 50.0, 20.0), 100, 80, 10.0) == (90.0, 5.0, 10.0, 20.0)
    # crossed corners become the margin
    assert clip_xywh((40.0, 5.0, -3.0, 20.0), 100, 80, 10.0) == (40.0, 5.0, 10.0, 20.0)


@given(st.tuples(*[st.floats(-500, 500)] * 2, *[st.floats(-100, 900)] * 2))
def test_clipped_box_stays_usable(box):
    x, y, w, h = clip_xywh(box, 320, 240, 10.0)
    assert 0 <= x <= 310
    assert 0 <= y <= 230
    assert 10 <= w <= 320
    assert 10 <= h <= 240
