"""Geometry and colours of a sample; crops and boxes against recorded outputs of the official training code."""

import pickle
import random
from pathlib import Path

import albumentations
import cv2
import numpy as np
import pytest
import torch

from seqtrack_lit.boxes import cxcywh_to_xywh
from seqtrack_lit.crops import Crop, ImagePart, Padding
from seqtrack_lit.data.samples.augment import (
    Augmentation,
    CropSettings,
    Jitter,
    JitterSchedule,
    SharedAugmentation,
    brightness,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "model" / "train" / "golden.npz"


def test_crops_and_boxes_are_the_official_ones() -> None:
    golden = np.load(GOLDEN)
    frames, gt, jittered = golden["frames"], golden["gt"].astype(np.float64), golden["jittered"].astype(np.float64)
    crops = CropSettings(search_size=96, template_size=96, padding="official")
    for sample, t in enumerate(golden["search_frame_ids"]):
        crop = crops.search(jittered[sample])
        assert np.array_equal(crops.cut(crop, frames[t]), golden["search_crops"][sample])
        assert crop.scale == pytest.approx(golden["resize_factors"][sample], abs=1e-12)
        found = cxcywh_to_xywh(crops.to_crop(crop, gt[[sample]]))[0]
        assert found.numpy() == pytest.approx(golden["norm_boxes"][sample], abs=2e-6)
        for number, times in enumerate(golden["template_frame_ids"]):
            template = crops.template(golden["template_boxes"][number, sample])
            expected = golden["template_crops"][number, sample]
            assert np.array_equal(crops.cut(template, frames[times[sample]]), expected)


def test_shared_flip_moves_the_target_with_its_pixels() -> None:
    # a white rectangle over the pixels x = 2..4, y = 1..2 of a picture 10 wide: box 2, 1, 3, 2
    image = np.zeros((6, 10, 3), np.uint8)
    image[1:3, 2:5] = 255
    shared = SharedAugmentation(grayscale=False, flip=True)
    # side 10, of which 2 rows above and below the image are black, at a size that changes no pixel
    flipped = CropSettings().cut(Crop((5.0, 3.0), 10, 10), shared.image(image), mirrored=shared.flip)[2:8]
    y, x = np.nonzero(flipped[..., 0])
    # mirrored: pixel x goes to 9 - x, so 5..7; the box is 10 - 2 - 3 = 5, 1, 3, 2
    assert (x.min(), x.max(), y.min(), y.max()) == (5, 7, 1, 2)
    box = np.array([[2.0, 1, 3, 2]])
    assert shared.boxes(box, 10).tolist() == [[5, 1, 3, 2]]
    assert shared.boxes(box, 10, 1.0).tolist() == [[4, 1, 3, 2]]  # official: one pixel too far left
    assert box.tolist() == [[2, 1, 3, 2]]
    assert SharedAugmentation(grayscale=False, flip=False).boxes(box, 10) is box


@pytest.mark.parametrize("padding", ["exact", "official"])
def test_a_mirrored_cut_is_a_cut_of_the_mirrored_image(padding: Padding) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 90, 3), np.uint8)
    for _ in range(100):
        crop = Crop((rng.uniform(-10, 100), rng.uniform(-10, 70)), int(rng.integers(1, 150)), 48)
        expected = crop.cut(np.ascontiguousarray(image[:, ::-1]), padding=padding)
        assert np.array_equal(crop.cut(image, padding=padding, mirrored=True), expected)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_crop_of_a_reduced_image_lies_where_it_should(factor: int, mirrored: bool) -> None:
    y, x = np.mgrid[:240, :320]
    image = np.stack([x * 0.7, y, 128 + 60 * np.sin(x / 40)], 2).astype(np.uint8)  # changes slowly along both axes
    pixels = cv2.resize(image, (320 // factor, 240 // factor), interpolation=cv2.INTER_AREA)
    reduced = ImagePart(pixels, (0, 0, 320, 240), (240, 320, 3))
    for center in ((160.0, 120.0), (101.3, 90.8), (-20.0, 200.0)):
        crop = Crop(center, 130, 32)
        exact, other = (crop.cut(one, mirrored=mirrored).astype(int) for one in (image, reduced))
        inner = (exact > 0).all(2) & (other > 0).all(2)  # its edge is a pixel softer
        assert np.median(np.abs(exact - other)[inner]) <= 1  # a shift of one pixel would be 3 to 4
        assert abs((exact > 0).mean() - (other > 0).mean()) < 0.05


def test_how_far_a_frame_may_be_reduced() -> None:
    crops = CropSettings(search_size=100)
    sides = {99: 1, 199: 1, 200: 2, 399: 2, 400: 4, 1000: 8}
    assert {side: crops.reduction([Crop((0.0, 0.0), side, 100)]) for side in sides} == sides
    assert crops.reduction([Crop((0.0, 0.0), 900, 100), Crop((0.0, 0.0), 250, 100)]) == 2


def test_grey_keeps_three_channels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    grey = SharedAugmentation(grayscale=True, flip=False).image(image)
    assert grey.shape == image.shape
    assert np.array_equal(grey[..., 0], grey[..., 1])
    # BT.601 luma: .299 R + .587 G + .114 B
    assert np.abs(grey[..., 0] - image @ [0.299, 0.587, 0.114]).max() <= 1


def test_distribution_of_grey_flip_and_crop_flip() -> None:
    rng, augmentation = np.random.default_rng(0), Augmentation(crop_flip=0.25)
    drawn = np.array([augmentation.shared(rng) for _ in range(8000)])
    assert drawn.mean(0) == pytest.approx([0.05, 0.5], abs=0.02)
    crop, boxes = np.arange(12, dtype=np.uint8).reshape(2, 2, 3), torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    flipped = 0
    for _ in range(2000):
        image, moved = augmentation.crop(crop, boxes.clone(), rng)
        mirrored = bool(image[0, 0, 0] == 3)  # the second pixel's red came first
        torch.testing.assert_close(moved, torch.tensor([[0.9 if mirrored else 0.1, 0.2, 0.3, 0.4]]))
        flipped += mirrored
    assert flipped / 2000 == pytest.approx(0.25, abs=0.03)


def test_distribution_of_the_jitter() -> None:
    rng, box = np.random.default_rng(0), np.array([40.0, 30, 20, 10])
    drawn = np.stack([Jitter(3.5, 0.5).apply(box, rng) for _ in range(8000)])
    scale = np.log(drawn[:, 2:] / box[2:])
    assert scale.mean(0) == pytest.approx([0, 0], abs=0.02)
    assert scale.std(0) == pytest.approx([0.5, 0.5], abs=0.02)
    # centres are uniform within +-1.75 of the jittered size about the centre 50, 35: standard deviation 1.75 / sqrt(3)
    offset = (drawn[:, :2] + drawn[:, 2:] / 2 - (50, 35)) / np.sqrt(drawn[:, 2:].prod(1, keepdims=True))
    assert 1.7 < np.abs(offset).max() <= 1.75
    assert offset.std(0) == pytest.approx([1.0104, 1.0104], abs=0.02)
    assert Jitter(0.0, 0.0).apply(box, rng).tolist() == box.tolist()


def test_the_jitter_follows_its_schedule() -> None:
    tiny = JitterSchedule(2.6, 0.5, 1.3, 0.2, begin=0.5, finish=0.8)
    # half way between .5 and .8 stands the middle of 2.6 and 1.3, and of .5 and .2
    assert [tiny.at(p) for p in (0.0, 0.5, 0.65, 0.8, 1.0)] == [
        Jitter(2.6, 0.5), Jitter(2.6, 0.5), Jitter(1.95, 0.35), Jitter(1.3, 0.2), Jitter(1.3, 0.2),
    ]  # fmt: skip
    assert JitterSchedule().at(0.9) == JitterSchedule().at(0.0) == Jitter(3.5, 0.5)
    assert JitterSchedule(1.0, 0.1, 2.0, begin=0.5, finish=0.5).at(0.5) == Jitter(2.0, 0.1)


def test_brightness_is_a_pure_function_of_the_generator() -> None:
    augmentation = pickle.loads(pickle.dumps(Augmentation(photometric=brightness())))  # as a worker gets it
    image = np.full((4, 4, 3), 100, np.uint8)
    levels = []
    for seed in range(300):
        colors = augmentation.colors(np.random.default_rng(seed))
        levels.append([int(colors(image)[0, 0, 0]) for _ in range(2)])
        assert len(np.unique(colors(image))) == 1
    assert np.min(levels) >= 80
    assert np.max(levels) <= 120
    assert np.mean(levels) == pytest.approx(100, abs=1)
    assert np.std(levels) == pytest.approx(40 / np.sqrt(12), abs=1)
    assert np.mean([a != b for a, b in levels]) > 0.9  # each crop on its own
    again = augmentation.colors(np.random.default_rng(7))
    assert [int(again(image)[0, 0, 0]) for _ in range(2)] == levels[7]
    assert (augmentation.colors(np.random.default_rng(0))(np.full((2, 2, 3), 255, np.uint8)) >= 204).all()  # clamped


def test_brightness_is_that_of_albumentations() -> None:
    noise = albumentations.MultiplicativeNoise(multiplier=(0.8, 1.2), per_channel=False, elementwise=False, p=1.0)
    ours, theirs = brightness(), albumentations.Compose([noise], strict=True)
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, 2)
    for seed in range(200):
        for transform in (ours, theirs):
            transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
        for _ in range(2):
            assert np.array_equal(ours(image=image)["image"], theirs(image=image)["image"])


def test_channel_gain_is_about_mid_grey() -> None:
    rng = np.random.default_rng(0)
    image = np.full((2, 2, 3), 40, np.uint8)
    assert Augmentation().gain(image, rng) is image
    drawn = np.stack([Augmentation(channel_gain=0.2).gain(image, rng)[0, 0] for _ in range(4000)]).astype(float)
    # mid-grey is 255 * .449 = 114.5; 40 is 74.5 below it, so the standard deviation is .2 * 74.5 = 14.9
    assert drawn.mean(0) == pytest.approx([40, 40, 40], abs=1)
    assert drawn.std(0) == pytest.approx([14.9] * 3, abs=1)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.1


def test_a_window_that_shows_nothing_is_an_error() -> None:
    crops, image = CropSettings(16, 16), np.zeros((20, 30, 3), np.uint8)
    inside = crops.search(np.array([-8.0, 5, 4, 4]))  # window of 16 about -6, 7: reaches to x = 2
    assert crops.cut(inside, image).shape == (16, 16, 3)
    with pytest.raises(ValueError, match=r"window of 16 px around -8\.0, 7\.0 shows nothing"):
        crops.cut(crops.search(np.array([-10.0, 5, 4, 4])), image)  # reaches to x = 0
    with pytest.raises(ValueError, match="width and height must be > 0"):
        crops.search(np.array([1.0, 5, 0, 4]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CropSettings(search_size=0), "data.crops.search_size"),
        (lambda: CropSettings(template_factor=0.0), "data.crops.template_factor"),
        (lambda: Augmentation(flip=1.5), "data.augmentation.flip must be a number >= 0 and <= 1, got 1.5"),
        (lambda: Augmentation(channel_gain=-1.0), "data.augmentation.channel_gain"),
        (lambda: brightness(1.2, 0.8), "photometric needs 0 <= low <= high"),
        (lambda: JitterSchedule(center=-1.0), "data.jitter.center"),
        (lambda: JitterSchedule(begin=0.9, finish=0.5), "begin <= finish"),
    ],
)
def test_wrong_values(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "allowed"), [("padding", "exact, official"), ("normaliser", "S, S-1"), ("decode", "exact, fast")]
)
def test_wrong_names(name: str, allowed: str) -> None:
    crops = CropSettings()
    object.__setattr__(crops, name, "none")  # the constructor's own types are checked in tests
    with pytest.raises(ValueError, match=f"data.crops.{name} must be one of {allowed}, got 'none'"):
        crops.__post_init__()


def test_a_misspelt_photometric_argument_is_an_error() -> None:
    with pytest.raises(TypeError):
        brightness(lo=0.5)  # type: ignore[call-arg]
