"""Writing videos that play everywhere, and drawing boxes on frames. Reading is data/video.py."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from jaxtyping import Float64

from seqtrack_lit.crops import Image
from seqtrack_lit.data.sequence import Sequence

Color = tuple[int, int, int]
# RGB, told apart by colour-blind readers too (Okabe and Ito 2008); drawn over a dark edge, so seen on any ground.
COLORS: tuple[Color, ...] = ((240, 228, 66), (86, 180, 233), (230, 120, 50), (0, 190, 140), (204, 121, 167))
TRUTH: Color = (255, 255, 255)
CLIP_FRAMES = 300  # of a clip at most, from the first
CLIP_HEIGHT = 360  # small images are enlarged by a whole factor to about this


class VideoWriter:
    """Writes RGB frames as H.264 (yuv420p) MP4, which browsers and office programs play.

    The file appears under its name when it is complete; leaving the `with` block, also by an error or Ctrl-C,
    completes it with the frames written so far. Odd sizes get one more row or column (H.264 needs even ones), and
    a frame of another size is scaled to the first one's.

    Args:
        path: the .mp4 file; folders are made.
        rate: frames per second.
        quality: constant rate factor of x264; smaller is better and larger, 18 looks like the original.
    """

    def __init__(self, path: str | Path, *, rate: float = 25.0, quality: int = 20) -> None:
        if not rate > 0:
            raise ValueError(f"a video needs a frame rate > 0, got {rate!r}")
        self.path, self.rate, self.quality = Path(path), rate, quality
        self.frames = 0
        self._partial = self.path.with_name(f".{self.path.name}.part")
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
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Complete the file; without frames there is none.

        Raises:
            OSError: it cannot be written, say because the disk is full; what there was of it is removed.
        """
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            container.mux(self._stream.encode())
            container.close()
        except OSError as error:
            self._partial.write_bytes(b"")  # FFmpeg may hold the file open: removing alone would not free its space
            self._partial.unlink()
            raise OSError(error.errno, f"could not write video {self.path}: {error.strerror}") from error
        self._partial.replace(self.path)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, width: int, height: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # faststart puts the index first, so that a browser shows the first frame at once
        self._container = av.open(str(self._partial), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream("libx264", rate=Fraction(self.rate).limit_denominator(1001))
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": str(self.quality), "preset": "veryfast"}


def write_clip(
    path: Path,
    video: Sequence,
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


def draw_boxes(
    image: Image,
    boxes_xywh: list[Float64[np.ndarray, "4"]],
    *,
    colors: tuple[Color, ...] = COLORS,
    labels: list[str] | None = None,
) -> Image:
    """A copy of the image with thin coloured boxes over a dark edge; labels stand above them.

    Args:
        image: RGB.
        boxes_xywh: pixels of this image; a box that is not finite is left out.
        colors: RGB, one a box, repeated.
        labels: short texts, one a box.
    """
    drawn = image.copy()
    height, width = image.shape[:2]
    thin = max(1, round(min(height, width) ** 0.5 / 8.5))  # 1 px at 144, 2 at 288, 3 at 720 lines
    for number, box in enumerate(boxes_xywh):
        if not np.isfinite(box).all():
            continue
        color = colors[number % len(colors)]
        x1, y1, x2, y2 = (round(v) for v in np.clip([*box[:2], *(box[:2] + box[2:])], -1e4, 1e4).tolist())
        cv2.rectangle(drawn, (x1, y1), (x2, y2), (20, 20, 20), thin + 2)
        cv2.rectangle(drawn, (x1, y1), (x2, y2), color, thin)
        if labels:
            _write(drawn, labels[number], (x1, y1 - thin - 3), color, thin)
    return drawn


def _write(image: Image, text: str, at: tuple[int, int], color: Color, thin: int) -> None:
    """A small label, kept inside the image."""
    scale = 0.35 + 0.1 * thin
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thin)
    x = min(max(at[0], 1), max(1, image.shape[1] - w - 1))
    y = min(max(at[1], h + 2), image.shape[0] - 2)
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), thin + 2, cv2.LINE_AA)
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, color, thin, cv2.LINE_AA)
