"""What makes masks of a tracker's boxes, and the simplest that does: the filled rectangle.

Letters: H W height and width of the image.
"""

import math
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from seqtrack_lit.crops import Image


class Refined(NamedTuple):
    """A target's mask in the size of the image, and its score in [0, 1] where the refiner has one."""

    mask: Bool[np.ndarray, "H W"]
    score: float | None = None


@runtime_checkable
class MaskRefiner(Protocol):
    """Box and image to mask; one init on the first frame, then one refine a frame. Nothing returns to the tracker.

    A copy (copy.copy) serves another target and shares the network.
    """

    name: str

    def init(self, image: Image, box_xywh: Float[np.ndarray, "4"]) -> None:
        """Start on the first frame with the given box (xywh, pixels)."""

    def refine(self, image: Image, box_xywh: Float[np.ndarray, "4"]) -> Refined:
        """The mask of the target that the tracker found in this box (xywh, pixels)."""


def finite(box_xywh: Float[np.ndarray, "4"]) -> tuple[float, float, float, float]:
    """The four numbers of a box.

    Raises:
        ValueError: one is NaN or infinite.
    """
    x, y, w, h = (float(v) for v in box_xywh)
    if not all(map(math.isfinite, (x, y, w, h))):
        raise ValueError(f"the tracker's box x,y,w,h = {x:g},{y:g},{w:g},{h:g} is not finite; it has no mask")
    return x, y, w, h


class RectangleRefiner:
    """The box itself, corners rounded to whole pixels (half to even) and clipped to the image."""

    name = "rectangle"

    def init(self, image: Image, box_xywh: Float[np.ndarray, "4"]) -> None:
        """Nothing is kept of the first frame."""

    def refine(self, image: Image, box_xywh: Float[np.ndarray, "4"]) -> Refined:
        """The filled box; empty outside of the image.

        Raises:
            ValueError: the box is not finite.
        """
        height, width = image.shape[:2]
        x, y, w, h = finite(box_xywh)
        x1, x2 = (min(max(round(v), 0), width) for v in (x, x + w))
        y1, y2 = (min(max(round(v), 0), height) for v in (y, y + h))
        mask = np.zeros((height, width), np.bool_)
        mask[y1:y2, x1:x2] = True
        return Refined(mask)
