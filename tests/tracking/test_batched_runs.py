"""Benchmarks tracked in batches: killed at any moment, in several processes; the results are those of one by one."""

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
from tests.tracking.conftest import blob_video
from tests.tracking.test_together import model

from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.evaluation.results import list_done, read_result
from seqtrack_lit.tracking.batched import BatchTracker
from seqtrack_lit.tracking.benchmark import run_benchmark
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker

pytestmark = pytest.mark.slow  # processes take seconds to start
LENGTHS = {f"v{i}": 6 + 5 * i % 17 for i in range(12)}


def many() -> list[Video]:
    return [
        blob_video(name, n, i, ((96, 72), (64, 90), (120, 60))[i % 3]) for i, (name, n) in enumerate(LENGTHS.items())
    ]


def tracker(device: str) -> SeqTrackTracker:
    return SeqTrackTracker(model(), device=device, update_interval=3, update_threshold=0.019)


def track_slowly(folder: Path) -> None:
    """In a process of its own, to be killed: a step takes at least 50 ms."""
    plain = BatchTracker.step

    def step(self: BatchTracker, *arguments: object) -> object:
        time.sleep(0.05)
        return plain(self, *arguments)  # type: ignore[arg-type]

    BatchTracker.step = step  # type: ignore[assignment,method-assign]
    run_benchmark(tracker, many(), folder, show=False, batch=4)


def written(folder: Path, names: list[str]) -> dict[str, tuple[bytes, int]]:
    """Content and time of all files of these sequences."""
    files = [path for name in names for path in folder.glob(f"{name}[._]*")]
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def assert_equal(folder: Path, alone: Path) -> None:
    assert list_done(folder, LENGTHS) == list(LENGTHS)
    for name in LENGTHS:
        result, expected = read_result(folder, name), read_result(alone, name)
        np.testing.assert_array_equal(result.boxes, expected.boxes)
        np.testing.assert_allclose(result.confidences, expected.confidences, rtol=1e-4)
        assert result.times is not None
        assert len(result.times) == LENGTHS[name]
        assert (result.times > 0).all()
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in alone.iterdir())


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """Results of one by one, not interrupted."""
    assert run_benchmark(tracker, many(), tmp_path / "alone", show=False).tracked == 12
    return tmp_path / "alone"


def test_a_kill_costs_the_videos_in_hand_only(tmp_path: Path, alone: Path) -> None:
    folder, done = tmp_path / "batched", list[str]()
    for _ in range(2):
        kept = written(folder, done)
        process = multiprocessing.get_context("spawn").Process(target=track_slowly, args=(folder,))
        process.start()
        deadline = time.monotonic() + 300
        while len(list_done(folder, LENGTHS)) < len(done) + 3 and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.join()
        assert process.exitcode == -9  # it had not ended
        before, done = len(done), list_done(folder, LENGTHS)
        assert before + 3 <= len(done) <= 9
        assert kept.items() <= written(folder, done).items()
    kept = written(folder, done)
    summary = run_benchmark(tracker, many(), folder, show=False, batch=4)
    assert (summary.found, summary.tracked, summary.failed) == (len(done), 12 - len(done), {})
    assert kept.items() <= written(folder, done).items()
    assert_equal(folder, alone)


def test_several_processes_with_batches(tmp_path: Path, alone: Path) -> None:
    devices = ("cpu", "cpu")
    summary = run_benchmark(tracker, many(), tmp_path / "two", workers=2, devices=devices, show=False, batch=4)
    assert (summary.tracked, summary.failed, summary.frames) == (12, {}, sum(LENGTHS.values()))
    assert_equal(tmp_path / "two", alone)
