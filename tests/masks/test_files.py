"""Masks as run lengths, as PNG and on frames; the rectangle."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from tests.masks.rle import decode_rle

from seqtrack_lit.masks import make_refiner
from seqtrack_lit.masks.output import MaskWriter, encode_rle
from seqtrack_lit.masks.refiner import MaskRefiner, Refined
from seqtrack_lit.pictures import draw_masks


def blocks(height: int, width: int) -> np.ndarray:
    """Two rectangles and a far pixel, so that runs grow and shrink by more than a digit."""
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2, width // 5 : width // 2] = True
    mask[height // 3 :, -2] = True
    mask[-1, -1] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "counts"),
    [
        (np.zeros((3, 4), bool), "<"),
        (np.ones((3, 4), bool), "0<"),
        (np.array([[0, 1, 1], [1, 1, 0]], bool), "141"),
        (blocks(40, 61), "Z?:n" + "0" * 34 + "[T1a0nkNVO"),
        (blocks(200, 300), "bh;b1f4" + "0" * 177 + "`ml0d2QTSOkK"),
        (np.indices((5, 7)).sum(0) % 2 == 1, "111" + "0" * 32),
    ],
)
def test_run_lengths_are_those_of_pycocotools(mask: np.ndarray, counts: str) -> None:
    assert encode_rle(mask) == {"size": list(mask.shape), "counts": counts}
    np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=70), elements=st.booleans(), fill=st.booleans()))
def test_run_lengths_give_the_mask_back(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)
    np.testing.assert_array_equal(decode_rle(encode_rle(mask.T)), mask.T)  # another order in memory


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ([3, 2, 4, 5], slice(2, 7), slice(3, 7)),
        ([2.5, 1.5, 4, 5], slice(2, 6), slice(2, 6)),  # 2.5 and 6.5 to the even 2 and 6, 1.5 to 2
        ([-3, -2, 5, 4], slice(0, 2), slice(0, 2)),
        ([8, 7, 90, 90], slice(7, 10), slice(8, 12)),
        ([40, 40, 5, 5], slice(0, 0), slice(0, 0)),
        ([-40, 3, 5, 5], slice(0, 0), slice(0, 0)),
    ],
)
def test_the_rectangle_is_rounded_and_clipped(box: list[float], rows: slice, columns: slice) -> None:
    expected = np.zeros((10, 12), bool)
    expected[rows, columns] = True
    refiner = make_refiner("rectangle")
    assert isinstance(refiner, MaskRefiner)
    refined = refiner.refine(np.zeros((10, 12, 3), np.uint8), np.array(box, np.float64))
    np.testing.assert_array_equal(refined.mask, expected)
    assert refined.score is None


def test_masks_are_tinted_and_outlined() -> None:
    image = np.full((20, 30, 3), 100, np.uint8)
    mask = np.zeros((20, 30), bool)
    mask[5:15, 10:20] = True
    drawn = draw_masks(image, [mask], [(200, 0, 100)])
    assert drawn[5, 10].tolist() == [200, 0, 100]
    assert drawn[9, 14].tolist() == [145, 55, 100]  # .55 of 100 and .45 of the colour
    assert (drawn[~mask] == 100).all()
    assert (image == 100).all()


def test_pictures_and_results_of_two_targets(tmp_path: Path) -> None:
    """The second target lies on top; pictures of an earlier, longer result go, other files stay."""
    folder = tmp_path / "clip_tracked_masks"
    folder.mkdir()
    for name in ("000000.png", "000007.png", "notes.txt"):
        (folder / name).write_text("old")
    masks = [np.zeros((6, 8), bool) for _ in range(2)]
    masks[0][:4, :4] = masks[1][2:, 2:] = True
    writer = MaskWriter(tmp_path / "clip_tracked", [(240, 228, 66), (86, 180, 233)])
    boxes = [[0.0, 0.0, 4.0, 4.0], [2.0, 2.0, 6.0, 4.0]]
    for frame in range(2):
        writer.write(frame, [Refined(masks[0]), Refined(masks[1], 0.25)], boxes, [0.5, 0.75])
    writer.close()
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000001.png", "notes.txt"]
    with Image.open(folder / "000001.png") as picture:
        labels, colors = np.asarray(picture), np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(labels, np.where(masks[1], 2, masks[0]))
    assert colors[0, 0].tolist() == [240, 228, 66]
    assert colors[5, 7].tolist() == [86, 180, 233]
    assert colors[0, 7].tolist() == [0, 0, 0]
    rows = json.loads((tmp_path / "clip_tracked_masks.json").read_text())
    assert [(row["image_id"], row["track_id"], row["score"]) for row in rows] == [
        *((0, 0, 0.5), (0, 1, 0.25)),
        *((1, 0, 0.5), (1, 1, 0.25)),
    ]
    assert rows[1]["bbox"] == boxes[1]
    np.testing.assert_array_equal(decode_rle(rows[1]["segmentation"]), masks[1])
