"""Where frames to be tracked come from: a video file, a folder of images, a camera."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from seqtrack_lit.checks import number
from seqtrack_lit.crops import Image
from seqtrack_lit.data.frames import ListedFrames
from seqtrack_lit.data.layout import images_in
from seqtrack_lit.data.sequence import Frames
from seqtrack_lit.data.video import VideoFrames


@dataclass
class Source:
    """Frames in order.

    Attributes:
        name: for the files of the result.
        frames: iterate once; RGB uint8.
        count: number of frames; None where nobody knows (a camera).
        rate: frames per second.
    """

    name: str
    frames: Iterator[Image]
    count: int | None
    rate: float


def open_source(source: str | int, *, rate: float | None = None) -> Source:
    """Open a video file, a folder of images or a camera by its number.

    Args:
        source: path, or the camera's number.
        rate: frames per second; None takes the file's or the camera's, else 25.

    Raises:
        FileNotFoundError: no such file, folder or camera.
        ValueError: not a video, a folder without images, or a rate that is not > 0.
    """
    if rate is not None:
        number("", above=True, rate=rate)
    if isinstance(source, int) or (source.isdecimal() and not Path(source).exists()):
        return _camera(int(source), rate)
    path = Path(source).expanduser()
    frames: Frames
    if path.is_dir():
        frames = ListedFrames(str(path), images_in(path))
        return Source(path.resolve().name, _in_order(frames), len(frames), rate or 25.0)
    frames = VideoFrames(path)
    return Source(path.stem, _in_order(frames), len(frames), rate or frames.frame_rate or 25.0)


def _in_order(frames: Frames) -> Iterator[Image]:
    return (frames[index] for index in range(len(frames)))


def _camera(number: int, rate: float | None) -> Source:
    camera = cv2.VideoCapture(number)
    if not camera.isOpened():
        raise FileNotFoundError(
            f"source={number}: no camera of this number can be opened; try 0, 1, ..., close other programs that use "
            "it, or give a video file"
        )

    def frames() -> Iterator[Image]:
        try:
            while True:
                good, image = camera.read()
                if not good:
                    return
                yield np.ascontiguousarray(image[..., ::-1])
        finally:
            camera.release()

    return Source(f"camera{number}", frames(), None, rate or camera.get(cv2.CAP_PROP_FPS) or 25.0)
