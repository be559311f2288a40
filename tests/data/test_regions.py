"""Regions of VOT and their text, both ways; lines that are none."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from seqtrack_lit.data.video.regions import (
    LARGEST_LINE,
    Mask,
    Polygon,
    Rectangle,
    Special,
    box_of,
    format_region,
    parse_region,
    read_regions,
    trim,
    whole_mask,
)

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))
OFFSETS = st.integers(-20, 2000)


@given(pixels=MASKS, x=OFFSETS, y=OFFSETS)
@settings(max_examples=100, deadline=None)
def test_masks_survive_their_text(pixels: np.ndarray, x: int, y: int) -> None:
    text = format_region(Mask(pixels, x, y))
    back = parse_region(text, "here")
    assert isinstance(back, Mask)
    assert (back.x, back.y) == (x, y)
    np.testing.assert_array_equal(back.pixels, pixels)
    runs = [int(part) for part in text.split(",")[4:]]
    assert sum(runs) == pixels.size
    assert all(runs[1:]), "only the first run may be empty"


@given(mask=MASKS)
@settings(max_examples=50, deadline=None)
def test_a_trimmed_mask_is_the_same_in_its_image(mask: np.ndarray) -> None:
    patch = trim(mask)
    height, width = mask.shape
    np.testing.assert_array_equal(whole_mask(patch, width, height), mask)
    if patch.pixels.size:
        assert patch.pixels[0].any()
        assert patch.pixels[-1].any()
        assert patch.pixels[:, 0].any()
        assert patch.pixels[:, -1].any()


def test_run_lengths_by_hand() -> None:
    """Row by row, zeros first: .## / #.. -> 1 zero, 3 ones, 2 zeros; ## / ## begins with no zero."""
    assert format_region(Mask(np.array([[0, 1, 1], [1, 0, 0]], bool), 10, 20)) == "m10,20,3,2,1,3,2"
    assert format_region(Mask(np.ones((2, 2), bool))) == "m0,0,2,2,0,4"
    assert format_region(Mask(np.zeros((0, 0), bool))) == "m0,0,0,0,0"
    short = parse_region("m-1,2,4,1,1,2", "here")  # what is left out at the end is background
    assert isinstance(short, Mask)
    assert short.pixels.tolist() == [[False, True, True, False]]


def test_other_regions() -> None:
    assert parse_region("1.5,2,3,4", "") == Rectangle(1.5, 2, 3, 4)
    assert parse_region("0", "") == parse_region("nan,1,2,3", "") == parse_region("1,2,3,nan,5,6", "") == Special(0)
    polygon = parse_region("0,0,4,0,4,3.5", "")
    assert isinstance(polygon, Polygon)
    assert format_region(polygon) == "0.0000,0.0000,4.0000,0.0000,4.0000,3.5000"
    # float32 as TraX sends it: 100.98765432 is 100.98765564 there
    assert format_region(Rectangle(1.23456789, 100.98765432, 0, 5)) == "1.2346,100.9877,0.0000,5.0000"


def test_boxes_as_trax_converts_them() -> None:
    """Recorded with vot-trax 4.0.2: a mask's box counts its pixels, a polygon's is the distance of its corners."""
    inner = Mask(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], bool), 10, 20)
    assert box_of(inner).tolist() == [11, 21, 1, 1]
    assert box_of(Mask(np.ones((3, 5), bool), 10, 20)).tolist() == [10, 20, 5, 3]
    assert box_of(Polygon(np.array([[1, 2], [10.5, 2], [8, 9]], float))).tolist() == [1, 2, 9.5, 7]
    assert box_of(Rectangle(1.5, 2.25, 10.123456, 7)).tolist() == [1.5, 2.25, 10.123499870300293, 7]
    assert box_of(Special(0)).tolist() == box_of(Mask(np.zeros((2, 2), bool))).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "no region"),
        ("7", "no region"),
        ("1,2,3", "no region"),
        ("1,2,x,4", "no region"),
        ("1,2,3,1e9", "beyond any image"),
        ("m1,2,3", "no mask"),
        ("m1,2,3,4,-1", "no mask"),
        ("m1,2,3,4,1.5", "no mask"),
        ("m0,0,2,2,0,5", "run lengths of 5 pixels"),
        ("m0,0,999999999,999999999,0", "beyond any image"),
        ("m0,0,2,2," + "1," * LARGEST_LINE, "too many"),
    ],
)
def test_damaged_lines_are_named(line: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "groundtruth.txt"
    file.write_text(f"1,2,3,4\n{line}\n1,2,3,4\n")
    with pytest.raises(ValueError, match=r"groundtruth\.txt, line 2: ") as caught:
        read_regions(file)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_an_empty_file_and_none(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(ValueError, match=r"empty\.txt is empty"):
        read_regions(tmp_path / "empty.txt")
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        read_regions(tmp_path / "none.txt")
