"""Trackers to compare with, through the same protocol: the box that never moves, and what OpenCV has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from jaxtyping import Float64

from seqtrack_lit.crops import Image
from seqtrack_lit.tracking.tracker import Estimate, check_first_box, check_image, not_started

Method = Literal["kcf", "csrt", "nano", "vit"]
SMALLEST = 4  # pixels; below it OpenCV's correlation filters fail on most images (tried with random boxes)
FILES = {  # parameters of OpenCV's classes: the pattern of the file's name
    "nano": {"backbone": "*backbone*.onnx", "neckhead": "*head*.onnx"},
    "vit": {"net": "*vit*.onnx"},
}
_ORIGIN = {
    "nano": "nanotrack_backbone_sim.onnx and nanotrack_head_sim.onnx of github.com/HonglinChu/SiamTrackers, folder "
    "NanoTrack/models/nanotrackv2",
    "vit": "object_tracking_vittrack_2023sep.onnx of github.com/opencv/opencv_zoo, folder "
    "models/object_tracking_vittrack",
}


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


def baseline_files(method: str, folder: str | Path | None) -> dict[str, Path]:
    """The ONNX files that a baseline reads; none of them comes with the package.

    Args:
        method: name of the baseline.
        folder: where the files are; ignored for a baseline without files.

    Returns:
        Files by parameter of OpenCV's class; empty for a baseline without files.

    Raises:
        FileNotFoundError: no folder, or a file is missing; the message says where it comes from.
        ValueError: several files could be meant.
    """
    files: dict[str, Path] = {}
    for parameter, pattern in FILES.get(method, {}).items():
        remedy = f"take {_ORIGIN[method]}"
        if folder is None:
            raise FileNotFoundError(f"baseline={method}: give baseline_files=FOLDER with its ONNX files; {remedy}")
        place = Path(folder).expanduser()
        if not place.is_dir():
            raise FileNotFoundError(f"baseline={method}: baseline_files={folder}: no such folder; {remedy}")
        found = sorted(path for path in place.glob(pattern) if path.is_file())
        if not found:
            raise FileNotFoundError(f"baseline={method}: baseline_files={folder} holds no {pattern}; {remedy}")
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise ValueError(f"baseline={method}: baseline_files={folder} holds several {pattern} ({names}); keep one")
        files[parameter] = found[0]
    return files


class OpenCVTracker:
    """KCF or CSRT of opencv-contrib, or TrackerNano or TrackerVit of OpenCV, with default settings.

    OpenCV wants BGR images and whole pixels inside the image, at least a few wide: the box is rounded, clipped and
    widened for it, and offset and ratio of the given box to it are kept. Where OpenCV loses the target or
    fails, the last box is returned with confidence 0, and tracking goes on with the next frame. The confidence of the
    two networks is their score; KCF and CSRT have none, so theirs is 1.

    Args:
        method: "kcf" (Henriques et al. 2015), "csrt" (Lukezic et al. 2017), "nano" (NanoTrack of SiamTrackers) or "vit"
            (VitTrack of opencv_zoo).
        name: name of the tracker and of its results folder; None is the method.
        files: ONNX files of "nano" and "vit", see baseline_files.

    Raises:
        ValueError: unknown method, an OpenCV without these trackers, or files that OpenCV cannot read.
    """

    def __init__(self, method: Method, name: str | None = None, *, files: Mapping[str, Path] | None = None) -> None:
        if method not in get_args(Method):
            raise ValueError(f"unknown OpenCV tracker {method!r}; allowed: {', '.join(get_args(Method))}")
        if not hasattr(cv2, "TrackerCSRT_create"):
            raise ValueError(
                "this OpenCV has no KCF and CSRT: another OpenCV package overwrote opencv-contrib-python-headless; "
                "reinstall it: pip install --force-reinstall --no-deps opencv-contrib-python-headless"
            )
        self.method, self.name = method, name or method
        self.box: np.ndarray | None = None  # until init
        self.files = baseline_files(method, None) if files is None else dict(files)
        self.tracker = self._make()

    def _make(self) -> Any:
        """OpenCV's tracker of this method."""
        kind = {"nano": "Nano", "vit": "Vit"}.get(self.method, self.method.upper())
        if not self.files:
            return getattr(cv2, f"Tracker{kind}_create")()
        parameters = getattr(cv2, f"Tracker{kind}_Params")()
        for parameter, path in self.files.items():
            setattr(parameters, parameter, str(path))
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of its own defaults
        try:
            return getattr(cv2, f"Tracker{kind}_create")(parameters)
        except cv2.error as error:
            reason = " ".join(str(error.err).split())
            given = ", ".join(map(str, self.files.values()))
            raise ValueError(f"OpenCV cannot read {given} as {self.method}: {reason}") from None
        finally:
            cv2.utils.logging.setLogLevel(level)

    def init(self, image: Image, box_xywh: Float64[np.ndarray, "4"]) -> None:
        """Start on the first frame; box xywh in pixels."""
        check_image(image)
        check_first_box(box_xywh, image)
        self.box = box = np.array(box_xywh, np.float64)
        if not self.files:  # filters of the last video; networks are read once
            self.tracker = self._make()
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
        confidence = min(max(float(self.tracker.getTrackingScore()), 0.0), 1.0) if self.files else 1.0
        return Estimate(self.box.copy(), confidence)


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


def make_baseline(method: str, device: str = "cpu", *, files: str | Path | None = None) -> StaticBox | OpenCVTracker:
    """A baseline by name; all run on the CPU, whatever the device.

    Args:
        method: "static", or a method of OpenCVTracker.
        device: ignored.
        files: folder with the ONNX files of "nano" and "vit".

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: unknown name, or files that cannot be read.
    """
    if method == "static":
        return StaticBox()
    return OpenCVTracker(method, files=baseline_files(method, files))  # type: ignore[arg-type]
