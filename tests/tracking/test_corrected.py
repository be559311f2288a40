"""Corrections: boxes by hand stay, both directions are merged, backwards without keeping a film in memory."""

import numpy as np
import pytest

from seqtrack_lit.tracking.corrected import Pass, Step, backwards, follow, merge, smoothed, track_backwards
from seqtrack_lit.tracking.tracker import Estimate


def moved(box: np.ndarray, by: float) -> np.ndarray:
    return box + np.array([by, 0, 0, 0])


class Drifting:
    """Moves its box by `step` pixels a frame, and is less sure from frame to frame."""

    name = "drifting"

    def __init__(self, step: float) -> None:
        self.step, self.starts = step, list[int]()

    def init(self, image: np.ndarray, box_xywh: np.ndarray) -> None:
        self.box, self.confidence = box_xywh.copy(), 1.0
        self.starts.append(int(image[0, 0, 0]))

    def update(self, image: np.ndarray) -> Estimate:
        self.box, self.confidence = moved(self.box, self.step), self.confidence * 0.9
        return Estimate(self.box.copy(), self.confidence, lost=self.confidence < 0.5)


def frames(count: int) -> list[np.ndarray]:
    """Pictures whose first value is their number."""
    return [np.full((8, 8, 3), number, np.uint8) for number in range(count)]


BOX = np.array([10.0, 10, 20, 20])


def both(given: list[dict[int, np.ndarray]], count: int, step: float = 1.0) -> tuple[Pass, list[Drifting]]:
    trackers = [Drifting(step) for _ in given]
    forward = Pass(len(given), count)
    for one in follow(trackers, enumerate(frames(count)), given):
        forward.add(one)
    return track_backwards(trackers, frames(count), given, forward), trackers


def test_corrections_stay_and_each_side_is_tracked_from_its_own() -> None:
    """The target stands still, and the tracker drifts away from each correction."""
    merged, (tracker,) = both([{2: BOX, 8: BOX}], 12)
    assert tracker.starts == [2, 8, 8, 2]
    np.testing.assert_array_equal(merged.boxes[0, [2, 8]], [BOX, BOX])
    x = merged.boxes[0, :, 0] - 10
    np.testing.assert_allclose(x[:2], [2, 1])  # backwards from frame 2
    np.testing.assert_allclose(x[9:], [1, 2, 3])  # forwards from frame 8
    # forwards 1 2 3 4 5, backwards 5 4 3 2 1: 1 * 5/6 + 5 * 1/6 = 10/6, 2 * 4/6 + 4 * 2/6 = 16/6, 3; then smoothed
    rough = np.array([0, 10, 16, 18, 16, 10, 0]) / 6
    np.testing.assert_allclose(x[3:8], (rough[:-2] + 2 * rough[1:-1] + rough[2:]) / 4)
    assert merged.confidences[0, [2, 8]].tolist() == [1, 1]
    assert np.isfinite(merged.boxes).all()


def test_where_both_disagree_one_is_taken() -> None:
    """Forwards is lost from frame 3 on: the cut lies there, and nothing is mixed."""
    forward, backward, merged = (Pass(1, 9) for _ in range(3))
    for place in range(9):
        right = moved(BOX, place)
        wrong = Estimate(right if place < 3 else moved(right, 500), 0.9 if place < 3 else 0.1)
        forward.add(Step(place, frames(1)[0], [wrong], 0.0))
        backward.add(Step(place, frames(1)[0], [Estimate(right, 0.9)], 0.0))
    merge(forward, backward, merged, 0, slice(0, 9))
    np.testing.assert_allclose(merged.boxes[0, :, 0], 10 + np.arange(9))
    np.testing.assert_allclose(merged.confidences[0], 0.9)


def test_smoothing_takes_half_of_what_sticks_out_and_leaves_what_is_given_or_jumps() -> None:
    straight = np.array([moved(BOX, 2 * place) for place in range(9)])
    np.testing.assert_allclose(smoothed(straight, []), straight)
    noisy = straight.copy()
    noisy[4, 0] += 4
    # the one beside it has a quarter of the 4 pixels, the ends none
    np.testing.assert_allclose(smoothed(noisy, [])[:, 0] - straight[:, 0], [0, 0, 0, 1, 2, 1, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(smoothed(noisy, [4])[:, 0] - straight[:, 0], [0, 0, 0, 1, 4, 1, 0, 0, 0], atol=1e-9)
    larger = np.array([[20.0, 20, 20, 20], [10, 10, 40, 40], [20, 20, 20, 20]])  # IoU .25 with its neighbours
    np.testing.assert_array_equal(smoothed(larger, []), larger)
    larger[1] = [18, 18, 24, 24]
    # half of the logarithm of 24 / 20
    np.testing.assert_allclose(smoothed(larger, [])[1, 2:], 20 * np.sqrt(1.2))
    for short in (straight[:1], straight[:2]):
        np.testing.assert_array_equal(smoothed(short, [0]), short)


def test_boxes_in_every_frame_need_no_tracker() -> None:
    given = {place: moved(BOX, place) for place in range(6)}
    merged, (tracker,) = both([given], 6)
    assert tracker.starts == [5, 0]  # at the ends, where more frames could follow
    np.testing.assert_array_equal(merged.boxes[0], list(given.values()))


def test_targets_have_corrections_of_their_own() -> None:
    merged, trackers = both([{0: BOX}, {5: BOX}, {1: BOX, 2: BOX}], 8)
    assert [tracker.starts for tracker in trackers] == [[0, 0], [5, 5], [2, 1]]
    assert np.isfinite(merged.boxes).all()
    np.testing.assert_allclose(merged.boxes[0, :, 0] - 10, np.arange(8))
    np.testing.assert_allclose(merged.boxes[1, :, 0] - 10, [5, 4, 3, 2, 1, 0, 1, 2])
    assert merged.lost[1].tolist() == [False] * 8
    assert both([{0: BOX}], 12)[0].lost[0].tolist() == [False] * 7 + [True] * 5  # 0.9 ** 7 = .48


def test_frames_are_read_forwards_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    class Film(list[np.ndarray]):
        def __getitem__(self, place: int) -> np.ndarray:  # type: ignore[override]
            order.append(place)
            return super().__getitem__(place)

    order: list[int] = []
    film = Film(frames(30))
    found = list(backwards(film, 20))
    assert [place for place, _ in found] == list(range(20, -1, -1))
    assert all(image[0, 0, 0] == place for place, image in found)
    monkeypatch.setattr("seqtrack_lit.tracking.corrected._BLOCK", 1)  # blocks of 8
    order.clear()
    assert [place for place, _ in backwards(film, 20)] == list(range(20, -1, -1))
    assert order[1:] == [*range(13, 21), *range(5, 13), *range(5)]
