"""Tracking many videos: results whole or absent, runs that go on, bad videos that cost no other."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.evaluation import results
from seqtrack_lit.evaluation.results import read_result
from seqtrack_lit.tracking.baselines import StaticBox, make_baseline
from seqtrack_lit.tracking.benchmark import check_identity, run_benchmark
from seqtrack_lit.tracking.tracker import Estimate

STATIC = partial(make_baseline, "static")


class Recorder(StaticBox):
    """A static box that notes the first boxes it was given, and may break."""

    def __init__(self, breaks_at: int | None = None) -> None:
        super().__init__()
        self.started: list[float] = []
        self.breaks_at = breaks_at

    def init(self, image: np.ndarray, box_xywh: np.ndarray) -> None:
        self.started.append(float(box_xywh[0]))
        if len(self.started) - 1 == self.breaks_at:
            raise RuntimeError("out of luck")
        super().init(image, box_xywh)


def run(videos: list[Video], folder: Path, tracker: StaticBox | None = None, **options: object) -> object:
    return run_benchmark(lambda device: tracker or StaticBox(), videos, folder, show=False, **options)


def test_results_and_summary(videos: list[Video], tmp_path: Path) -> None:
    summary = run(videos, tmp_path)
    assert (summary.tracked, summary.found, summary.failed, summary.frames) == (3, 0, {}, 19)
    assert summary.fps > 0
    for video in videos:
        result = read_result(tmp_path, video.name)
        np.testing.assert_allclose(result.boxes, np.repeat(video.boxes[:1], len(video), 0))
        assert len(result.times) == len(result.confidences) == len(video)


def test_longest_first(videos: list[Video], tmp_path: Path) -> None:
    for place, video in enumerate(videos):
        video.boxes[0, 0] = place
    tracker = Recorder()
    run(videos, tmp_path, tracker)
    assert tracker.started == [1, 2, 0]


def test_a_second_run_tracks_only_what_is_missing_or_half_written(videos: list[Video], tmp_path: Path) -> None:
    run(videos, tmp_path)
    whole = (tmp_path / "c.txt").read_text()
    (tmp_path / "c.txt").write_text(whole[: len(whole) // 2])  # cut in the middle, as by another program
    (tmp_path / "a.txt").unlink()
    tracker = Recorder()
    summary = run(videos, tmp_path, tracker)
    assert (summary.tracked, summary.found, len(tracker.started)) == (2, 1, 2)
    assert (tmp_path / "c.txt").read_text() == whole
    assert run(videos, tmp_path).tracked == 0


def test_a_bad_video_costs_no_other(videos: list[Video], tmp_path: Path) -> None:
    videos[1].boxes[0] = [500, 500, 10, 10]
    videos[2].frames[3] = None
    summary = run(videos, tmp_path, Recorder(breaks_at=5))
    assert summary.tracked == 1
    assert "outside the first frame of 96 x 72" in summary.failed["longest ü"]
    assert set(summary.failed) == {"longest ü", "c"}
    assert [path.name for path in tmp_path.glob("*.txt") if "_" not in path.name] == ["a.txt"]


def test_a_tracker_that_breaks_or_answers_nan_is_reported(videos: list[Video], tmp_path: Path) -> None:
    class Lost(StaticBox):
        def update(self, image: np.ndarray) -> Estimate:
            return Estimate(np.full(4, np.nan))

    failed = run(videos, tmp_path, Recorder(breaks_at=0)).failed
    assert list(failed) == ["longest ü"]
    assert failed["longest ü"].startswith("RuntimeError: out of luck (test_run.py, line ")
    summary = run(videos, tmp_path / "nan", Lost())
    assert summary.tracked == 0
    assert "frame 1" in summary.failed["a"]


def test_a_full_disk_stops_and_keeps_what_is_written(
    videos: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def fsync(descriptor: int) -> None:
        nonlocal written
        written += 1
        if written > 4:  # three files of the first video, one of the second
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(results.os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left") as caught:
            run(videos, tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert "make room" in str(caught.value)
    assert (tmp_path / "longest ü.txt").read_text().count("\n") == 9
    assert not (tmp_path / "c.txt").exists()
    assert not list(tmp_path.glob(".*"))
    assert run(videos, tmp_path).tracked == 2


def test_two_videos_of_one_name_are_refused(videos: list[Video], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two sequences are called 'a'"):
        run([*videos, videos[0]], tmp_path)


def test_names_that_would_share_a_file_are_refused_before_tracking(videos: list[Video], tmp_path: Path) -> None:
    lap = [Video(name, v.frames, v.boxes, v.visible) for name, v in zip(("lap", "lap_time"), videos, strict=False)]
    with pytest.raises(ValueError, match="two sequences are called 'lap' and 'lap_time'"):
        run(lap, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_confidence_that_is_no_number_is_reported(videos: list[Video], tmp_path: Path) -> None:
    class Unsure(StaticBox):
        def update(self, image: np.ndarray) -> Estimate:
            return Estimate(self.box.copy(), float("nan"))

    summary = run(videos, tmp_path, Unsure())
    assert summary.tracked == 0
    assert "the tracker's confidence in frame 1 is nan" in summary.failed["a"]


def test_a_folder_belongs_to_one_tracker(videos: list[Video], tmp_path: Path) -> None:
    identity = {"weights": "abc", "tracker": {"window": True}}
    check_identity(tmp_path, identity)
    run(videos, tmp_path)
    check_identity(tmp_path, identity)
    with pytest.raises(ValueError, match=r"weights was 'abc', now 'def'\).*replace=true"):
        check_identity(tmp_path, {**identity, "weights": "def"})
    with pytest.raises(ValueError, match=r"run \(tracker\.window was True, now False\)"):
        check_identity(tmp_path, {**identity, "tracker": {"window": False}})
    assert run(videos, tmp_path).found == 3
    (tmp_path / "identity.json").rename(tmp_path / "run.json")  # as earlier revisions called it
    (tmp_path / "media").mkdir()
    (tmp_path / "scores.json").write_text("{}")
    check_identity(tmp_path, identity)
    assert (tmp_path / "scores.json").exists()
    check_identity(tmp_path, {**identity, "weights": "def"}, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["identity.json"]  # nothing of the former tracker stays
    assert run(videos, tmp_path).found == 0
    (tmp_path / "identity.json").unlink()
    with pytest.raises(ValueError, match="unknown origin"):
        check_identity(tmp_path, identity)


def test_results_of_before_official_config_go_on(videos: list[Video], tmp_path: Path) -> None:
    """Until checkpoints of other geometry needed the official YAML, an identity held what was told beside them."""
    old = {"weights": "abc", "told": [{"bins": None}, {"memory": None}, "f00d"]}
    (tmp_path / "run.json").write_text(json.dumps(old))
    run(videos, tmp_path)
    check_identity(tmp_path, {"weights": "abc", "official_config": "f00d"})
    with pytest.raises(ValueError, match="official_config was 'f00d', now ''"):
        check_identity(tmp_path, {"weights": "abc", "official_config": ""})


@pytest.mark.slow
def test_several_processes_give_the_same_files(videos: list[Video], tmp_path: Path) -> None:
    videos[2].boxes[0, 0] = np.nan
    one = run_benchmark(STATIC, videos, tmp_path / "1", show=False)
    two = run_benchmark(STATIC, videos, tmp_path / "2", workers=2, devices=("cpu", "cpu"), show=False)
    assert (one.tracked, two.tracked, one.frames, two.frames) == (2, 2, 13, 13)
    assert set(one.failed) == set(two.failed) == {"c"}
    for video in videos[:2]:
        np.testing.assert_array_equal(
            read_result(tmp_path / "1", video.name).boxes, read_result(tmp_path / "2", video.name).boxes
        )


@pytest.mark.slow
def test_no_process_can_make_its_tracker(videos: list[Video], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no process could make its tracker: unknown OpenCV tracker 'mosse'"):
        run_benchmark(partial(make_baseline, "mosse"), videos, tmp_path, workers=2, show=False)


SCRIPT = """
import sys, time
from pathlib import Path
import numpy as np
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.tracking import baselines, benchmark

class Slow(baselines.StaticBox):
    def update(self, image):
        time.sleep(0.02)
        return super().update(image)

if __name__ == "__main__":
    frames = [np.zeros((20, 20, 3), np.uint8)] * 10
    boxes = np.array([[2.0, 2, 9, 9]] * 10)
    videos = [Video(str(i), frames, boxes, np.ones(10, bool)) for i in range(20)]
    print(benchmark.run_benchmark(lambda device: Slow(), videos, Path(sys.argv[1]), show=False), flush=True)
"""


@pytest.mark.slow
def test_kill_at_any_moment_loses_only_the_video_in_hand(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    folder, before = tmp_path / "results", 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, str(script), str(folder)], stdout=subprocess.PIPE)
        deadline = time.monotonic() + 120
        while len(_finished(folder)) < before + 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done = _finished(folder)
        assert all(path.read_text().count("\n") == 10 for path in done)
        assert len(done) >= before + 4
        before = len(done)
    final = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True, check=True)
    assert f"tracked={20 - before}, found={before}" in final.stdout


def _finished(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.txt") if "_" not in path.name]
