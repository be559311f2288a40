"""Reading videos frame by frame and writing them: counts, order, sizes, names, errors."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from seqtrack_lit.data.video.file import VideoFrames
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.tracking.video_io import VideoWriter, write_clip


def numbered(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A frame that shows its number as 6 bits of black and white blocks."""
    image = np.full((height, width, 3), 90, np.uint8)
    for bit in range(6):
        image[8:32, 2 + bit * 10 : 10 + bit * 10] = 230 if index >> bit & 1 else 10
    return image


def read_number(image: np.ndarray) -> int:
    return sum(1 << bit for bit in range(6) if image[12:28, 4 + bit * 10 : 8 + bit * 10].mean() > 120)


def write(path: Path, count: int, **size: int) -> Path:
    with VideoWriter(path, rate=25) as writer:
        for index in range(count):
            writer.write(numbered(index, **size))
    return path


@pytest.mark.parametrize("name", ["plain.mp4", "víd eo (1) ü.mp4"])
def test_every_frame_comes_back_by_its_number(tmp_path: Path, name: str) -> None:
    frames = VideoFrames(write(tmp_path / "new folder" / name, 60))
    assert len(frames) == 60
    assert frames.frame_rate == 25
    assert [read_number(frames[i]) for i in range(60)] == list(range(60))
    order = np.random.default_rng(0).permutation(60).tolist()
    assert [read_number(frames[i]) for i in order] == order
    assert read_number(frames[-1]) == 59
    with pytest.raises(IndexError):
        frames[60]
    assert not list(frames.path.parent.glob(".*"))  # no partial file left


@pytest.mark.parametrize(("width", "height"), [(65, 48), (64, 49), (65, 49)])
def test_odd_sizes_gain_one_pixel(tmp_path: Path, width: int, height: int) -> None:
    frames = VideoFrames(write(tmp_path / "odd.mp4", 5, width=width, height=height))
    assert len(frames) == 5
    assert frames[4].shape == (height + height % 2, width + width % 2, 3)
    assert read_number(frames[3]) == 3


def test_a_frame_of_another_size_is_scaled(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "mixed.mp4") as writer:
        writer.write(numbered(1))
        writer.write(numbered(2, width=64, height=48).repeat(2, axis=0).repeat(2, axis=1))
        writer.write(numbered(3, width=64, height=47))
    frames = VideoFrames(tmp_path / "mixed.mp4")
    assert [(read_number(frames[i]), frames[i].shape) for i in range(3)] == [(n, (48, 64, 3)) for n in (1, 2, 3)]


def test_what_was_written_survives_an_error(tmp_path: Path) -> None:
    def interrupted() -> None:
        with VideoWriter(tmp_path / "cut.mp4") as writer:
            for index in range(7):
                writer.write(numbered(index))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(VideoFrames(tmp_path / "cut.mp4")) == 7


def test_the_file_is_what_browsers_play(tmp_path: Path) -> None:
    path = write(tmp_path / "web.mp4", 3)
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # the index comes first


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no video file .*gone\.mp4"):
        VideoFrames(tmp_path / "gone.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("this is no video\n" * 100)
    with pytest.raises(ValueError, match=r"text\.mp4"):
        VideoFrames(text)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    with pytest.raises(ValueError, match=r"empty\.mp4"):
        VideoFrames(empty)
    sound = tmp_path / "sound.mkv"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"sound\.mkv holds no video"):
        VideoFrames(sound)


def test_a_cut_off_file_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "whole.mp4", 40)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    frames = VideoFrames(cut)  # its index comes first, so what is there can be read
    assert 0 < len(list(frames)) < 40
    assert any("cut.mp4 is cut short" in note for note in frames.notes)


