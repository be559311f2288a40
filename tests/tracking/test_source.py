"""Sources of frames: one size for all, streams, and what is none said with its reason, never waited for."""

import http.server
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.data.clips import COUNT, encode, in_order, pictures
from tests.data.fixtures import write_image

from seqtrack_lit.tracking.source import is_stream, open_source, without_password

pytestmark = pytest.mark.timeout(60)  # none of these may hang


@pytest.mark.parametrize(("name", "count"), [("a.mp4", COUNT), ("a.ts", None), ("clip: take 1.mkv", COUNT)])
def test_a_video(tmp_path: Path, name: str, count: int | None) -> None:
    path = encode(tmp_path / name)
    source = open_source(str(path))
    assert (source.name, source.count, source.rate) == (path.stem, count, 25)
    for frame, expected in zip(source.frames, in_order(path), strict=True):
        np.testing.assert_array_equal(frame, expected)
    assert source.notes == []


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_pictures_of_another_size_are_scaled_and_told(tmp_path: Path, kind: str) -> None:
    """The target is at a third of the width in both sizes."""
    small, large = np.zeros((48, 64, 3), np.uint8), np.zeros((96, 128, 3), np.uint8)
    small[:, 20:24], large[:, 40:48] = 255, 255
    path = tmp_path / "frames"
    if kind == "folder":
        for number, picture in enumerate([small, small, large, large]):
            write_image(path / f"{number}.png", picture)
    else:
        first, second = (
            encode(tmp_path / f"{k}.h264", frames=[picture] * 2) for k, picture in enumerate([small, large])
        )
        path = tmp_path / "frames.h264"
        path.write_bytes(first.read_bytes() + second.read_bytes())
    source = open_source(str(path))
    frames = list(source.frames)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 4
    assert all(frame[24, 21].mean() > 150 and frame[24, 40].mean() < 60 for frame in frames)
    assert source.notes == [
        "from frame 2 on pictures are 128 x 96 instead of 64 x 48: they are scaled, and boxes are in pixels of the "
        "first frame"
    ]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_stream(tmp_path: Path, server: str) -> None:
    path = encode(tmp_path / "a.ts", frames=pictures(9))
    source = open_source(f"{server.replace('//', '//user:secret@')}/a.ts?key=1")
    assert source.count is None
    assert source.name.startswith("127.0.0.1_")
    assert source.name.endswith("_a.ts")
    for frame, expected in zip(source.frames, in_order(path), strict=True):
        np.testing.assert_array_equal(frame, expected)
    with pytest.raises(FileNotFoundError, match=r"source=http://127.*gone\.ts: this stream cannot be opened: .*404"):
        open_source(f"{server.replace('//', '//user:secret@')}/gone.ts")


@pytest.mark.parametrize(
    "address", ["rtsp://127.0.0.1:1/live", "http://127.0.0.1:1/a.mp4", "nothing://here", "rtmp://user:pw@127.0.0.1:1/a"]
)
def test_a_stream_that_is_not_there(address: str) -> None:
    with pytest.raises(FileNotFoundError, match="this stream cannot be opened: ") as caught:
        open_source(address)
    assert "pw" not in str(caught.value)


def test_what_is_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = encode(tmp_path / "rtsp:x.mp4", frames=pictures(2))
    assert [is_stream(value) for value in ("rtsp://a", "rtsp:x.mp4", "C:/a.mp4", f"file://{path}", 3)] == [
        True, False, False, False, False,
    ]  # fmt: skip
    assert open_source("rtsp:x.mp4").count == 2
    assert open_source(f"file://{path}").count == 2
    assert without_password("rtsp://user:p@ss@camera/1") == "rtsp://camera/1"
    assert without_password("a@b.mp4") == "a@b.mp4"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a" * 5000, "File name too long"), ("a" * 300 + ".mp4", "File name too long"),
        ("a\0b.mp4", "null (byte|character)"),  # before and since Python 3.12
        ("file://" + "a" * 5000, "File name too long"), ("9" * 5000, "no camera"), ("9" * 300, "no camera"),
        ("rtsp://127.0.0.1:1/" + "a" * 5000, "cannot be opened"), ("rtsp://127.0.0.1:1/a\0b", "cannot be opened"),
    ],
    ids=["long", "300 letters", "NUL", "file", "number", "number of 300", "address", "address with NUL"],
)  # fmt: skip
def test_names_that_nothing_has(name: str, reason: str) -> None:
    with pytest.raises(FileNotFoundError, match=reason) as caught:
        open_source(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_what_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path, reason in [
        (tmp_path / "pipe.mp4", "is a pipe"),
        (Path("/dev/zero"), "is a device"),
        (Path("/dev/null"), "is a device"),
    ]:
        with pytest.raises(ValueError, match=f"{reason}.*no video file"):
            open_source(str(path))
    with pytest.raises(FileNotFoundError, match=r"no video file .*gone\.mp4"):
        open_source(str(tmp_path / "gone.mp4"))
