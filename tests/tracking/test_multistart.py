"""VOT's experiments: which frames a tracker sees, where its answers go, and what a stopped run costs."""

from pathlib import Path

import numpy as np
import pytest
from tests.campaign.weights import ours
from tests.data.vot import make_vot

from seqtrack_lit.data.sets.vot import vot2020
from seqtrack_lit.data.video.regions import Rectangle
from seqtrack_lit.evaluation.vot_results import read_trajectory
from seqtrack_lit.masks.refiner import RectangleRefiner
from seqtrack_lit.tracking.baselines import StaticBox
from seqtrack_lit.tracking.benchmark import run_benchmark
from seqtrack_lit.tracking.multistart import Experiment, Realtime, Trajectories
from seqtrack_lit.tracking.seqtrack import load_seqtrack


@pytest.mark.parametrize(
    ("seconds", "fps", "grace", "frames", "seen"),
    [  # recorded with RealtimeTrackerRuntime of vot-toolkit 0.7.4
        (0.01, 30, 3, 12, list(range(12))),
        (0.05, 30, 3, 14, list(range(14))),  # late, but by less than an interval
        (0.1, 30, 3, 20, [0, 1, 2, 3, 6, 9, 12, 15, 18]),
        (0.1, 30, 0, 14, [0, 3, 6, 9, 12]),
        (0.1, 20, 1, 12, list(range(12))),
        (0.25, 20, 3, 24, [0, 1, 2, 3, 8, 13, 18, 23]),
    ],
)
def test_frames_that_a_slow_tracker_sees(seconds: float, fps: float, grace: int, frames: int, seen: list[int]) -> None:
    assert Realtime(seconds, grace).processed(frames, fps).tolist() == seen


def test_runs_as_videos(tmp_path: Path) -> None:
    make_vot(tmp_path, sequences=1, frames=24)
    index = vot2020(tmp_path, complete=False)
    runs = Experiment("baseline", index)
    assert runs.lengths == [24, 16, 17, 24]
    backwards = runs[2]
    np.testing.assert_array_equal(backwards.frames[3], index[0].frames[13])
    np.testing.assert_array_equal(backwards.boxes, index[0].boxes[16:17])
    assert (backwards.name, len(backwards)) == ("seq0_00000016", 17)
    slow = Experiment("realtime", index, Realtime(0.1))
    np.testing.assert_array_equal(slow[0].frames[5], index[0].frames[9])  # 0 1 2 3 6 9
    assert slow.lengths == [24, 16, 17, 24]


def test_missed_frames_have_the_box_before(tmp_path: Path) -> None:
    make_vot(tmp_path / "set", sequences=1, frames=24)
    index = vot2020(tmp_path / "set", complete=False)
    experiment = Experiment("realtime", index, Realtime(0.1))
    summary = run_benchmark(
        lambda device: Counter(), experiment, Trajectories(tmp_path / "out", experiment), show=False
    )
    assert summary.tracked == 4
    regions = read_trajectory(tmp_path / "out", experiment.runs[0])
    lefts = [region.x for region in regions if isinstance(region, Rectangle)]
    # frames 1 to 23 show the count of the last one that was seen: 1 2 3 . . 6 . . 9
    assert lefts == [1, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9]
    times = np.loadtxt(tmp_path / "out" / "seq0" / "seq0_00000000_time.value")
    assert np.flatnonzero(times).tolist() == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21]


class Counter(StaticBox):
    """Answers how often it was asked since the start, as a box."""

    def init(self, image: np.ndarray, box_xywh: np.ndarray) -> None:
        super().init(image, box_xywh)
        self.count = 0

    def update(self, image: np.ndarray):  # type: ignore[no-untyped-def]
        self.count += 1
        self.box = np.array([self.count, 0.0, 5.0, 5.0])
        return super().update(image)


def test_a_bad_run_costs_no_other_and_is_done_next_time(tmp_path: Path) -> None:
    make_vot(tmp_path / "set", sequences=2, frames=16)
    frame = tmp_path / "set" / "sequences" / "seq0" / "color" / "00000013.jpg"
    whole = frame.read_bytes()
    index = vot2020(tmp_path / "set", complete=False)
    experiment = Experiment("baseline", index)
    store = Trajectories(tmp_path / "out", experiment)
    frame.write_bytes(whole[:50])
    ours(tmp_path)
    tracker = load_seqtrack(tmp_path / "best.ckpt", device="cpu")
    first = run_benchmark(lambda device: tracker, experiment, store, show=False, batch=4)
    assert set(first.failed) == {"seq0_00000000", "seq0_00000015"}  # those that pass frame 12; 8 goes backwards
    assert all("00000013.jpg" in reason for reason in first.failed.values())
    frame.write_bytes(whole)
    second = run_benchmark(lambda device: tracker, experiment, store, show=False, batch=4)
    assert (second.tracked, second.found, second.failed) == (2, len(experiment) - 2, {})


def test_runs_in_a_batch_are_the_runs_alone(tmp_path: Path) -> None:
    make_vot(tmp_path / "set", sequences=1, frames=12, every=4)
    index = vot2020(tmp_path / "set", complete=False)
    ours(tmp_path)
    experiment, tracker = Experiment("baseline", index), load_seqtrack(tmp_path / "best.ckpt", device="cpu")
    for batch in (1, 3):
        run_benchmark(
            lambda device: tracker, experiment, Trajectories(tmp_path / str(batch), experiment), show=False, batch=batch
        )
    for run in experiment.runs:
        alone, together = (read_trajectory(tmp_path / str(batch), run) for batch in (1, 3))
        for one, other in zip(list(alone)[1:], list(together)[1:], strict=True):
            assert isinstance(one, Rectangle)
            assert isinstance(other, Rectangle)
            np.testing.assert_allclose((one.x, one.y, one.w, one.h), (other.x, other.y, other.w, other.h), atol=0.01)


def test_masks_of_boxes(tmp_path: Path) -> None:
    """The refiner starts on the given box; each further frame seen gets a mask, a missed one the mask before."""
    make_vot(tmp_path / "set", sequences=1, frames=24)
    index = vot2020(tmp_path / "set", complete=False)
    experiment = Experiment("realtime", index, Realtime(0.1))
    store = Trajectories(tmp_path / "out", experiment, RectangleRefiner)
    assert run_benchmark(lambda device: Counter(), experiment, store, show=False).failed == {}
    lines = (tmp_path / "out" / "seq0" / "seq0_00000000.txt").read_text().splitlines()
    assert lines[:6] == ["1", *(f"m{left},0,5,5,0,25" for left in (1, 2, 3, 3, 3))]
    assert lines[6] == "m4,0,5,5,0,25"
