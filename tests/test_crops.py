import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqtrack_lit.crops import Crop


def image(width=16, height=12):
    rng = np.random.default_rng(0)
    return rng.integers(1, 256, (height, width, 3), dtype=np.uint8)


def test_window_of_a_box():
    # sqrt(4 * 9) * 4 = 24; centre (2 + 2, 1 + 4.5)
    crop = Crop.around((2.0, 1.0, 4.0, 9.0), factor=4, size=48)
    assert (crop.center, crop.side, crop.scale) == ((4.0, 5.5), 24, 2.0)
    assert Crop.around((0.0, 0.0, 1.0, 1.1), factor=4, size=8).side == 5  # ceil(4.195)


def test_cut_inside_is_a_copy_of_the_pixels():
    source = image()
    crop = Crop(center=(6.0, 5.0), side=4, size=4)  # corner (4, 3)
    assert np.array_equal(crop.cut(source), source[3:7, 4:8])


def test_cut_pads_with_black():
    source = image()
    cut = Crop(center=(1.0, 1.0), side=6, size=6).cut(source)  # corner (-2, -2)
    assert not cut[:2].any()
    assert not cut[:, :2].any()
    assert np.array_equal(cut[2:, 2:], source[:4, :4])


@pytest.mark.parametrize(
    ("center_x", "lost"),
    [(13.0, 0), (14.0, 1), (15.0, 1)],  # window [11, 15) inside; [12, 16) touches the edge: official drops column 15
)
def test_official_padding_loses_the_last_column(center_x, lost):
    source = image()
    crop = Crop(center=(center_x, 6.0), side=4, size=4)
    exact, official = crop.cut(source), crop.cut(source, padding="official")
    x1 = round(center_x - 2)
    inside = min(16, x1 + 4) - x1
    assert np.array_equal(exact[:, :inside], source[4:8, x1 : x1 + inside])
    assert np.array_equal(official[:, : inside - lost], exact[:, : inside - lost])
    assert not official[:, inside - lost :].any()


@pytest.mark.parametrize("center", [(-50.0, 5.0), (60.0, 5.0), (5.0, -50.0), (5.0, 60.0)])
@pytest.mark.parametrize("padding", ["exact", "official"])
def test_window_outside_is_black(center, padding):
    assert not Crop(center, side=8, size=5).cut(image(), padding=padding).any()


@pytest.mark.parametrize("rounding_case", [(5.5, 4), (6.5, 4)])  # corners 3.5 -> 4 and 4.5 -> 4: half to even
def test_corner_rounds_half_to_even(rounding_case):
    center_x, corner = rounding_case
    source = image()
    assert np.array_equal(Crop((center_x, 6.0), side=4, size=4).cut(source), source[4:8, corner : corner + 4])


boxes = st.tuples(*[st.floats(-100, 400)] * 2, *[st.floats(1, 200)] * 2)


@given(boxes, boxes, st.sampled_from([32, 48, 256, 384]), st.sampled_from([2.0, 3.0, 4.0, 5.0]))
def test_to_crop_and_back(around, box, size, factor):
    crop = Crop.around(around, factor=factor, size=size)
    box = np.array([box])
    assert np.allclose(crop.to_image(torch.from_numpy(crop.to_crop(box, "S"))), box, atol=1e-9)


def test_training_normaliser_by_hand():
    # side 20 -> size 10: scale 0.5; a box at the centre with w = h = 4 px -> 2 crop px; divided by 9
    crop = Crop((50.0, 50.0), side=20, size=10)
    centered, right = crop.to_crop(np.array([[48.0, 48, 4, 4], [54, 48, 4, 4]]), "S-1")
    assert centered.tolist() == pytest.approx([0.5, 0.5, 2 / 9, 2 / 9])
    # 6 px right of the centre is 3 crop px: (9 / 2 + 3) / 9
    assert right[0] == pytest.approx(7.5 / 9)


@pytest.mark.parametrize("box", [(0.0, 0.0, 0.0, 5.0), (0.0, 0.0, 5.0, -1.0), (float("nan"), 0.0, 5.0, 5.0)])
def test_unusable_boxes_are_named(box):
    with pytest.raises(ValueError, match="width and height must be > 0"):
        Crop.around(box, factor=4, size=8)
