"""Images of every kind become RGB uint8; what cannot be read is named."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.data.fixtures import image, write_image

from seqtrack_lit.data.frames import FramesPart, ListedFrames, NumberedFrames, read_image

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
