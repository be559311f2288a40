"""What a tracker is, and the loop that runs one over a video."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float64

from seqtrack_lit.crops import Image


@dataclass(frozen=True)
class Estimate:
    """A tracker's answer for one frame: image box xywh in pixels; confidence in [0, 1]."""

    box_xywh: Float64[np.ndarray, "4"]
    confidence: float = 1.0
    updated: bool = False  # whether a template was taken from this frame


class Tracker(Protocol):
    """The convention of got10k and OpenCV: one init, then one update a frame, in order."""

    name: str

    def init(self, image: Image, box_xywh: Float64[np.ndarray, "4"]) -> None:
        """Start on the first frame with the given box (xywh, pixels)."""
        ...

    def update(self, image: Image) -> Estimate:
        """The target's place in the next frame."""
        ...
