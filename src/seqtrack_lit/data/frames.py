"""Images on disk as `Frames`: opened one by one, RGB uint8 whatever the file holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from seqtrack_lit.crops import Image
from seqtrack_lit.data.sequence import Frames

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def read_image(path: str | Path) -> Image:
    """One image as RGB uint8 [H W 3]; grey is repeated, 16 bits keep their upper 8, transparency is dropped.

    Raises:
        ValueError: the file is missing, empty, cut off or no image OpenCV knows.
    """
    try:
        data = Path(path).read_bytes()  # and not cv2.imread, which fails silently and dislikes some names
    except OSError as error:
        raise ValueError(
            f"cannot read image {path}: {error.strerror}; the frame belongs to an annotated video, so the download "
            "or the unpacking is incomplete: unpack it again"
        ) from error
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if image is None:
        raise ValueError(
            f"cannot read image {path} ({len(data)} bytes): empty, cut off or not an image; unpack or download "
            "it again (seqtrack-data check=NAME lists all such files)"
        )
    return np.asarray(image, np.uint8)


def _position(index: int, count: int, what: str) -> int:
    if not -count <= index < count:
        raise IndexError(f"frame {index} of {what}, which has {count} frames")
    return index % count


@dataclass(frozen=True)
class NumberedFrames:
    """Images named by consecutive numbers: `folder/{first + i:0{digits}d}{suffix}`."""

    folder: str
    first: int
    digits: int
    suffix: str
    count: int

    def __len__(self) -> int:
        return self.count

    def path(self, index: int) -> str:
        """Where frame `index` (0-based) lies."""
        number = self.first + _position(index, self.count, self.folder)
        return f"{self.folder}/{number:0{self.digits}d}{self.suffix}"

    def __getitem__(self, index: int) -> Image:
        return read_image(self.path(index))


@runtime_checkable
class FileNames(Protocol):
    """File names by position: a list, or a part of an index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> str: ...


@dataclass(frozen=True)
class ListedFrames:
    """Images with names of any kind, in the order given, relative to `folder`."""

    folder: str
    files: FileNames

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> str:
        """Where frame `index` (0-based) lies."""
        return f"{self.folder}/{self.files[_position(index, len(self.files), self.folder)]}"

    def __getitem__(self, index: int) -> Image:
        return read_image(self.path(index))


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
        return self.whole[self.start + _position(index, self.count, "a part of a video")]
