"""A video file as `Frames`: any frame by its number, exactly; in order without seeking."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from seqtrack_lit.crops import Image

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")


class VideoFrames:
    """The frames of a video file, in the order they are shown, turned upright as the file says.

    Opening reads the time stamps of all packets without decoding them, so `len` is exact. Frame i + 1 after frame i
    only decodes on; any other frame seeks to the key frame before it. Safe to pass to worker processes: each opens
    the file for itself.

    Args:
        path: a file FFmpeg can read.

    Attributes:
        frame_rate: average frames a second, as the file says; 0 where it does not.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a video, or a video without frames.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.frame_rate = 0.0
        if not self.path.is_file():
            raise FileNotFoundError(f"no video file {self.path}")
        self._stamps, self._seekable = self._scan()
        self._decoder: _Decoder | None = None

    def __len__(self) -> int:
        return len(self._stamps)

    def __getitem__(self, index: int) -> Image:
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {self.path}, which has {len(self)} frames")
        index %= len(self)
        # After a fork the open file would be shared with the parent, and so would its position.
        if self._decoder is None or self._decoder.process != os.getpid():
            self._decoder = _Decoder(self.path)
        try:
            frame = self._decoder.read(index, self._stamps, self._seekable)
        except (av.error.FFmpegError, StopIteration) as error:
            self._decoder = None
            raise ValueError(
                f"cannot decode frame {index} of {self.path} ({len(self)} frames announced): the file is damaged "
                f"or cut off; write it anew, for example ffmpeg -i {self.path.name} fixed.mp4 ({error})"
            ) from error
        return frame

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoder": None}

    def _scan(self) -> tuple[list[int], bool]:
        """Time stamps of the frames in the order shown; whether they suffice to find a frame."""
        try:
            with av.open(str(self.path)) as container:
                if not container.streams.video:
                    raise ValueError(f"{self.path} holds no video (its streams: {_kinds(container)})")
                stream = container.streams.video[0]
                self.frame_rate = float(stream.average_rate or 0)
                packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
                stamps = [packet.pts for packet in packets if packet.pts is not None]
            if len(stamps) == len(packets) == len(set(stamps)) > 0 and self._reaches(len(stamps)):
                return sorted(stamps), True
            # Some AVI files give no usable stamps: count by decoding, and read from the start.
            with av.open(str(self.path)) as container:
                count = sum(1 for _ in container.decode(video=0))
        except av.error.FFmpegError as error:
            raise ValueError(
                f"cannot open {self.path} as a video: {error.strerror}; expected a whole file that FFmpeg reads "
                f"({' '.join(VIDEO_SUFFIXES)}) or a folder of images; copy it again or convert it"
            ) from error
        if count == 0:
            raise ValueError(f"{self.path} holds no frame")
        return list(range(count)), False

    def _reaches(self, count: int) -> bool:
        """Whether the decoder gives back stamps at all (one frame tells)."""
        with av.open(str(self.path)) as container:
            return count > 0 and next(container.decode(video=0)).pts is not None


def _kinds(container: Any) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "none"


class _Decoder:
    """One open file and the place where it stands."""

    def __init__(self, path: Path) -> None:
        self.process = os.getpid()
        self.container = av.open(str(path))
        self.stream = self.container.streams.video[0]
        # No threads, here and in `_upright`: a worker that was forked from a process that had read the video drops
        # that process's decoder, and would wait for ever for its threads, which were not forked.
        self.stream.codec_context.thread_count = 1
        self.frames: Iterator[Any] = self.container.decode(self.stream)
        self.next = 0

    def read(self, index: int, stamps: list[int], seekable: bool) -> Image:
        if index != self.next:
            self._go(index, stamps, seekable)
        if seekable:
            frame = next(frame for frame in self.frames if frame.pts is not None and frame.pts >= stamps[index])
            if frame.pts != stamps[index]:
                raise StopIteration(f"the frame of time stamp {stamps[index]} does not decode")
        else:
            for _ in range(index - self.next):
                next(self.frames)
            frame = next(self.frames)
        self.next = index + 1
        return _upright(frame)

    def _go(self, index: int, stamps: list[int], seekable: bool) -> None:
        if not seekable:
            if index < self.next:
                self.container.seek(0)
                self.frames, self.next = self.container.decode(self.stream), 0
            return
        self.container.seek(stamps[index], stream=self.stream, backward=True)
        self.frames = self.container.decode(self.stream)


def _upright(frame: Any) -> Image:
    image = np.asarray(frame.to_ndarray(format="rgb24", threads=1), np.uint8)
    turns = round(frame.rotation / 90) % 4  # counter-clockwise, as phones write it
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
