"""A square crop of an image: cut it, and map boxes into it and out of it (paper section 4.1).

Official: lib/train/data/processing_utils.py (sample_target, transform_image_to_crop) and
lib/test/tracker/seqtrack.py (map_box_back). The window's corner is rounded to whole pixels for cutting only;
boxes are mapped with the unrounded centre and scale = size / side, in training and in tracking.
"""

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from seqtrack_lit.boxes import Boxes

Image = UInt8[np.ndarray, "height width 3"]
Normaliser = Literal["S", "S-1"]
Padding = Literal["exact", "official"]
_LARGEST_SIDE = 30_000  # pixels: 2.7 GB; five times a target that fills a picture of 8K has 28,800


@dataclass(frozen=True, eq=False)
class ImagePart:
    """A part of an image, perhaps at a lower resolution.

    pixels: RGB; they show `region_xywh`, spread evenly over it.
    region_xywh: in whole image pixels; may reach out of the image, where `pixels` are black or of no meaning.
    shape: height, width and channels of the whole image.
    """

    pixels: Image
    region_xywh: tuple[int, int, int, int]
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Crop:
    """A window of `side` x `side` image pixels around `center` (x, y), shown as `size` x `size` pixels."""

    center: tuple[float, float]
    side: int
    size: int

    @classmethod
    def around(
        cls, box_xywh: Float64[np.ndarray, "4"] | tuple[float, float, float, float], *, factor: float, size: int
    ) -> "Crop":
        """The window around a box: side = ceil(sqrt(w * h) * factor) image pixels.

        Raises:
            ValueError: the box has no positive, finite area, or the window is larger than can be held in memory.
        """
        x, y, w, h = (float(v) for v in box_xywh)
        if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(w) and math.isfinite(h) and w > 0 and h > 0):
            raise ValueError(f"cannot crop around box x,y,w,h = {x:g},{y:g},{w:g},{h:g}: width and height must be > 0")
        side = max(1, math.ceil(math.sqrt(w * h) * factor))
        if side > _LARGEST_SIDE:
            raise ValueError(
                f"cannot crop a window of {side} pixels around box x,y,w,h = {x:g},{y:g},{w:g},{h:g} (factor "
                f"{factor:g}): at most {_LARGEST_SIDE}; give a smaller factor or smaller pictures"
            )
        return cls(center=(x + 0.5 * w, y + 0.5 * h), side=side, size=size)

    @property
    def scale(self) -> float:
        """Crop pixels per image pixel."""
        return self.size / self.side

    @property
    def window_xywh(self) -> tuple[int, int, int, int]:
        """The window in whole image pixels."""
        # Python's round is half-to-even, as in the official code.
        x1, y1 = (round(c - self.side * 0.5) for c in self.center)
        return x1, y1, self.side, self.side

    def cut(
        self, image: Image | ImagePart, *, padding: Padding = "exact", mirrored: bool = False
    ) -> UInt8[np.ndarray, "size size 3"]:
        """The window's pixels, resized bilinearly; see `cut_window`. Of a reduced image without its `padding`."""
        if not isinstance(image, ImagePart):
            return cut_window(image, self.window_xywh, self.size, padding, mirrored)
        if image.pixels.shape[1::-1] == image.region_xywh[2:]:
            return cut_window(image, self.window_xywh, self.size, padding, mirrored)
        return self._cut_reduced(image, mirrored)

    def _cut_reduced(self, image: ImagePart, mirrored: bool) -> UInt8[np.ndarray, "size size 3"]:
        """The window out of an image at a lower resolution."""
        (x, y, side, _), (left, top, wide, high) = self.window_xywh, image.region_xywh
        rows, columns = image.pixels.shape[:2]
        x = image.shape[1] - x - side if mirrored else x
        if (x, y, side, side) == image.region_xywh and rows == columns == self.size:
            return np.asarray(cv2.flip(image.pixels, 1), np.uint8) if mirrored else image.pixels
        step = side / self.size  # image pixels of a crop pixel
        start, along = (x + side - step / 2, -step) if mirrored else (x + step / 2, step)
        matrix = np.array([[along, 0, start - left], [0, step, y + step / 2 - top]])  # to the middle of a crop pixel
        matrix *= [[columns / wide], [rows / high]]
        matrix[:, 2] -= 0.5  # OpenCV's pixels have whole numbers in their middle
        pixels, matrix[:, 2] = _around(image.pixels, matrix, self.size)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        # OpenCV warps four channels in less than half the time of three
        four = cv2.warpAffine(cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA), matrix, (self.size, self.size), flags=flags)
        return np.asarray(cv2.cvtColor(four, cv2.COLOR_RGBA2RGB), np.uint8)

    def to_crop(
        self, boxes_xywh: Float64[np.ndarray, "rows 4"], normaliser: Normaliser = "S-1"
    ) -> Float64[np.ndarray, "rows 4"]:
        """Image boxes (xywh, pixels) to crop boxes (cxcywh, fractions; may lie outside [0, 1]).

        normaliser "S-1" puts the crop's centre at (S - 1) / 2 and divides by S - 1, as official training does;
        "S" is the exact inverse of `to_image`.
        """
        span = self.size - 1 if normaliser == "S-1" else self.size
        (x0, y0), scale, half = self.center, self.scale, span / 2
        rows = [  # plain numbers: for the few boxes of a sample five times as fast as arrays
            (
                (half + (x + 0.5 * w - x0) * scale) / span,
                (half + (y + 0.5 * h - y0) * scale) / span,
                w * scale / span,
                h * scale / span,
            )
            for x, y, w, h in boxes_xywh.tolist()
        ]
        return np.array(rows, np.float64).reshape(-1, 4)

    def to_image(self, boxes_cxcywh: Boxes) -> Boxes:
        """Crop boxes (cxcywh, fractions of the side) to image boxes (xywh, pixels, float64).

        The operations and their precision are the official ones: to crop pixels and back to image scale in the
        boxes' own precision (float32 from tokens), float64 from there.
        """
        pixels = (boxes_cxcywh * self.size / self.scale).double()
        shift: Tensor = torch.tensor(self.center, dtype=torch.float64) - 0.5 * self.size / self.scale
        center, wh = pixels[..., :2], pixels[..., 2:]
        return torch.cat([center + shift - 0.5 * wh, wh], dim=-1)


