"""Writing videos that play everywhere. Reading is data/video/file.py."""

import io
import logging
import os
from fractions import Fraction
from math import sqrt
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import cv2
import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image as Picture

from seqtrack_lit.crops import Image
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.files import write_atomic
from seqtrack_lit.pictures import COLORS, TRUTH, draw_boxes

log = logging.getLogger(__name__)
CLIP_FRAMES = 300  # of a clip at most, from the first
CLIP_HEIGHT = 360  # small images are enlarged by a whole factor to about this
PREVIEW_SIDE, PREVIEW_FRAMES, PREVIEW_SECONDS = 360, 60, 8  # pixels; pictures (up to twice as many); of playing
LONGEST_SIDE = 4096  # pixels of a written frame; together with `MOST_PIXELS` what players take (H.264 level 5.1)
MOST_PIXELS = 36_864 * 256  # of 8K x264 alone would hold 2.2 GB


class VideoWriter:
    """Writes RGB frames as H.264 (yuv420p) MP4, which browsers and office programs play.

    The file appears under its name when it is complete, a former one stays until then; leaving the `with` block, also
    by an error or Ctrl-C, completes it with the frames written so far, and a killed program leaves nothing. Odd sizes
    get one more row or column (H.264 needs even ones), larger ones than players take are made smaller, and a frame
    of another size is scaled to the first one's.

    Args:
        path: the .mp4 file; folders are made.
        rate: frames per second.
        quality: constant rate factor of x264; smaller is better and larger, 18 looks like the original.

    Raises:
        ValueError: a rate that no video can have.
    """

    def __init__(self, path: str | Path, *, rate: float = 25.0, quality: int = 20) -> None:
        if not 1e-6 <= rate <= 1e6:
            raise ValueError(f"a video needs a frame rate from 0.000001 to 1,000,000 frames a second, got {rate!r}")
        self.path, self.rate, self.quality = Path(path), rate, quality
        self.frames = 0
        self._file: _Unfinished | None = None
        self._container: Any = None
        self._stream: Any = None

    def write(self, image: Image) -> None:
        """Append one frame."""
        if self._container is None:
            self._open(image.shape[1], image.shape[0])
        width, height = self._stream.width, self._stream.height
        shown = (height - image.shape[0], width - image.shape[1])
        if shown[0] not in (0, 1) or shown[1] not in (0, 1):
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        elif any(shown):
            image = np.pad(image, ((0, shown[0]), (0, shown[1]), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        try:
            self._container.mux(self._stream.encode(frame))
        except av.error.FFmpegError as error:  # it names a number of an open file
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self.frames += 1

    def close(self) -> None:
        """Complete the file; without frames there is none.

        Raises:
            OSError: it cannot be written, say because the disk is full; what there was of it is removed.
        """
        if self._container is None or self._file is None:
            return
        container, self._container, file = self._container, None, self._file
        try:
            container.mux(self._stream.encode())
            container.close()
            file.publish()
        except (OSError, av.error.FFmpegError) as error:
            file.discard()
            raise OSError(error.errno, f"could not write video {self.path}: {error.strerror}") from error

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, width: int, height: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _Unfinished(self.path)
        # faststart puts the index first, so that a browser shows the first frame at once
        options = {"movflags": "+faststart"}
        self._container = av.open(f"file:{self._file.place}", "w", format="mp4", options=options)
        rate = Fraction(self.rate).limit_denominator(1001)
        if self.rate < 1:
            rate = 1 / Fraction(1 / self.rate).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate)
        factor = min(1, LONGEST_SIDE / max(width, height), sqrt(MOST_PIXELS / (width * height)))
        if factor < 1:
            log.warning(
                "%s is smaller than its frames of %d x %d; boxes stay in their pixels", self.path, width, height
            )
        width, height = max(1, int(width * factor)), max(1, int(height * factor))
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": str(self.quality), "preset": "veryfast"}


class Preview:
    """A small animation of a whole result: WebP, pictures spread evenly over the video however long it is.

    While pictures come, every n-th one is kept; where they become too many, every second one is dropped and n doubles.

    Args:
        path: the .webp file, written by `close`.
        rate: frames per second of the video; the animation plays `PREVIEW_SECONDS` at most.
    """

    def __init__(self, path: Path, *, rate: float) -> None:
        self.path, self.rate = path, rate
        self.kept: list[UInt8[np.ndarray, "_ _ 3"]] = []
        self.frames, self.every = 0, 1

    def write(self, image: Image) -> None:
        """Append one frame."""
        if self.frames % self.every == 0:
            factor = min(1, PREVIEW_SIDE / max(image.shape[:2]))
            size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
            self.kept.append(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8))
            if len(self.kept) == 2 * PREVIEW_FRAMES:
                self.kept, self.every = self.kept[::2], 2 * self.every
        self.frames += 1

    def close(self) -> None:
        """Write the file; without frames there is none.

        Raises:
            OSError: it cannot be written.
        """
        if not self.kept:
            return
        first, *others = (Picture.fromarray(image) for image in self.kept)
        duration = round(1000 * min(self.every / self.rate, PREVIEW_SECONDS / len(self.kept)))
        out = io.BytesIO()
        first.save(
            out, "WEBP", save_all=True, append_images=others, duration=max(20, duration), loop=0, quality=60, method=2
        )
        write_atomic(self.path, out.getvalue())


