"""Files that are cut short or damaged say so once, whole ones never; a file leads to no other file or address."""

import re
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.data.clips import COUNT, encode, pictures

from seqtrack_lit.data.video.containers import missing_bytes
from seqtrack_lit.data.video.file import VideoFrames

FRONT = {"movflags": "faststart"}  # the table of all frames before the frames, as for playing from the web
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


@pytest.mark.parametrize(
    ("name", "codec", "options", "told"),
    [
        ("a.mp4", "h264", FRONT, "bytes are missing; 24 of 40 pictures are whole"),
        ("a.mp4", "mpeg2", FRONT, "bytes are missing; 18 of 40 pictures are whole"),
        ("a.mov", "prores", FRONT, "bytes are missing; 27 of 40 pictures are whole"),
        ("a.mp4", "h264", FRAGMENTED, "bytes are missing; 24 pictures are whole"),
        ("a.mkv", "h264", {}, "bytes are missing; 24 pictures are whole"),
        ("a.webm", "vp9", {}, "bytes are missing; 24 pictures are whole"),
        ("a.avi", "mjpeg", {}, "its end is missing; 19 of 40 pictures are whole"),
    ],
)
def test_a_file_cut_short_is_told_once(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], told: str
) -> None:
    path = encode(tmp_path / name, codec, options=options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 7 // 10])
    frames = VideoFrames(path)
    assert 16 < len(list(frames)) < COUNT
    assert [note for note in frames.notes if "is cut short" in note] == frames.notes[:1]
    assert frames.notes[0].startswith(f"{path} is cut short: its ")
    assert frames.notes[0].endswith(told)


def test_a_file_cut_before_its_index_names_what_is_missing(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 104])
    with pytest.raises(ValueError, match=r"a\.mp4 as a video: its last 100 bytes are missing; .*copy it again"):
        VideoFrames(path)


@pytest.mark.parametrize(
    ("name", "options"), [("a.mp4", FRONT), ("a.mp4", FRAGMENTED), ("a.mp4", {}), ("a.mkv", {}), ("a.webm", {})]
)
def test_every_missing_byte_is_counted(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    path = encode(tmp_path / name, "vp9" if name == "a.webm" else "h264", options=options)
    data = path.read_bytes()
    assert missing_bytes(path) == 0
    path.write_bytes(data + b"SEFTappended by a camera" * 9)
    assert missing_bytes(path) == 0
    path.write_bytes(data[:-1])
    assert missing_bytes(path) == 1


def test_a_live_recording_has_no_end_of_its_own(tmp_path: Path) -> None:
    assert VideoFrames(encode(tmp_path / "a.webm", "vp9", options={"live": "1"})).notes == []


@pytest.mark.parametrize(
    ("name", "codec", "least"),  # H.264 with arithmetic coding decodes to something else, and often notices nothing
    [("a.mp4", "mpeg4", 6), ("a.mkv", "mpeg4", 6), ("a.avi", "mpeg4", 6), ("a.mov", "prores", 6), ("a.mp4", "h264", 2)],
)
def test_damaged_pictures_are_told_once(tmp_path: Path, name: str, codec: str, least: int) -> None:
    """Sixty bytes inside of pictures are others, in eight ways."""
    path, told = encode(tmp_path / name, codec), 0
    whole, data = list(VideoFrames(path)), path.read_bytes()
    for seed in range(8):
        at = len(data) * (30 + 5 * seed) // 100
        path.write_bytes(data[:at] + np.random.default_rng(seed).bytes(60) + data[at + 60 :])
        frames, read = VideoFrames(path), list[np.ndarray]()
        try:
            read.extend(frames)
        except ValueError as error:
            told += "the file is damaged" in str(error)
            continue
        wrong = {k for k, (a, b) in enumerate(zip(read, whole, strict=False)) if not np.array_equal(a, b)}
        notes = [note for note in frames.notes if "came with errors" in note]
        assert len(notes) <= 1
        for note in notes:
            assert note.startswith(f"{path} is damaged: ")
            count, first = map(int, re.findall(r": (\d+) of its pictures came with errors, first frame (\d+)", note)[0])
            assert 0 < count <= len(wrong)
            assert first in wrong
        told += bool(frames.notes)
    assert told >= least


def test_of_each_frame_a_stamp_is_kept(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", "mpeg4", frames=pictures(1, 16, 16) * 2000)
    VideoFrames(path)
    tracemalloc.start()
    try:
        frames = VideoFrames(path)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(frames) == 2000
    assert kept < 30 * 2000  # bytes: 8 a stamp, 16 a key frame, one in eight
    assert most < 100 * 2000


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile other.mp4\n",
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\nother.ts\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        "<Period><AdaptationSet><Representation id='0'><BaseURL>other.mp4</BaseURL></Representation>"
        "</AdaptationSet></Period></MPD>\n",
    ],
    ids=["concat", "m3u8", "sdp", "dash"],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.ffconcat"])
def test_a_list_of_other_files_is_no_video(tmp_path: Path, text: str, name: str) -> None:
    encode(tmp_path / "other.mp4")
    encode(tmp_path / "other.ts")
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"cannot open .*a\.\w+ as a video: .*expected"):
        VideoFrames(tmp_path / name)


def test_a_pattern_of_pictures_is_no_video(tmp_path: Path) -> None:
    """FFmpeg would take the name as the pattern of others and leave the file itself alone."""
    for name in ("a%d.png", "a0.png", "a1.png"):
        cv2.imwrite(str(tmp_path / name), pictures(1)[0])
    with pytest.raises(ValueError, match=r"cannot open .*a%d\.png as a video"):
        VideoFrames(tmp_path / "a%d.png")
