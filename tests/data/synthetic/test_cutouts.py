"""Boxes of painted objects: known shapes at known places."""

import math

import numpy as np
import pytest

from seqtrack_lit.data.synthetic.pictures.camera import cut_off, photograph
from seqtrack_lit.data.synthetic.pictures.cutouts import (
    Appearance,
    Change,
    Cutout,
    blob,
    covered,
    draw_appearance,
    draw_change,
    paint,
    place,
)

PLAIN = Appearance(0.0, 0.0, False, np.ones(3, np.float32), 0.0, False, False)
STILL = Change(0.0, 0.0, 0.0, False, 0.0)


def slab(width, height, color=200):
    """A full rectangle with a clear rim, so that its edges are interpolated."""
    picture = np.zeros((height + 2, width + 2, 4), np.uint8)
    picture[1:-1, 1:-1] = [color, color, color, 255]
    return Cutout(picture)


def painted(cutout, appearance=PLAIN, change=STILL, *, size, center, side=140, seed=0):
    canvas = np.zeros((side, side, 3), np.float32)
    placed = place(cutout, appearance, change, np.random.default_rng(seed), size=size, center=np.asarray(center, float))
    return canvas, paint(canvas, placed), placed


def test_the_box_of_alpha_lies_where_it_crosses_one_half():
    alpha = np.zeros((4, 6), np.float32)
    alpha[1, 2:5] = [
        0.25,
        1,
        0.75,
    ]  # crosses 0.5 a third of the way from 2.5 to 3.5; and two thirds from 4.5 to 5.5 ...
    left, top, right, bottom = covered(alpha)
    assert left == pytest.approx(2.5 + 1 / 3)
    assert right == pytest.approx(4.5 + 1 / 3)  # 0.75 falls to 0 over one pixel: 0.25 / 0.75 of the way
    assert (top, bottom) == pytest.approx((1.0, 2.0))  # 1 falls to 0: half a pixel beyond the centre of row 1


def test_alpha_at_the_rim_of_the_canvas_ends_there_and_faint_alpha_has_no_box():
    assert covered(np.ones((3, 5), np.float32)).tolist() == [0, 0, 5, 3]
    assert covered(np.full((3, 5), 0.4, np.float32)) is None


@pytest.mark.parametrize("center", [(70, 70), (70.5, 69.5), (61.3, 80.2)])
def test_a_rectangle_of_its_own_size_is_painted_where_it_should_be(center):
    _, done, _ = painted(slab(50, 32), size=40, center=center)  # 50 x 32 has sqrt(w h) = 40: one pixel is one pixel
    x, y = center
    np.testing.assert_allclose(
        done.box, [x - 25, y - 16, x + 25, y + 16], atol=0.1
    )  # alpha is read at steps of 1/32 pixel


def test_pixels_lie_in_the_box():
    canvas, _, _ = painted(slab(50, 32), size=40, center=(70, 70))
    rows, columns = np.nonzero(canvas[..., 0] > 100)
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (45, 95, 54, 86)


def test_a_square_on_its_corner_is_wider_by_the_square_root_of_two():
    _, done, placed = painted(slab(60, 60), PLAIN._replace(angle=math.pi / 4), size=56, center=(70, 70))
    np.testing.assert_allclose(placed.box, [42, 42, 98, 98], atol=0.5)  # of the outline: whole pixels of the picture
    np.testing.assert_allclose(done.box, [42, 42, 98, 98], atol=1.6)  # alpha 1/2 rounds the corners off


def test_a_bent_object_keeps_its_size_and_its_box_is_that_of_its_alpha():
    change = Change(0.3, 0.2, 0.1, True, 0.1)
    canvas, done, _ = painted(slab(50, 32), change=change, size=50, center=(70, 70))
    rows, columns = np.nonzero(canvas[..., 0] > 100)
    np.testing.assert_allclose(done.box, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], atol=1)
    width, height = done.box[2:] - done.box[:2]
    assert math.sqrt(width * height) == pytest.approx(50, abs=1.5)


def test_what_reaches_over_the_canvas_ends_at_it_and_what_lies_outside_is_not_painted():
    _, done, placed = painted(slab(50, 32), size=40, center=(5, 70))
    assert done.box[0] == 0
    assert placed.box[0] == pytest.approx(-20, abs=0.6)
    assert painted(slab(50, 32), size=40, center=(-60, 70))[1] is None


def test_small_objects_are_averaged_not_sampled():
    picture = np.zeros((256, 256, 4), np.uint8)
    picture[..., 3] = 255
    picture[::2, :, :3] = 250  # stripes of one pixel: grey from afar
    canvas, _, _ = painted(Cutout(picture), size=20, center=(70, 70))
    inside = canvas[63:77, 63:77, 0]
    assert inside.mean() == pytest.approx(125, abs=3)
    assert inside.std() < 5


@pytest.mark.parametrize("seed", range(6))
def test_the_picture_ends_at_the_box_it_cuts(seed):
    canvas, box = np.full((140, 140, 3), 9, np.float32), np.array([50.0, 60, 90, 80])
    kept = cut_off(canvas, box, np.random.default_rng(seed), 1.0)
    shown = np.argwhere((canvas == 9).all(-1))
    (top, left), (bottom, right) = shown.min(0), shown.max(0) + 1
    np.testing.assert_allclose(kept, np.clip(box, [left, top, left, top], [right, bottom, right, bottom]))
    assert (right - left == 140) != (bottom - top == 140) or kept is box or (kept == box).all()
    assert min(kept[2:] - kept[:2]) > 0


def test_a_camera_gives_pixels_and_draws_from_its_generator_only():
    canvas = np.random.default_rng(1).uniform(-20, 280, (70, 70, 3)).astype(np.float32)
    for seed in range(20):
        first, second = (photograph(canvas.copy(), np.random.default_rng(seed)) for _ in range(2))
        assert first.dtype == np.uint8
        assert (first == second).all()


@pytest.mark.parametrize("seed", range(9))
def test_shapes_touch_all_sides(seed):
    mask = blob(np.random.default_rng(seed), 50, 30)
    assert mask.shape == (30, 50)
    assert mask[0].any() and mask[-1].any() and mask[:, 0].any() and mask[:, -1].any()  # noqa: PT018


def test_looks_and_changes_are_of_the_generator():
    rng, same = np.random.default_rng(3), np.random.default_rng(3)
    assert repr((draw_appearance(rng), draw_change(rng))) == repr((draw_appearance(same), draw_change(same)))