@pytest.mark.parametrize(
    ("height", "shrink", "shown"),
    [(48, False, 384), (48, True, 360), (144, True, 288), (720, False, 720), (720, True, 360), (540, True, 360)],
)
def test_clip_of_a_result(tmp_path: Path, height: int, shrink: bool, shown: int) -> None:
    """Small videos become larger by a whole factor (360 / 48 is 7.5, made 8); asked for, none is larger than 360."""
    width = height * 2
    images = [np.full((height, width, 3), 90, np.uint8)] * 3
    boxes = np.array([[0.5, 0.5, 0.2, 0.3]] * 3) * height
    video = Video("v", images, boxes, np.array([True, False, True]), {"frame_rate": 30.0})
    tracked, confidences = boxes + np.array([height, 0, 0, 0]), np.array([1.0, 0.5, 0.2])
    path = write_clip(tmp_path / "v.mp4", video, tracked, confidences, shrink=shrink)
    frames = VideoFrames(path)
    assert (len(frames), frames.frame_rate) == (3, 30)
    assert frames[0].shape == (shown, 2 * shown, 3)

    def at(frame: int, x: float) -> str:
        """What is drawn where a box that begins at x has its left edge, halfway down; colour is half as sharp."""
        place = frames[frame][round(0.65 * shown), round(x * shown) - 4 : round(x * shown) + 5].astype(int)
        red, _, blue = place[place.sum(1).argmax()]
        return "nothing" if red < 150 else "white" if blue > 200 else "yellow"

    assert [at(0, 0.5), at(0, 1.5), at(1, 0.5), at(1, 1.5)] == ["white", "yellow", "nothing", "yellow"]


@pytest.mark.parametrize(
    ("width", "height", "shown"),
    [(20000, 40, (4096, 8)), (16, 9000, (8, 4096)), (1, 1, (2, 2)), (3, 700, (4, 700))],
)
def test_sizes_that_players_take(tmp_path: Path, width: int, height: int, shown: tuple[int, int]) -> None:
    """20000 x 40 is shrunk by 4096 / 20000 to 4096 x 8.2; sizes are even."""
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for _ in range(2):
            writer.write(np.full((height, width, 3), 120, np.uint8))
    frame = VideoFrames(tmp_path / "a.mp4")[1]
    assert frame.shape == (shown[1], shown[0], 3)
    assert abs(int(frame.mean()) - 120) <= 2


@pytest.mark.parametrize("rate", [0.0004, 0.5, 23.976, 1000.0])
def test_rates(tmp_path: Path, rate: float) -> None:
    with VideoWriter(tmp_path / "a.mp4", rate=rate) as writer:
        for index in range(4):
            writer.write(numbered(index))
    frames = VideoFrames(tmp_path / "a.mp4")
    assert len(frames) == 4
    assert frames.frame_rate == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("rate", [0, -1, 1e-9, 1e12, float("nan")])
def test_rates_that_no_video_has(tmp_path: Path, rate: float) -> None:
    with pytest.raises(ValueError, match="frame rate from"):
        VideoWriter(tmp_path / "a.mp4", rate=rate)


@pytest.mark.parametrize("name", ["a: b.mp4", "rtsp:b.mp4", "a%d.mp4"])
def test_written_names(tmp_path: Path, name: str) -> None:
    assert len(VideoFrames(write(tmp_path / name, 3))) == 3
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_killed_writer_leaves_the_old_video_or_none(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    old = tmp_path / "old" / "a.mp4"
    before = write(old, 5).read_bytes()
    code = (
        "import os, signal, sys, numpy; from seqtrack_lit.tracking.video_io import VideoWriter\n"
        "writer = VideoWriter(sys.argv[1])\n"
        "for k in range(400): writer.write(numpy.full((48, 64, 3), k % 256, numpy.uint8))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, path]) for path in (old, tmp_path / "none" / "a.mp4")]
    assert [process.wait() for process in started] == [-9, -9]
    assert not list((tmp_path / "none").iterdir())
    assert list(old.parent.iterdir()) == [old]
    assert old.read_bytes() == before


def test_without_unnamed_files_the_next_one_replaces_what_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.O_TMPFILE")
    (tmp_path / ".a.mp4.part").write_bytes(b"left by a kill")
    assert len(VideoFrames(write(tmp_path / "a.mp4", 4))) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_the_mode_of_a_video_is_that_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    assert write(tmp_path / "a.mp4", 2).stat().st_mode == (tmp_path / "other").stat().st_mode
