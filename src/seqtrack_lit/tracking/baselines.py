"""Trackers to compare with: the box that never moves, and two classics from OpenCV, through the same protocol."""

from typing import Literal, get_args

import cv2
import numpy as np
from jaxtyping import Float64

from seqtrack_lit.crops import Image
from seqtrack_lit.tracking.tracker import Estimate, check_first_box, check_image, not_started

Method = Literal["kcf", "csrt"]
SMALLEST = 4  # pixels; below it OpenCV's correlation filters fail on most images (tried with random boxes)


class StaticBox:
    """The first box in every frame: the lower bound of every score."""

    def __init__(self, name: str = "static") -> None:
        self.name = name
        self.box: np.ndarray | None = None  # until init

    def init(self, image: Image, box_xywh: Float64[np.ndarray, "4"]) -> None:
        """Keep the box (xywh, pixels)."""
        check_image(image)
        check_first_box(box_xywh, image)
        self.box = np.array(box_xywh, np.float64)

    def update(self, image: Image) -> Estimate:
        """The first box."""
        check_image(image)
        if self.box is None:
            raise not_started()
        return Estimate(self.box.copy())


class OpenCVTracker:
    """KCF or CSRT of opencv-contrib with its default settings.

    OpenCV wants BGR images and whole pixels inside the image, at least a few wide: the box is rounded, clipped and
    widened for it, and offset and ratio of the given box to it are kept. Where OpenCV loses the target or
    fails, the last box is returned with confidence 0, and tracking goes on with the next frame.

    Args:
        method: "kcf" (Henriques et al. 2015) or "csrt" (Lukezic et al. 2017).
        name: name of the tracker and of its results folder; None is the method.

    Raises:
        ValueError: unknown method, or an OpenCV without these trackers.
    """

    def __init__(self, method: Method, name: str | None = None) -> None:
        if method not in get_args(Method):
            raise ValueError(f"unknown OpenCV tracker {method!r}; allowed: {', '.join(get_args(Method))}")
        if not hasattr(cv2, "TrackerCSRT_create"):
            raise ValueError(
                "this OpenCV has no KCF and CSRT: another OpenCV package overwrote opencv-contrib-python-headless; "
                "reinstall it: pip install --force-reinstall --no-deps opencv-contrib-python-headless"
            )
        self.method, self.name = method, name or method
        self.box: np.ndarray | None = None  # until init

    def init(self, image: Image, box_xywh: Float64[np.ndarray, "4"]) -> None:
        """Start on the first frame; box xywh in pixels."""
        check_image(image)
        check_first_box(box_xywh, image)
        self.box = box = np.array(box_xywh, np.float64)
        self.tracker = getattr(cv2, f"Tracker{self.method.upper()}_create")()
        near, far = _whole_pixels(box, image)
        self.ratio = box[2:] / (far - near)
        self.shift = box[:2] + box[2:] / 2 - (near + far) / 2
        self.running = False
        try:
            self.tracker.init(_bgr(image), tuple(int(v) for v in (*near, *(far - near))))
            self.running = True
        except cv2.error:  # a shape its filters cannot hold: the last box is kept
            pass

    def update(self, image: Image) -> Estimate:
        """The target's place in the next frame; the last one with confidence 0 where OpenCV finds nothing."""
        check_image(image)
        if self.box is None:
            raise not_started()
        found = False
        if self.running:
            try:
                found, (x, y, w, h) = self.tracker.update(_bgr(image))
            except cv2.error:
                found = False
        if not found or not (w > 0 and h > 0):  # on flat images KCF finds a box of no size
            return Estimate(self.box.copy(), 0.0, lost=True)
        size = np.array([w, h]) * self.ratio
        self.box = np.concatenate([np.array([x + w / 2, y + h / 2]) + self.shift - size / 2, size])
        return Estimate(self.box.copy())


def _bgr(image: Image) -> Image:
    return np.ascontiguousarray(image[..., ::-1])


def _whole_pixels(
    box_xywh: Float64[np.ndarray, "4"], image: Image
) -> tuple[Float64[np.ndarray, "2"], Float64[np.ndarray, "2"]]:
    """The box's corners as whole pixels inside the image, at least SMALLEST apart."""
    size = np.array(image.shape[1::-1])
    smallest = np.minimum(SMALLEST, size)
    near = np.clip(np.round(box_xywh[:2]), 0, size - smallest)
    far = np.clip(np.round(box_xywh[:2] + box_xywh[2:]), near + smallest, size)
    return near, far


def make_baseline(method: str, device: str = "cpu") -> StaticBox | OpenCVTracker:
    """A baseline by name; all run on the CPU, whatever the device.

    Raises:
        ValueError: unknown name.
    """
    return StaticBox() if method == "static" else OpenCVTracker(method)  # type: ignore[arg-type]
