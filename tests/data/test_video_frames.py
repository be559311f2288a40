"""Any frame of a video file by its number, the same frame in whatever order it is asked for."""

import gc
import multiprocessing
import os
import pickle
from pathlib import Path

import av
import numpy as np
import pytest
from tests.data.fixtures import image, shade_of, write_video

from seqtrack_lit.data.video.file import VideoFrames

COUNT = 40


def pictures(count: int = COUNT) -> list[np.ndarray]:
    """Frame k shows its number in two grey halves."""
    made = []
    for k in range(count):
        picture = np.full((48, 64, 3), shade_of(k), np.uint8)
        picture[:, 32:] = shade_of(k // 20)
        made.append(picture)
    return made


def test_travels_to_other_processes(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pictures(9))
    frames = VideoFrames(tmp_path / "a.mp4")
    first = frames[3]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames))[3], first)
    assert abs(int(frames[-1][0, 0, 0]) - shade_of(8)) <= 4
    with pytest.raises(IndexError, match=r"frame 9 of .*a\.mp4, which has 9 frames"):
        frames[9]


def test_frames_are_freed_without_the_garbage_collector(tmp_path: Path) -> None:
    """Else hundreds of decoded frames wait for it: 100 MB of 640 x 360, gigabytes of 4K."""
    write_video(tmp_path / "a.mp4", pictures())
    gc.collect()
    gc.disable()
    try:
        before = sum(type(one) is av.VideoFrame for one in gc.get_objects())
        frames = VideoFrames(tmp_path / "a.mp4")
        assert len(list(frames)) == COUNT
        assert sum(type(one) is av.VideoFrame for one in gc.get_objects()) - before < COUNT // 4  # in flight
    finally:
        gc.enable()


def test_one_frame(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [image(3)])
    assert len(VideoFrames(tmp_path / "a.mp4")) == 1


def test_no_video(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no video file"):
        VideoFrames(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_text("not a video")
    with pytest.raises(ValueError, match=r"cannot open .*a\.mp4 as a video"):
        VideoFrames(tmp_path / "a.mp4")


def test_damaged_in_the_middle(tmp_path: Path) -> None:
    noisy = [np.random.default_rng(k).integers(0, 255, (48, 64, 3), np.uint8) for k in range(COUNT)]
    write_video(tmp_path / "a.mkv", noisy)
    data = bytearray((tmp_path / "a.mkv").read_bytes())
    (tmp_path / "a.mkv").write_bytes(data[: len(data) * 2 // 3])
    frames = VideoFrames(tmp_path / "a.mkv")
    assert 0 < len(frames) < COUNT  # what is left is announced and can be read
    whole = [frames[k] for k in range(len(frames))]
    assert len(whole) == len(frames)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_worker_forked_in_the_middle_reads_on(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pictures())
    frames = VideoFrames(tmp_path / "a.mp4")
    expected = frames[7].mean()
    # The child inherits the open decoder and replaces it: this hung while decoders had threads.
    reader, writer = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=lambda: writer.send(float(frames[7].mean())))
    child.start()
    assert reader.poll(60)
    assert reader.recv() == expected
    child.join()
    np.testing.assert_array_equal(frames[8], VideoFrames(tmp_path / "a.mp4")[8])
