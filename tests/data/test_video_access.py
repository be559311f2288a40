"""Frame i out of order is frame i in order, bit for bit, whatever the container and codec; odd files are told true."""

import os
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from tests.data.clips import COUNT, KEYS, H, W, bomb, encode, in_order, pictures, remux, repack

from seqtrack_lit.data.video import file as video
from seqtrack_lit.data.video.file import VideoFrames

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
SHIFTED = {"avoid_negative_ts": "disabled"}
EVERY = ("mp4", "frag.mp4", "mov", "mkv", "avi", "ts")
TABLE = {
    "mpeg1": EVERY,
    "mpeg2": (*EVERY, "mpg"),
    "mpeg4": EVERY,
    "h264": (*EVERY, "h264"),
    "hevc": ("mp4", "frag.mp4", "mov", "mkv", "ts"),
    "vp8": ("mkv", "webm", "avi"),
    "vp9": ("mp4", "mkv", "webm"),
    "av1": ("mp4", "mkv", "webm"),
    "prores": ("mov", "mkv"),
    "mjpeg": ("mp4", "mov", "avi"),
}
RARE = {
    "mpeg1": ("mpg",),
    "mpeg2": ("mxf",),
    "mpeg4": ("m4v",),
    "h264": ("mpg", "flv", "wmv"),
    "h264open": (*EVERY, "h264"),
    "h264refresh": (*EVERY[1:], "h264"),
    "hevc": ("hevc",),
    "vp8": ("ogv",),
    "vp9": ("frag.mp4", "avi"),
    "av1": ("frag.mp4", "avi"),
    "prores": ("mxf",),
    "mjpeg": ("frag.mp4", "mkv"),
    "ffv1": ("mkv", "avi"),
    "msmpeg4": ("avi",),
    "wmv2": ("wmv",),
    "raw": ("avi", "mkv"),
}
CASES = [
    *((codec, suffix) for codec in TABLE for suffix in TABLE[codec]),
    ("h264refresh", "mp4"),
    *(pytest.param(codec, suffix, marks=pytest.mark.slow) for codec in RARE for suffix in RARE[codec]),
]
FORMATS = {"h264": "h264", "hevc": "hevc", "m4v": "m4v", "mkv": "matroska", "ts": "mpegts", "mpg": "mpeg"}


def same_in_any_order(path: Path, draws: int = 100) -> VideoFrames:
    """Compare draws, and what iterating gives, with what FFmpeg gives from the start."""
    expected, frames = in_order(path), VideoFrames(path)
    assert len(frames) == len(expected)
    wrong = [
        index
        for index in np.random.default_rng(0).integers(0, len(expected), draws).tolist()
        if not np.array_equal(frames[index], expected[index])
    ]
    assert wrong == []
    again = VideoFrames(path)
    for frame, other in zip(again, expected, strict=True):
        np.testing.assert_array_equal(frame, other)
    assert again.notes == frames.notes
    return frames


@pytest.mark.parametrize(("codec", "suffix"), CASES)
def test_random_access_is_reading_in_order(tmp_path: Path, codec: str, suffix: str) -> None:
    options = FRAGMENTED if suffix.startswith("frag") else {}
    path = encode(tmp_path / f"a.{suffix}", codec, container=FORMATS.get(suffix), options=options)
    frames = same_in_any_order(path)
    assert len(frames) == COUNT
    assert frames.notes == []
    assert frames.frame_rate == pytest.approx(25, rel=1e-3) or suffix in ("ogv", "wmv", "m4v")


