"""Where frames to be tracked come from: a video file, a folder of images, a camera, a stream."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import av.error
import cv2
import numpy as np

from seqtrack_lit.checks import number, printable
from seqtrack_lit.crops import Image
from seqtrack_lit.data.sets.layout import images_in
from seqtrack_lit.data.video.file import VideoFrames, as_image, require_file
from seqtrack_lit.data.video.frames import MAX_PIXELS, ListedFrames
from seqtrack_lit.files import there

_SECONDS = 15  # that a stream may take to begin, or to go on
_LONGEST_NAME = 300  # letters of an address in a message
_LONGEST_NUMBER = 4  # digits that no camera's number has


@dataclass
class Source:
    """Frames in order, all of the first one's size.

    Attributes:
        name: for the files of the result.
        frames: iterate once; RGB uint8.
        count: number of frames; None where it is not known before the end (a camera, a stream, some videos).
        rate: frames per second.
        notes: what was left out or changed, in sentences; more may come while frames are read.
    """

    name: str
    frames: Iterator[Image]
    count: int | None
    rate: float
    notes: list[str] = field(default_factory=list)


def open_source(source: str | int, *, rate: float | None = None) -> Source:
    """Open a video file, a folder of images, a camera by its number or device, or a stream by its address.

    Args:
        source: path, the camera's number, or protocol://address.
        rate: frames per second; None takes the file's or the camera's, else 25.

    Raises:
        FileNotFoundError: no such file, folder, camera or stream.
        ValueError: not a video, a pipe or device that is none, a folder without images, or a rate that is not > 0.
    """
    if rate is not None:
        number("", above=True, rate=rate)
    source = str(source)
    if source.isdecimal() and not there(Path(source)):
        return _camera(source, rate)
    path = Path(source.removeprefix("file://")).expanduser()
    if is_stream(source):
        return _stream(source, rate)
    if not there(path):
        require_file(path)
    if path.is_char_device() and (device := re.fullmatch(r"/dev/video(\d+)", str(path.resolve()))):
        return _camera(device[1], rate)
    if path.is_dir():
        listed, notes = ListedFrames(str(path), images_in(path)), list[str]()
        return Source(_name(path.resolve().name), _one_size(_in_order(listed), notes), len(listed), rate or 25.0, notes)
    frames = VideoFrames(path)
    rate = rate or frames.frame_rate or 25.0
    count = len(frames) if frames.counted else None
    return Source(_name(path.stem), _one_size(frames, frames.notes), count, rate, frames.notes)


def is_stream(source: object) -> bool:
    """Whether this is an address, as rtsp://camera/1, and no file of such a name."""
    return bool(re.match(r"(?!file:)[a-z][a-z0-9+.-]*://", str(source))) and not there(Path(str(source)))


def without_password(source: object) -> str:
    """The source as it may be shown and kept: of an address, name and password are left out."""
    return re.sub(r"^([a-z][a-z0-9+.-]*://)[^/]*@", r"\1", str(source))


def _name(text: str) -> str:
    """For files of the result: escape codes of terminals and what is no text become "_"."""
    return "".join(c if c == printable(c) else "_" for c in text)


def _in_order(frames: ListedFrames) -> Iterator[Image]:
    return (frames[index] for index in range(len(frames)))


def _one_size(frames: Iterable[Image], notes: list[str]) -> Iterator[Image]:
    """All frames in the size of the first one, so that boxes stay pixels of it; a change is noted once."""
    size, noted = (0, 0), False
    for index, image in enumerate(frames):
        height, width = image.shape[:2]
        size = size if index else (width, height)
        if (width, height) == size:
            yield image
            continue
        if not noted:
            noted = True
            notes.append(
                f"from frame {index} on pictures are {width} x {height} instead of {size[0]} x {size[1]}: they are "
                "scaled, and boxes are in pixels of the first frame"
            )
        kind = cv2.INTER_AREA if width > size[0] else cv2.INTER_LINEAR
        yield np.asarray(cv2.resize(image, size, interpolation=kind), np.uint8)


def _stream(address: str, rate: float | None) -> Source:
    shown = printable(without_password(address))[:_LONGEST_NAME]
    options = {"max_pixels": str(MAX_PIXELS)}
    if address.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # over UDP, pictures break where packets are lost
    try:
        container = av.open(address, timeout=_SECONDS, options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise FileNotFoundError(
            f"source={shown}: this stream cannot be opened: {error.strerror}; is the address right and can it be "
            "reached from here?"
        ) from error
    stream: Any = container.streams.best("video")
    if stream is None:
        raise ValueError(f"source={shown}: this stream holds no video")

    def frames() -> Iterator[Image]:
        count = 0
        try:
            for frame in container.decode(stream):
                yield as_image(frame)
                count += 1
        except av.error.FFmpegError as error:
            raise ValueError(f"source={shown}: the stream broke off after {count} frames: {error.strerror}") from error
        finally:
            container.close()

    notes = list[str]()
    name = re.sub(r"[^\w.-]+", "_", shown.partition("://")[2].partition("?")[0]).strip("_.")[:100] or "stream"
    return Source(name, _one_size(frames(), notes), None, rate or float(stream.average_rate or 25.0), notes)


def _camera(text: str, rate: float | None) -> Source:
    number = int(text[:_LONGEST_NUMBER])
    camera = cv2.VideoCapture(number) if len(text) < _LONGEST_NUMBER else None
    if camera is None or not camera.isOpened():
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
