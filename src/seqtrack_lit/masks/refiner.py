"""What makes masks of a tracker's boxes, and the simplest that does: the filled rectangle.

Letters: H W height and width of the image.
"""

from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64

from seqtrack_lit.crops import Image
from seqtrack_lit.masks import check_masks

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

    def init(self, image: Image, box_xywh: Float64[np.ndarray, "4"]) -> None:
        """Start on the first frame with the given box (xywh, pixels)."""
        ...

    def refine(self, image: Image, box_xywh: Float64[np.ndarray, "4"]) -> Refined:
        """The mask of the target that the tracker found in this box (xywh, pixels)."""
        ...


class RectangleRefiner:
    """The box itself, corners rounded to whole pixels (half to even) and clipped to the image."""

    name = "rectangle"

    def init(self, image: Image, box_xywh: Float64[np.ndarray, "4"]) -> None:
        """Nothing is kept of the first frame."""

    def refine(self, image: Image, box_xywh: Float64[np.ndarray, "4"]) -> Refined:
        """The filled box; empty outside of the image."""
        height, width = image.shape[:2]
        x, y, w, h = box_xywh.tolist()
        x1, x2 = (min(max(round(v), 0), width) for v in (x, x + w))
        y1, y2 = (min(max(round(v), 0), height) for v in (y, y + h))
        mask = np.zeros((height, width), np.bool_)
        mask[y1:y2, x1:x2] = True
        return Refined(mask)


def make_refiner(name: str, checkpoint: str | Path | None = None, *, device: str = "cpu") -> MaskRefiner:
    """A refiner by its name.

    Args:
        name: rectangle, alpha_refine or sam2.
        checkpoint: as in `check_masks`.
        device: cpu or cuda.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: an unknown name, a checkpoint missing, too many or not of this network, sam2 without its extra.
    """
    check_masks(name, checkpoint)
    if name == "rectangle" or checkpoint is None:
        return RectangleRefiner()
    path = Path(checkpoint).expanduser()
    if name == "alpha_refine":
        from seqtrack_lit.masks.alpha_refine import AlphaRefiner

        return AlphaRefiner.load(path, device=device)
    from seqtrack_lit.masks.sam2 import Sam2Refiner

    return Sam2Refiner.load(path, device=device)
