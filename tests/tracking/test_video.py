"""Reading videos frame by frame and writing them: counts, order, sizes, names, errors."""

import pickle
from pathlib import Path

import av
import numpy as np
import pytest

from seqtrack_lit.data.sequence import Sequence
from seqtrack_lit.data.video import VideoFrames
from seqtrack_lit.tracking.video import VideoWriter, draw_boxes, write_clip


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


def test_seeking_with_many_key_frames(tmp_path: Path) -> None:
    path = tmp_path / "keys.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"g": "8", "bf": "3"}  # a key frame every 8, three frames between that look both ways
        for index in range(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(index), format="rgb24")))
        container.mux(stream.encode())
    frames = VideoFrames(path)
    order = [49, 0, 17, 16, 15, 33, 34, 40, 7, 8, 9]
    assert [read_number(frames[i]) for i in order] == order


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".webm"])
def test_other_containers(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    codec = {".avi": "mpeg4", ".mkv": "libx264", ".webm": "libvpx"}[suffix]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(index), format="rgb24")))
        container.mux(stream.encode())
    frames = VideoFrames(path)
    assert len(frames) == 20
    assert [read_number(frames[i]) for i in (0, 7, 19, 3, 4)] == [0, 7, 19, 3, 4]


def test_a_camera_s_rotation_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    upright = np.zeros((64, 48, 3), np.uint8)
    upright[:20, :20] = 255  # bright in the top left corner
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(90)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.rot90(upright, -1).copy(), format="rgb24")))
        container.mux(stream.encode())
    image = VideoFrames(path)[0]
    assert image.shape == (64, 48, 3)
    assert image[5, 5].mean() > 200
    assert image[5, 40].mean() < 50
    assert image[60, 5].mean() < 50


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


def test_frames_travel_to_workers(tmp_path: Path) -> None:
    frames = VideoFrames(write(tmp_path / "a.mp4", 10))
    assert read_number(frames[4]) == 4
    again = pickle.loads(pickle.dumps(frames))
    assert [read_number(again[i]) for i in (5, 2)] == [5, 2]


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
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"sound\.wav holds no video"):
        VideoFrames(sound)


def test_a_cut_off_file_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "whole.mp4", 40)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ValueError, match=r"cut\.mp4"):
        list(VideoFrames(cut))


def test_drawing_leaves_the_image_alone() -> None:
    image = np.full((60, 80, 3), 100, np.uint8)
    boxes = [np.array([10.0, 10, 30, 20]), np.array([np.nan, 0, 1, 1]), np.array([-50.0, -50, 500, 500])]
    drawn = draw_boxes(image, boxes, labels=["a", "b", "0.71"])
    assert (image == 100).all()
    assert tuple(drawn[30, 25]) == (240, 228, 66)
    assert drawn.shape == image.shape


@pytest.mark.parametrize(
    ("height", "shrink", "shown"),
    [(48, False, 384), (48, True, 360), (144, True, 288), (720, False, 720), (720, True, 360), (540, True, 360)],
)
def test_clip_of_a_result(tmp_path: Path, height: int, shrink: bool, shown: int) -> None:
    """Small videos become larger by a whole factor (360 / 48 is 7.5, made 8); asked for, none is larger than 360."""
    width = height * 2
    images = [np.full((height, width, 3), 90, np.uint8)] * 3
    boxes = np.array([[0.5, 0.5, 0.2, 0.3]] * 3) * height
    video = Sequence("v", images, boxes, np.array([True, False, True]), {"frame_rate": 30.0})
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
