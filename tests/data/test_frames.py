"""Images of every kind become RGB uint8; what cannot be read is named."""

import os
import resource
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.data.clips import bomb
from tests.data.fixtures import image, write_image

from seqtrack_lit.crops import ImagePart
from seqtrack_lit.data.video.frames import ListedFrames, NumberedFrames, read_image
from seqtrack_lit.data.video.sequence import FramesPart

COLOUR = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)
GREY = COLOUR[..., :1].repeat(3, 2)


@pytest.mark.parametrize("name", ["a.png", "größe.png", "with blank.png", "猫 (1).png", "a.bmp", "a.tif"])
def test_names_and_kinds(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "ein ordner" / name, COLOUR)
    np.testing.assert_array_equal(read_image(tmp_path / "ein ordner" / name), COLOUR)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (GREY[..., 0], GREY),
        (GREY[..., 0].astype(np.uint16) * 256 + 17, GREY),
        (COLOUR[..., ::-1].astype(np.uint16) * 256 + 99, COLOUR),
        (np.dstack([COLOUR[..., ::-1], np.full((9, 7), 3, np.uint8)]), COLOUR),
    ],
    ids=["grey", "grey16", "rgb16", "rgba"],
)
def test_depths_and_channels(tmp_path: Path, stored: np.ndarray, expected: np.ndarray) -> None:
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", stored)[1].tobytes())
    read = read_image(tmp_path / "a.png")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("sampling", [0x411111, 0x221111, 0x211111, 0x121111, 0x111111])
def test_a_jpeg_is_what_opencv_makes_of_it(tmp_path: Path, sampling: int, progressive: int) -> None:
    smooth = cv2.resize(COLOUR, (83, 61), interpolation=cv2.INTER_CUBIC)
    options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    for number, stored in enumerate((smooth, smooth[..., 0])):
        data = cv2.imencode(".jpg", stored, options)[1]
        (tmp_path / f"{number}.jpg").write_bytes(data.tobytes())
        expected = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        np.testing.assert_array_equal(read_image(tmp_path / f"{number}.jpg"), expected)