def cut_window(
    image: Image | ImagePart,
    window_xywh: tuple[int, int, int, int],
    size: int,
    padding: Padding,
    mirrored: bool = False,
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """A window's pixels, resized bilinearly to a square; black outside the image.

    Args:
        image: RGB; or a part of one that holds all of the window that lies inside the image, not reduced.
        window_xywh: whole image pixels; may reach out of the image or lie outside of it.
        size: side of the result, pixels.
        padding: "official" repeats a quirk of the official code: a window that reaches the image's right (bottom)
            edge loses the image's last column (row) to black. Needed for equal pixels with official checkpoints.
        mirrored: the window lies in the image mirrored left to right; only what it shows is mirrored.

    Raises:
        ValueError: the part of an image does not hold what the window shows.
    """
    pixels, (ox, oy) = (image.pixels, image.region_xywh[:2]) if isinstance(image, ImagePart) else (image, (0, 0))
    height, width = image.shape[:2]
    x1, y1, x2, y2 = *window_xywh[:2], window_xywh[0] + window_xywh[2], window_xywh[1] + window_xywh[3]
    shift = 1 if padding == "official" else 0
    left, top = max(0, -x1), max(0, -y1)
    right, bottom = max(x2 - width + shift, 0), max(y2 - height + shift, 0)
    first, last = (width - x2 + right, max(0, width - x1 - left)) if mirrored else (x1 + left, x2 - right)
    rows = slice(y1 + top - oy, y2 - bottom - oy)
    if last <= first or rows.stop <= rows.start:
        return np.zeros((size, size, 3), np.uint8)
    inside = pixels[max(rows.start, 0) : max(rows.stop, 0), max(first - ox, 0) : max(last - ox, 0)]
    if inside.shape[:2] != (rows.stop - rows.start, last - first):
        raise ValueError(f"the window {window_xywh} is not wholly inside the part that is there of the image")
    if mirrored:  # before it is resized: OpenCV's rounding is not symmetric for windows of 2048 pixels and others
        inside = cv2.flip(inside, 1)
    if left or top or right or bottom:
        below, beside = y2 - y1 - top - inside.shape[0], x2 - x1 - left - inside.shape[1]
        inside = cv2.copyMakeBorder(inside, top, below, left, beside, cv2.BORDER_CONSTANT)
    return np.asarray(cv2.resize(inside, (size, size)), np.uint8)


def _around(
    pixels: Image, matrix: Float64[np.ndarray, "2 3"], size: int
) -> tuple[UInt8[np.ndarray, "_ _ 3"], Float64[np.ndarray, "2"]]:
    """What an upright matrix shows of an image, with a pixel on each side, and the shift that leads there."""
    spans, shift = [], matrix[:, 2].copy()
    for axis, length in ((0, pixels.shape[1]), (1, pixels.shape[0])):
        ends = matrix[axis, 2], matrix[axis, 2] + matrix[axis, axis] * (size - 1)
        first = min(max(math.floor(min(ends)) - 1, 0), length - 1)
        spans.append(slice(first, max(math.ceil(max(ends)) + 2, first + 1)))
        shift[axis] -= first
    return pixels[spans[1], spans[0]], shift
