"""The trackers to compare with, through the same protocol."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests.tracking.networks import write_nano, write_vit

from seqtrack_lit.boxes import iou
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.tracking.baselines import OpenCVTracker, StaticBox, baseline_files, make_baseline
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


@pytest.fixture(params=["nano", "vit"])
def with_network(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """The method and the folder of a network that finds the target."""
    {"nano": write_nano, "vit": write_vit}[request.param](tmp_path)
    return request.param, tmp_path


def test_networks_follow_and_repeat_themselves(with_network: tuple[str, Path], capfd: pytest.CaptureFixture) -> None:
    method, folder = with_network
    video = smooth_video(15)
    tracker = make_baseline(method, files=folder)
    first, second = run_tracker(tracker, video), run_tracker(tracker, video)
    np.testing.assert_array_equal(first.boxes, second.boxes)
    assert overlap(first.boxes, video.boxes) > 0.6 > overlap(run_tracker(StaticBox(), video).boxes, video.boxes)
    assert (first.confidences[1:] > 0.3).all()
    assert (first.confidences <= 1).all()
    assert capfd.readouterr().err == ""


def test_a_network_on_boxes_it_would_not_take(with_network: tuple[str, Path]) -> None:
    video = smooth_video(4)
    for box in ([159.5, 119.5, 1, 1], [-30, -20, 31, 21], [0, 0, 160, 120]):
        track = run_tracker(
            make_baseline(with_network[0], files=with_network[1]),
            Video("odd", video.frames, np.array([box], float), np.ones(1, bool)),
        )
        np.testing.assert_array_equal(track.boxes[0], box)
        assert np.isfinite(track.boxes).all()


def test_a_network_that_finds_nothing_has_no_confidence(tmp_path: Path) -> None:
    write_vit(tmp_path)
    video = smooth_video(3)
    tracker = make_baseline("vit", files=tmp_path)
    tracker.init(video.frames[0], video.boxes[0])
    lost = tracker.update(np.full_like(video.frames[0], 255))
    np.testing.assert_array_equal(lost.box_xywh, video.boxes[0])
    assert lost.confidence == 0


def test_files_of_networks(tmp_path: Path) -> None:
    assert baseline_files("csrt", None) == {}
    with pytest.raises(
        FileNotFoundError, match=r"baseline=vit: give baseline_files=FOLDER .*_vittrack_2023sep.onnx of"
    ):
        make_baseline("vit")
    with pytest.raises(FileNotFoundError, match=r"gone: no such folder; take nanotrack_backbone_sim.onnx and"):
        make_baseline("nano", files=tmp_path / "gone")
    (tmp_path / "v2.backbone.onnx").write_bytes(b"no network")
    with pytest.raises(FileNotFoundError, match=r"holds no \*head\*.onnx; take .*HonglinChu/SiamTrackers"):
        make_baseline("nano", files=tmp_path)
    (tmp_path / "v2.head.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"OpenCV cannot read .*v2.head.onnx as nano: Failed to parse ONNX model"):
        make_baseline("nano", files=tmp_path)
    (tmp_path / "head_sim.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"several \*head\*.onnx \(head_sim.onnx, v2.head.onnx\); keep one"):
        make_baseline("nano", files=tmp_path)