def test_a_jpeg_is_turned_as_its_exif_says_and_may_be_cmyk(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter clockwise
    image = Image.fromarray(cv2.resize(COLOUR, (70, 90)))
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert read_image(tmp_path / "turned.jpg").shape == (70, 90, 3)
    np.testing.assert_allclose(read_image(tmp_path / "cmyk.jpg"), np.asarray(image), atol=60)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_a_reduced_jpeg_shows_the_same(tmp_path: Path, factor: int) -> None:
    smooth, odd = (cv2.resize(COLOUR, size, interpolation=cv2.INTER_CUBIC) for size in ((96, 64), (93, 61)))
    for name, stored in (("0.jpg", smooth), ("1.png", smooth), ("2.jpg", odd)):
        write_image(tmp_path / name, stored)
    frames = ListedFrames(str(tmp_path), ["0.jpg", "1.png", "2.jpg"])
    reduced, other = frames.reduced(0, factor), frames.reduced(2, factor)
    assert isinstance(reduced, ImagePart)
    assert isinstance(other, ImagePart)
    assert (reduced.shape, reduced.region_xywh, other.shape) == (smooth.shape, (0, 0, 96, 64), odd.shape)
    assert other.pixels.shape == (-(-61 // factor), -(-93 // factor), 3)
    expected = cv2.resize(frames[0], (96 // factor, 64 // factor), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.pixels.astype(int) - expected).mean() < 8
    np.testing.assert_array_equal(frames.reduced(1, factor), smooth)  # no JPEG: whole


@pytest.mark.parametrize("keep", [0, 10, 500, -5])
def test_unreadable_is_named(tmp_path: Path, keep: int) -> None:
    data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8))[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(data[:keep])
    with pytest.raises(ValueError, match=r"cannot read image .*a\.jpg \(\d+ bytes\).*download it again"):
        read_image(tmp_path / "a.jpg")


def test_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read image .*00000003.jpg: No such file.*unpack it again"):
        NumberedFrames(str(tmp_path), 1, 8, ".jpg", 5)[2]


def test_positions(tmp_path: Path) -> None:
    for number in (0, 9, 10):
        write_image(tmp_path / f"{number}.png", image(number))
    frames = NumberedFrames(str(tmp_path), 9, 1, ".png", 2)
    assert [Path(frames.path(i)).name for i in (0, 1, -1)] == ["9.png", "10.png", "10.png"]
    listed = ListedFrames(str(tmp_path), ["10.png", "0.png"])
    np.testing.assert_array_equal(listed[0], frames[1])
    part = FramesPart(listed, 1, 1)
    np.testing.assert_array_equal(part[0], listed[1])
    for wrong in (frames, listed, part):
        with pytest.raises(IndexError, match="frame 5 of"):
            wrong[5]
    with pytest.raises(ValueError, match=r"has 2 frames, but boxes for frames 1 to 2"):
        FramesPart(listed, 1, 2)


def thermal(folder: Path, suffix: str, kind: type) -> list[np.ndarray]:
    """Nine frames whose values rise by 10 a frame and span 40: a hot thing in a small part of the type's range."""
    frames = [(7300 + 10 * k + np.arange(48 * 64) % 40).reshape(48, 64).astype(kind) for k in range(9)]
    for k, values in enumerate(frames):
        (folder / f"{k}{suffix}").write_bytes(cv2.imencode(suffix, values)[1].tobytes())
    return frames


@pytest.mark.parametrize(("suffix", "kind"), [(".png", np.uint16), (".tif", np.uint16), (".tif", np.float32)])
def test_deep_frames_share_one_range(tmp_path: Path, suffix: str, kind: type) -> None:
    stored = thermal(tmp_path, suffix, kind)
    frames = NumberedFrames(str(tmp_path), 0, 1, suffix, 9)
    for k in (8, 0, 4):  # whichever comes first: values 7300 to 7419 become 0 to 255
        expected = np.clip((stored[k].astype(float) - 7300) * 256 / 119, 0, 255)
        np.testing.assert_allclose(frames[k][..., 1], expected, atol=1)
    np.testing.assert_array_equal(frames[4], ListedFrames(str(tmp_path), [f"{k}{suffix}" for k in range(9)])[4])


@pytest.mark.parametrize(("kind", "top"), [(np.uint16, 65535), (np.float32, 1)])
def test_photographs_keep_the_range_of_their_type(tmp_path: Path, kind: type, top: float) -> None:
    values = (np.linspace(0.2, 0.7, 48 * 64).reshape(48, 64) * top).astype(kind)
    (tmp_path / "a.tif").write_bytes(cv2.imencode(".tif", values)[1].tobytes())
    expected = values.astype(float) / (top + (kind is np.uint16)) * 256
    np.testing.assert_allclose(read_image(tmp_path / "a.tif")[..., 0], np.floor(expected), atol=1)


def test_colours_of_floats(tmp_path: Path) -> None:
    values = np.zeros((8, 8, 3), np.float32)
    values[..., 2], values[4:, :, 0], values[0, 0] = 0.5, 0.99, np.nan  # OpenCV's order: red, and blue below
    (tmp_path / "a.tif").write_bytes(cv2.imencode(".tif", values)[1].tobytes())
    image = read_image(tmp_path / "a.tif")
    assert [image[2, 2].tolist(), image[6, 6].tolist(), image[0, 0].tolist()] == [[128, 0, 0], [128, 0, 253], [0, 0, 0]]


def forged(kind: str) -> bytes:
    """A small file whose header says 30000 x 30000: 2.7 GB as RGB."""
    if kind == "tif":
        data = bytearray(cv2.imencode(".tif", np.zeros((64, 64, 3), np.uint8))[1].tobytes())
        for tag in (256, 257):
            at = data.index(struct.pack("<H", tag))
            data[at + 8 : at + 10] = struct.pack("<H", 30000)
        return bytes(data)
    if kind == "png":
        return bomb(30000, 30000)
    data = bytearray(cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes())
    at = data.index(b"\xff\xc0")  # start of frame: length, precision, height, width
    data[at + 5 : at + 9] = struct.pack(">HH", 30000, 30000)
    return bytes(data)


@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_a_forged_header_is_refused_before_memory_is_taken(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a.{kind}").write_bytes(forged(kind))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=rf"a\.{kind} says it has .* pixels.*damaged.*make it smaller"):
        read_image(tmp_path / f"a.{kind}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.timeout(20)
def test_what_is_no_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1.jpg")
    (tmp_path / "2.jpg").symlink_to("/dev/zero")
    for number in (1, 2):
        with pytest.raises(ValueError, match=rf"{number}\.jpg is no regular file"):
            NumberedFrames(str(tmp_path), 1, 1, ".jpg", 2)[number - 1]