class _Unfinished:
    """A file that has no name until it is complete, so that a killed program leaves none behind.

    Where the system knows no such files it is called .NAME.part, and the next one of its name replaces it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, -1
        self.place = str(path.with_name(f".{path.name}.part"))
        try:
            self.file = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
        except (AttributeError, OSError):  # another system than Linux, or a file system without
            return
        unnamed = f"/proc/self/fd/{self.file}"
        if Path(unnamed).exists():
            self.place = unnamed
        else:
            os.close(self.file)
            self.file = -1

    def publish(self) -> None:
        """Give it its name; a former file of this name is gone then, and not before."""
        named = Path(self.place)
        if self.file >= 0:
            named = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
            named.unlink(missing_ok=True)
            os.link(self.place, named, src_dir_fd=self.file)  # the argument makes Python follow the link in /proc
            os.close(self.file)
        named.replace(self.path)

    def discard(self) -> None:
        """Free its space; FFmpeg may still hold it open, so removing alone would not."""
        if self.file >= 0:
            os.ftruncate(self.file, 0)
            os.close(self.file)
        else:
            os.truncate(self.place, 0)
            Path(self.place).unlink()


def write_clip(
    path: Path,
    video: Video,
    boxes_xywh: Float64[np.ndarray, "frames 4"],
    confidences: Float64[np.ndarray, "frames"] | None,
    *,
    shrink: bool = False,
) -> Path:
    """A video of a result: the tracked box in yellow with its confidence, the ground truth in white.

    Args:
        path: the .mp4 file.
        video: the sequence; where it has no box for a frame, none is drawn.
        boxes_xywh: tracked boxes in pixels, one a frame.
        confidences: of the boxes, where they are known.
        shrink: make large images as small as small ones are made large.
    """
    rate = video.meta.get("frame_rate", 25.0)
    with VideoWriter(path, rate=rate if isinstance(rate, float) and rate > 0 else 25.0) as writer:
        for index in range(min(CLIP_FRAMES, len(video), len(boxes_xywh))):
            image = video.frames[index]
            factor: float = max(1, round(CLIP_HEIGHT / image.shape[0]))
            if shrink:
                factor = min(factor, CLIP_HEIGHT / image.shape[0])
            if factor != 1:
                kind = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
                image = np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=kind))
            truth = video.boxes[index] if index < len(video.boxes) else np.full(4, np.nan)
            shown = truth if video.visible[min(index, len(video.visible) - 1)] else np.full(4, np.nan)
            boxes = [shown * factor, boxes_xywh[index] * factor]
            labels = ["", "" if confidences is None else f"{confidences[index]:.2f}"]
            writer.write(draw_boxes(image, boxes, colors=(TRUTH, COLORS[0]), labels=labels))
    return path
