"""What a tracker is, and the loop that runs one over a video."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64

from seqtrack_lit.boxes import misread
from seqtrack_lit.checks import shown
from seqtrack_lit.crops import Image
from seqtrack_lit.data.video.sequence import Video


@dataclass(frozen=True)
class Estimate:
    """The output of a tracker for one frame: image box xywh in pixels; confidence in [0, 1].

    updated: whether a template was taken from this frame. lost: whether the target is probably not in the box; always
    False of trackers that cannot tell.
    """

    box_xywh: Float64[np.ndarray, "4"]
    confidence: float = 1.0
    updated: bool = False
    lost: bool = False


@runtime_checkable
class Videos(Protocol):
    """Sequences made on access: a data.video.index.SequenceIndex, a list, generated videos."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Video: ...


@runtime_checkable
class Tracker(Protocol):
    """The convention of got10k and OpenCV: one init, then one update a frame, in order."""

    name: str

    def init(self, image: Image, box_xywh: Float64[np.ndarray, "4"]) -> None:
        """Start on the first frame with the given box (xywh, pixels)."""
        ...

    def update(self, image: Image) -> Estimate:
        """The target's place in the next frame."""
        ...


@dataclass(frozen=True, eq=False)
class Track:
    """The output of a tracker for a whole video, one row a frame.

    Args:
        boxes: image boxes xywh in pixels; row 0 is the given box.
        times: seconds the tracker took, without reading the frame; row 0 is its start.
        confidences: mean token probability in [0, 1]; row 0 is 1.
        updated: frames a template was taken from.
        lost: frames in which the target is probably not in the box.
    """

    boxes: Float64[np.ndarray, "frames 4"]
    times: Float64[np.ndarray, "frames"]
    confidences: Float64[np.ndarray, "frames"]
    updated: Bool[np.ndarray, "frames"]
    lost: Bool[np.ndarray, "frames"]


def run_tracker(tracker: Tracker, sequence: Video, *, progress: Callable[[], None] | None = None) -> Track:
    """Track the target of row 0 of `sequence.boxes` through all frames.

    Boxes come on the CPU, which waits for the device: so wall time is the tracker's whole time.

    Args:
        tracker: started anew on the first frame.
        sequence: the video; only its first box is read.
        progress: called after every frame.

    Raises:
        ValueError: no frames, a first box that is not finite, empty or outside the first frame, an unreadable frame;
            the message names the sequence.
    """
    check_video(sequence)
    count = len(sequence.frames)
    boxes, times = np.zeros((count, 4)), np.zeros(count)
    confidences, updated, lost = np.ones(count), np.zeros(count, bool), np.zeros(count, bool)
    for index in range(count):
        image = sequence.frames[index]
        if index == 0:
            boxes[0] = sequence.boxes[0]
            check_first_box(boxes[0], image, f"sequence {sequence.name}")
        start = perf_counter()
        if index == 0:
            tracker.init(image, boxes[0].copy())
        else:
            estimate = tracker.update(image)
            boxes[index], confidences[index] = estimate.box_xywh, estimate.confidence
            updated[index], lost[index] = estimate.updated, estimate.lost
        times[index] = perf_counter() - start
        if progress is not None:
            progress()
    return Track(boxes, times, confidences, updated, lost)


def check_video(sequence: Video) -> None:
    """A video that can be tracked has a frame and the box of the first one.

    Raises:
        ValueError: names the sequence.
    """
    if len(sequence.frames) == 0 or len(sequence.boxes) == 0:
        raise ValueError(
            f"sequence {sequence.name}: {len(sequence.frames)} frames and {len(sequence.boxes)} boxes; tracking needs "
            "at least one frame and the box of the first"
        )


def check_image(image: object) -> None:
    """What a tracker is given must be a picture: RGB, uint8, [height, width, 3].

    Raises:
        ValueError: names what came instead.
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,) and image.size:
        return
    came = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise ValueError(f"a frame must be RGB as a numpy array, uint8 of shape (height, width, 3), got {came}")


def check_first_box(box_xywh: Any, image: Image, where: str = "", *, corners: bool = False) -> None:
    """A tracker can only start on a target that the first frame shows.

    Args:
        box_xywh: four numbers, pixels.
        image: the first frame.
        where: the beginning of the message.
        corners: also refuse what is two corners rather than x,y,w,h; for boxes that people type.

    Raises:
        ValueError: the box is not four finite numbers, is smaller than a pixel or far larger than the image, lies
            outside of it, or is in fractions.
    """
    try:
        x, y, w, h = (float(v) for v in np.asarray(box_xywh))
    except (TypeError, ValueError):
        raise ValueError(
            f"{where}{': ' if where else ''}a first box is four numbers x,y,w,h in pixels, got {shown(box_xywh)}"
        ) from None
    height, width = image.shape[:2]
    given = f"{where}{': ' if where else ''}first box x,y,w,h = {x:g},{y:g},{w:g},{h:g}"
    frame = f"the first frame of {width} x {height} pixels"
    if not all(math.isfinite(v) for v in (x, y, w, h)) or w <= 0 or h <= 0:
        raise ValueError(f"{given} has no finite, positive width and height; give the target's box in pixels")
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise ValueError(
            f"{given} lies outside {frame}; boxes are x,y of the top-left corner, "
            "then width and height, in pixels (not two corners, not fractions)"
        )
    found = misread(np.array([[x, y, w, h]]), width, height)
    kind = found[0] if found else ""
    if kind == "fractions" and max(width, height) > 2:
        raise ValueError(f"{given} seems to be in fractions; multiply by width and height of {frame}")
    if w < 1 or h < 1:
        raise ValueError(f"{given} is smaller than a pixel; give the target's box in pixels of {frame}")
    if kind == "huge":
        raise ValueError(f"{given} is far larger than {frame}; give the box in pixels of the frame as it is")
    if kind == "corners" and corners:
        raise ValueError(
            f"{given} reaches out of {frame} and seems to be two corners; write {x:g},{y:g},{w - x:g},{h - y:g} then, "
            "or only the part inside the frame where it is not"
        )


def not_started() -> ValueError:
    """The error of an update before init."""
    return ValueError("give the target first: init(image, box_xywh) on the first frame, then update(image) on the next")
