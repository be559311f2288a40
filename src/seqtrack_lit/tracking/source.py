"""Where frames to be tracked come from: a video file, a folder of images, a camera, a stream."""

import errno
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import av
import av.error
import cv2
import numpy as np
from jaxtyping import UInt8

from seqtrack_lit.checks import number, printable
from seqtrack_lit.crops import Image
from seqtrack_lit.data.sets.layout import images_in
from seqtrack_lit.data.video.containers import ANY_TITLE
from seqtrack_lit.data.video.file import VideoFrames, as_image, require_file
from seqtrack_lit.data.video.frames import MAX_PIXELS, ListedFrames
from seqtrack_lit.data.video.sequence import Frames
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
        numbers: of the frames in the source, the first one is 0; without end where the source's is not known.
        again: any of these frames by its place; None of a camera or a stream, which show each frame once.
        notes: what was left out or changed, in sentences; more may come while frames are read.
    """

    name: str
    frames: Iterator[Image]
    count: int | None
    rate: float
    numbers: range
    again: Frames | None = None
    notes: list[str] = field(default_factory=list)


def open_source(
    source: str | int, *, rate: float | None = None, start: int = 0, end: int | None = None, stride: int = 1
) -> Source:
    """Open a video file, a folder of images, a camera by its number or device, or a stream by its address.

    Args:
        source: path, the camera's number, or protocol://address.
        rate: frames per second; None takes the file's or the camera's (a part of it with a stride), else 25.
        start: number of the first frame, from 0.
        end: number of the frame before which to stop; None: none.
        stride: take every so manieth frame.

    Raises:
        FileNotFoundError: no such file, folder, camera or stream.
        ValueError: not a video, a pipe or device that is none, a folder without images, no frame from `start` on, or a
            rate that is not > 0.
    """
    if rate is not None:
        number("", above=True, rate=rate)
    source = str(source)
    chosen = range(start, sys.maxsize if end is None else end, stride)
    path = Path(source.removeprefix("file://")).expanduser()
    camera = _camera_of(source, path)
    if camera is not None:
        found = _camera(camera)
    elif is_stream(source):
        found = _stream(source)
    else:
        found = _file(path)
    if found.count is not None:
        if start >= found.count:
            raise ValueError(f"start={start}: {found.name} has {found.count} frames, the last is {found.count - 1}")
        chosen = chosen[: -(-(min(chosen.stop, found.count) - start) // stride)]
    sized = _OneSize(found.again, chosen, found.notes)
    return Source(
        _name(found.name),
        sized.in_order(found.frames, known=found.count is not None),
        None if found.count is None else len(chosen),
        rate or (found.rate or 25.0) / stride,
        chosen,
        None if found.again is None else sized,
        found.notes,
    )


@dataclass
class _Opened:
    """What was opened, whole: as `Source`, in whatever sizes its frames have."""

    name: str
    frames: Iterable[Image]
    count: int | None
    rate: float
    again: Frames | None = None
    notes: list[str] = field(default_factory=list)


class _OneSize:
    """The chosen frames in the size of the first one, so that boxes stay pixels of it; a change is noted once."""

    def __init__(self, whole: Frames | None, chosen: range, notes: list[str]) -> None:
        self.whole, self.chosen, self.notes = whole, chosen, notes
        self.size: tuple[int, int] | None = None
        self.noted = False

    def __len__(self) -> int:
        assert self.whole is not None
        return len(self.chosen[: -(-(min(self.chosen.stop, len(self.whole)) - self.chosen.start) // self.chosen.step)])

    def __getitem__(self, index: int, /) -> Image:
        assert self.whole is not None
        if self.size is None and index > 0:
            self[0]
        return self._scaled(self.whole[self.chosen[index]], self.chosen[index])

    def in_order(self, frames: Iterable[Image], *, known: bool) -> Iterator[Image]:
        """All of them; where their number is known, those between are not read."""
        if self.whole is not None and known:
            yield from (self[index] for index in range(len(self.chosen)))
            return
        last = None if self.chosen.stop == sys.maxsize else self.chosen.stop
        taken = islice(frames, self.chosen.start, last, self.chosen.step)
        yield from (self._scaled(image, number) for image, number in zip(taken, self.chosen, strict=False))

    def _scaled(self, image: UInt8[np.ndarray, "_ _ 3"], number: int) -> Image:
        height, width = image.shape[:2]
        self.size = self.size or (width, height)
        if (width, height) == self.size:
            return image
        if not self.noted:
            self.noted = True
            self.notes.append(
                f"from frame {number} on pictures are {width} x {height} instead of {self.size[0]} x {self.size[1]}: "
                "they are scaled, and boxes are in pixels of the first frame"
            )
        kind = cv2.INTER_AREA if width > self.size[0] else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(image, self.size, interpolation=kind), np.uint8)


def _camera_of(source: str, path: Path) -> str | None:
    """The number of the camera that a source names: 0, /dev/video0 or v4l2:///dev/video0; None where it is none."""
    if source.isdecimal() and not there(Path(source)):
        return source
    device = source.removeprefix("v4l2://") if is_stream(source) else ""
    if not device and there(path) and path.is_char_device():
        device = str(path.resolve())
    named = re.fullmatch(r"/dev/video(\d+)", device)
    return named[1] if named else None


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


def _file(path: Path) -> _Opened:
    """A video file or a folder of images."""
    if not there(path):
        require_file(path)
    if path.is_dir():
        listed = ListedFrames(str(path), images_in(path))
        return _Opened(path.resolve().name, _in_order(listed), len(listed), 0.0, listed)
    video = VideoFrames(path)
    count = len(video) if video.counted else None
    return _Opened(path.stem, video, count, video.frame_rate, video, video.notes)


def _stream(address: str) -> _Opened:
    shown = printable(without_password(address))[:_LONGEST_NAME]
    options = {"max_pixels": str(MAX_PIXELS)}
    if address.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # over UDP, pictures break where packets are lost
    try:
        container = av.open(address, timeout=_SECONDS, options=options, **ANY_TITLE)
    except av.error.FFmpegError as error:
        raise FileNotFoundError(
            f"source={shown}: this stream cannot be opened: {error.strerror}; is the address right and can it be "
            "reached from here?"
        ) from error
    stream: Any = container.streams.best("video")
    if stream is None:
        raise ValueError(f"source={shown}: this stream holds no video")

    notes: list[str] = []

    def frames() -> Iterator[Image]:
        count = 0
        try:
            for frame in container.decode(stream):
                yield as_image(frame)
                count += 1
        except av.error.FFmpegError as error:
            with suppress(av.error.FFmpegError):
                for frame in stream.codec_context.decode(None):  # what the decoder still holds
                    yield as_image(frame)
                    count += 1
            if not (address.startswith("http") and error.errno == errno.EIO):
                raise ValueError(
                    f"source={shown}: the stream broke off after {count} frames: {error.strerror}"
                ) from error
            notes.append(f"the stream ended after {count} frames; its server announced no end")
        finally:
            container.close()

    name = re.sub(r"[^\w.-]+", "_", shown.partition("://")[2].partition("?")[0]).strip("_.")[:100] or "stream"
    return _Opened(name, frames(), None, float(stream.average_rate or 25.0), notes=notes)


def _camera(text: str) -> _Opened:
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

    return _Opened(f"camera{number}", frames(), None, camera.get(cv2.CAP_PROP_FPS) or 25.0)
