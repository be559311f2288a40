"""The trackers to compare with, through the same protocol."""

import cv2
import numpy as np
import pytest
import torch

from seqtrack_lit.boxes import iou
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.tracking.baselines import OpenCVTracker, StaticBox, make_baseline
from seqtrack_lit.tracking.tracker import Tracker, run_tracker


def smooth_video(frames: int, shape: tuple[int, int] = (120, 160)) -> Video:
    """A red square with a green half moving 2 px a frame over smooth noise."""
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.integers(0, 255, (*shape, 3), dtype=np.uint8), (0, 0), 2)
    images, boxes = [], []
    for index in range(frames):
        image = ground.copy()
        x, y = 30 + 2 * index, 40 + index
        image[y : y + 24, x : x + 30] = (200, 30, 40)
        image[y + 4 : y + 12, x + 5 : x + 20] = (10, 240, 40)
        images.append(image)
        boxes.append([x, y, 30, 24])
    return Video("smooth", images, np.array(boxes, float), np.ones(frames, bool))


def overlap(boxes: np.ndarray, truth: np.ndarray) -> float:
    return float(iou(torch.from_numpy(boxes), torch.from_numpy(truth)).mean())


def test_the_static_box_stays() -> None:
    video = smooth_video(5)
    track = run_tracker(StaticBox(), video)
    assert (track.boxes == video.boxes[0]).all()


@pytest.mark.parametrize("method", ["kcf", "csrt"])
def test_opencv_follows_and_repeats_itself(method: str) -> None:
    video = smooth_video(15)
    first, second = (run_tracker(make_baseline(method), video).boxes for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert overlap(first, video.boxes) > 0.7 > overlap(run_tracker(StaticBox(), video).boxes, video.boxes)


@pytest.mark.parametrize("method", ["kcf", "csrt"])
def test_fractions_of_pixels_are_carried_along(method: str) -> None:
    video = smooth_video(3)
    video.boxes[0] = [29.6, 40.3, 30.25, 24.5]
    track = run_tracker(make_baseline(method), video)
    if method == "kcf":  # it never changes the size
        np.testing.assert_allclose(track.boxes[:, 2:], [[30.25, 24.5]] * 3)
    assert np.abs(track.boxes[1] - track.boxes[0]).max() < 8


@pytest.mark.parametrize("method", ["kcf", "csrt"])
@pytest.mark.parametrize(
    "box",
    [[30, 40, 1, 1], [159.5, 119.5, 1, 1], [-30, -20, 31, 21], [0, 50, 160, 2], [70, 0, 3, 120], [0, 0, 160, 120]],
)
def test_boxes_opencv_would_not_take(method: str, box: list[float]) -> None:
    video = smooth_video(4)
    track = run_tracker(make_baseline(method), Video("odd", video.frames, np.array([box], float), np.ones(1, bool)))
    np.testing.assert_array_equal(track.boxes[0], box)
    assert np.isfinite(track.boxes).all()


def test_a_lost_target_keeps_its_last_box() -> None:
    video = smooth_video(6)
    black = np.zeros_like(video.frames[0])
    tracker = OpenCVTracker("kcf")
    tracker.init(video.frames[0], video.boxes[0])
    last = tracker.update(video.frames[1])
    lost = tracker.update(black)
    assert last.confidence == 1
    assert lost.confidence == 0
    np.testing.assert_array_equal(lost.box_xywh, last.box_xywh)


def test_a_box_without_size_is_a_lost_target() -> None:
    flat = np.full((200, 10, 3), 90, np.uint8)  # OpenCV's KCF answers 0 x 0 here
    tracker = OpenCVTracker("kcf")
    tracker.init(flat, np.array([4.2, 99.6, 7.1, 381.2]))
    for _ in range(3):
        estimate = tracker.update(flat)
        assert (estimate.box_xywh[2:] > 0).all()
    assert estimate.confidence == 0


@pytest.mark.parametrize("method", ["kcf", "csrt"])
def test_frames_of_changing_size(method: str) -> None:
    video = smooth_video(4)
    frames = [video.frames[0], video.frames[1], video.frames[2][::2, ::2].copy(), video.frames[3].repeat(2, 0)]
    track = run_tracker(make_baseline(method), Video("sizes", frames, video.boxes, video.visible))
    assert np.isfinite(track.boxes).all()


def test_all_are_trackers() -> None:
    assert all(isinstance(make_baseline(name), Tracker) for name in ("static", "kcf", "csrt"))