@pytest.mark.parametrize(
    ("codec", "suffix", "opened", "seeks"),
    # 40 frames with 5 key frames: of 100 draws, those behind the last key frame passed need no seeking
    [("h264", "mp4", 1, True), ("hevc", "frag.mp4", 1, True), ("vp9", "webm", 1, True), ("h264", "ts", 30, False)],
)
def test_seeking_where_there_is_an_index(
    tmp_path: Path, codec: str, suffix: str, opened: int, seeks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = FRAGMENTED if suffix.startswith("frag") else {}
    frames = VideoFrames(encode(tmp_path / f"a.{suffix}", codec, options=options))
    len(frames)
    count = {"opened": 0, "sought": 0}

    def restart(decoder: Any) -> None:
        count["opened"] += 1
        restarting(decoder)

    def seek(decoder: Any, *place: int) -> bool:
        count["sought"] += 1
        return seeking(decoder, *place)

    restarting, seeking = video._Decoder.restart, video._Decoder._seek
    monkeypatch.setattr(video._Decoder, "restart", restart)
    monkeypatch.setattr(video._Decoder, "_seek", seek)
    for index in np.random.default_rng(0).integers(0, COUNT, 100).tolist():
        frames[index]
    assert count["opened"] == 1 if opened == 1 else count["opened"] >= opened
    assert (count["sought"] > 50) == seeks


def shift(frames: int) -> Any:
    """Stamps that begin so many frames earlier: below zero an edit list hides them."""

    def change(packets: list[Any]) -> list[Any]:
        for packet in packets:
            packet.pts -= frames * packet.duration
            packet.dts -= frames * packet.duration
        return packets

    return change


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("hidden", [0, 3, 11])
def test_edit_lists(tmp_path: Path, codec: str, hidden: int) -> None:
    whole = encode(tmp_path / "a.mp4", codec)
    cut = remux(whole, tmp_path / "cut.mp4", shift(hidden), options=SHIFTED)
    assert len(same_in_any_order(cut)) == COUNT - hidden
    np.testing.assert_array_equal(VideoFrames(cut)[2], VideoFrames(whole)[2 + hidden])


def test_late_begin(tmp_path: Path) -> None:
    assert len(same_in_any_order(remux(encode(tmp_path / "a.mp4"), tmp_path / "late.mp4", shift(-30)))) == COUNT


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_beginning_that_cannot_be_decoded(tmp_path: Path, codec: str, suffix: str) -> None:
    whole = encode(tmp_path / "a.mkv" if codec == "mpeg2" else tmp_path / "a.mp4", codec)
    path = remux(whole, tmp_path / f"cut.{suffix}", lambda packets: packets[3:])
    frames = same_in_any_order(path)
    lost = COUNT - 3 - len(frames)
    assert 3 <= lost <= KEYS
    assert len(frames.notes) == 1
    assert f"cut.{suffix} begins in the middle of a scene: its first {lost} frames cannot be" in frames.notes[0]
    assert frames.frame_rate == pytest.approx(25)


def test_divx_packs_two_frames_into_one(tmp_path: Path) -> None:
    def packed(packets: list[Any]) -> list[Any]:
        made = repack(packets)
        data = bytes(made[0])
        at = data.index(b"\0\0\1\xb6")
        first = av.Packet(data[:at] + b"\0\0\1\xb2DivX503b1393p\0" + data[at:])
        first.pts = first.dts = 0
        first.time_base, first.is_keyframe = Fraction(1, 25), True
        return [first, *made[1:]]

    whole = encode(tmp_path / "a.avi", "mpeg4one")
    assert len(same_in_any_order(remux(whole, tmp_path / "divx.avi", packed))) == COUNT


def test_stamps_that_are_no_order(tmp_path: Path) -> None:
    """H.264 with frames that look both ways, in a container that keeps only the order of decoding."""

    def decoding_order(packets: list[Any]) -> list[Any]:
        for packet in packets:
            packet.pts = packet.dts
        return packets

    path = remux(encode(tmp_path / "a.mp4"), tmp_path / "a.mkv", decoding_order)
    assert len(same_in_any_order(path)) == COUNT


@pytest.mark.parametrize("suffix", ["webm", "avi"])
def test_frames_of_vp8_that_are_not_shown(tmp_path: Path, suffix: str) -> None:
    def hide(packets: list[Any]) -> list[Any]:
        """As vpxenc writes a frame that only others refer to: its bit "show" is 0."""
        for number in (19, 30):
            old = packets[number]
            packets[number] = av.Packet(bytes([bytes(old)[0] & ~0x10]) + bytes(old)[1:])
            packets[number].pts, packets[number].dts, packets[number].time_base = old.pts, old.dts, old.time_base
        return packets

    path = remux(encode(tmp_path / "a.webm", "vp8"), tmp_path / f"hidden.{suffix}", hide)
    assert len(same_in_any_order(path)) == COUNT - 2


@pytest.mark.parametrize(("codec", "suffix"), [("vp9", "webm"), ("mjpeg", "mkv"), ("h264", "ts"), ("h264", "h264")])
def test_a_size_that_changes(tmp_path: Path, codec: str, suffix: str) -> None:
    first = encode(tmp_path / f"1.{suffix}", codec, frames=pictures(20))
    second = encode(tmp_path / f"2.{suffix}", codec, frames=pictures(20, 96, 64))
    path = tmp_path / f"both.{suffix}"
    if suffix in ("ts", "h264"):
        path.write_bytes(first.read_bytes() + second.read_bytes())
    else:
        with av.open(str(second)) as other:
            more = [packet for packet in other.demux(video=0) if packet.size]
            for packet in more:
                packet.pts, packet.dts = packet.pts + 800, packet.dts + 800
            remux(first, path, lambda packets: [*packets, *more])
    frames = same_in_any_order(path)
    assert [frames[i].shape for i in (0, 19, 20, 39)] == [(H, W, 3)] * 2 + [(64, 96, 3)] * 2


@pytest.mark.parametrize(("name", "codec"), [("a.webm", "vp9"), ("a.mp4", "h264")])
def test_rates_of_uneven_stamps(tmp_path: Path, name: str, codec: str) -> None:
    times = [0, 40, 80, 1000, 1040, 5000, 9000, 9040, 20000, 20040]  # 9 steps in 20.04 s
    frames = VideoFrames(encode(tmp_path / name, codec, frames=pictures(10), times=times))
    assert frames.frame_rate == pytest.approx(9 / 20.04, rel=1e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts"])
@pytest.mark.parametrize("told", [True, False])
def test_a_cover_picture_is_no_video(tmp_path: Path, suffix: str, told: bool) -> None:
    """The cover is the first stream, larger than the video, and may not be marked as one."""
    whole, path = encode(tmp_path / "a.mkv"), tmp_path / f"cover.{suffix}"
    with av.open(str(whole)) as source, av.open(str(path), "w") as output:
        cover = output.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 320, 240, "yuvj420p"
        if told:
            cover.disposition = av.stream.Disposition.attached_pic
        moving = output.add_stream_from_template(source.streams.video[0])
        picture = av.VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8), "rgb24")
        picture.pts = 0
        output.mux([*cover.encode(picture), *cover.encode()])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = moving
                output.mux(packet)
    frames = VideoFrames(path)
    assert len(frames) == COUNT
    assert frames[7].shape == (H, W, 3)


