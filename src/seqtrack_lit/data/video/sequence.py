"""A video with boxes: the one type that data sets, trackers and the evaluation share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64

from seqtrack_lit.crops import Crop, Image, ImagePart


@runtime_checkable
class Frames(Protocol):
    """Frames on demand: paths, a video file, a generated scene, arrays."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Image:
        """Frame `index` (0-based) as RGB uint8; raises ValueError naming the file when it cannot be read."""
        ...


@runtime_checkable
class ReducibleFrames(Frames, Protocol):
    """Frames that can be decoded at a part of their size in less time."""

    def reduced(self, index: int, factor: int, /) -> Image | ImagePart:
        """Frame `index` at 1 / factor (1, 2, 4 or 8) of its size, quickly; whole and exact where it is no JPEG."""
        ...


class CroppedFrames(Frames, Protocol):
    """Frames of which only parts are there."""

    def part(self, index: int, crop: Crop, /) -> ImagePart:
        """What of frame `index` is needed to cut this crop, or the same crop of the mirrored frame."""
        ...


@dataclass(frozen=True, eq=False)
class Video:
    """A video, the target's box in its frames, and what is known about it.

    Args:
        name: name of the sequence, also of its result files.
        frames: the images, opened one by one when asked for.
        boxes: image boxes xywh in pixels, as published; one row a frame, or a single row where only the first
            box is public (server benchmarks). Absent targets keep what the data set wrote (zeros, NaN, stale).
        visible: whether the target can be seen, one value per row of `boxes`.
        meta: facts by name where known: object_class, attributes, resolution (W, H), cover, frame_rate ... An array
            has one value per row of `boxes`; every other kind of value is of the whole video.
    """

    name: str
    frames: Frames
    boxes: Float64[np.ndarray, "rows 4"]
    visible: Bool[np.ndarray, "rows"]
    meta: Mapping[str, object] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frames)

    def beginning(self, count: int | None) -> "Video":
        """The first `count` frames (None: all) with everything that is known of them: the one place that cuts."""
        if count is None or len(self) <= count:
            return self
        meta = {name: value[:count] if isinstance(value, np.ndarray) else value for name, value in self.meta.items()}
        return Video(self.name, FramesPart(self.frames, 0, count), self.boxes[:count], self.visible[:count], meta)


class FramesPart:
    """`count` frames of others, from number `start` on.

    Raises:
        ValueError: there are not so many.
    """

    def __init__(self, frames: Frames, start: int, count: int) -> None:
        if start + count > len(frames):
            what = getattr(frames, "path", "the video")
            raise ValueError(f"{what} has {len(frames)} frames, but boxes for frames {start} to {start + count - 1}")
        self.whole, self.start, self.count = frames, start, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Image:
        return self.whole[self.start + position(index, self.count, "a part of a video")]


def position(index: int, count: int, what: object) -> int:
    """The number of a frame from 0, negative ones counted from the end.

    Raises:
        IndexError: `what` has no such frame.
    """
    if not -count <= index < count:
        raise IndexError(f"frame {index} of {what}, which has {count} frames")
    return index % count