@pytest.mark.parametrize("suffix", ["mkv", "webm", "ts", "mp4"])
def test_damage_changes_nothing_between_the_orders(tmp_path: Path, suffix: str) -> None:
    whole = encode(tmp_path / f"a.{suffix}", "vp9" if suffix == "webm" else "h264")
    data = bytearray(whole.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    whole.write_bytes(data)
    expected, frames = in_order(whole), VideoFrames(whole)
    for index in np.random.default_rng(0).integers(0, len(frames), 100).tolist():
        try:
            frame = frames[index]
        except ValueError as error:
            assert "the file is damaged" in str(error)  # noqa: PT017
            continue
        assert len(expected) < len(frames) or np.array_equal(frame, expected[index])


def test_lost_packets_are_told(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", "mpeg4")
    data = bytearray(path.read_bytes())
    at = data.index(b"\0\0\1\xb6", len(data) // 2)
    data[at + 3] = 0xFF  # no start code of a frame any more
    path.write_bytes(data)
    frames = VideoFrames(path)
    assert len(list(frames)) == COUNT - 1
    assert f"{path} has {COUNT} pictures, of which {COUNT - 1} can be decoded: it is damaged" in frames.notes


# What each of the eight display matrices does to a stored picture whose corners are a b / c d.
TURNED = {
    (1, 0, 0, 1): "ab/cd",
    (0, 1, -1, 0): "ca/db",  # a quarter of a turn clockwise
    (-1, 0, 0, -1): "dc/ba",
    (0, -1, 1, 0): "bd/ac",
    (-1, 0, 0, 1): "ba/dc",  # a mirror
    (1, 0, 0, -1): "cd/ab",
    (0, 1, 1, 0): "ac/bd",
    (0, -1, -1, 0): "db/ca",
}


@pytest.mark.parametrize(("matrix", "corners"), TURNED.items())
def test_turned_and_mirrored(tmp_path: Path, matrix: tuple[int, int, int, int], corners: str) -> None:
    shades = {"a": 40, "b": 100, "c": 160, "d": 220}
    picture = np.zeros((H, W, 3), np.uint8)
    for letter, (row, column) in zip("abcd", [(0, 0), (0, 1), (1, 0), (1, 1)], strict=True):
        picture[row * 24 : row * 24 + 24, column * 32 : column * 32 + 32] = shades[letter]
    a, b, c, d = (65536 * value for value in matrix)
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        output.mux([*stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")), *stream.encode()])
    image = VideoFrames(tmp_path / "a.mp4")[0]
    assert image.shape == ((H, W, 3) if matrix[0] else (W, H, 3))
    found = [image[row, column, 0] for row in (5, -5) for column in (5, -5)]
    seen = "".join(min(shades, key=lambda letter: abs(int(value) - shades[letter])) for value in found)
    assert f"{seen[:2]}/{seen[2:]}" == corners


def test_thermal_video_has_one_range(tmp_path: Path) -> None:
    """Counts around 7,300 of 65,535: eight bits of the type would be one grey value."""
    counts = [(7300 + 10 * k + np.arange(W * H) % 40).reshape(H, W).astype(np.uint16) for k in range(9)]
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = W, H, "gray16le"
        for values in counts:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(values, "gray16le")))
        output.mux(stream.encode())
    means = [frame[..., 0].mean() for frame in VideoFrames(tmp_path / "a.mkv")]
    np.testing.assert_allclose(np.diff(means), 10 * 256 / 119, rtol=0.1)  # counts span 7300 to 7419
    backwards = VideoFrames(tmp_path / "a.mkv")
    assert [backwards[k][..., 0].mean() for k in range(8, -1, -1)] == means[::-1]


NAMES = ["clip: take 1.mp4", "rtsp:x.mp4", "a%03d.mp4", "a\x1b[31m.mp4", os.fsdecode(b"\xff\xfe.mp4"), "-.mp4"]


@pytest.mark.parametrize("name", NAMES, ids=["colon", "protocol", "pattern", "escape", "bytes", "dash"])
def test_names(tmp_path: Path, name: str) -> None:
    whole = encode(tmp_path / "a.mp4", frames=pictures(3))
    assert len(VideoFrames(whole.rename(tmp_path / name))) == 3


def test_metadata_in_any_encoding(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.avi"), "w") as output:
        output.metadata["title"] = "XXXXXX"
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        output.mux([*stream.encode(av.VideoFrame.from_ndarray(pictures(1)[0], "rgb24")), *stream.encode()])
    data = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(data.replace(b"XXXXXX", b"caf\xe9\xff!"))
    assert len(VideoFrames(tmp_path / "a.avi")) == 1


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_does_not_hang(tmp_path: Path, kind: str) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / "a.mp4"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(ValueError, match=f"is a {kind}.*no video file"):
        VideoFrames(path)


def test_a_forged_size_takes_no_memory(tmp_path: Path) -> None:
    def forged(packets: Sequence[Any]) -> list[Any]:
        made = av.Packet(bomb(30000, 30000))
        made.pts = made.dts = 0
        made.time_base, made.is_keyframe = packets[0].time_base, True
        return [made]

    remux(encode(tmp_path / "a.mov", "png", frames=pictures(2)), tmp_path / "bomb.mov", forged)
    with pytest.raises(ValueError, match=r"bomb\.mov"):
        VideoFrames(tmp_path / "bomb.mov")[0]


def test_opening_keeps_stamps_and_no_packets(tmp_path: Path) -> None:
    """90 MB of raw video; a second process says by how much it grows."""
    frame = av.VideoFrame(640, 480, "yuv420p")
    with av.open(str(tmp_path / "a.avi"), "w") as output:
        stream = output.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for _ in range(200):
            frame.pts = None
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    code = (
        "import resource, sys; from seqtrack_lit.data.video.file import VideoFrames\n"
        "most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before = most(); frames = VideoFrames(sys.argv[1]); print(len(frames), most() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.avi"], capture_output=True, text=True, check=True)
    count, grown = done.stdout.split()
    assert (tmp_path / "a.avi").stat().st_size > 90e6
    assert int(count) == 200
    assert float(grown) < 30  # MiB
