"""Tracking for long: says when the target is lost, and looks for it in the whole frame until it is found.

Not part of the paper and never used for its benchmarks. The likelihoods of a network are no probabilities of anything;
a calibration, measured on held-out videos, turns them into the probability that the box is right.

K: candidates.
"""

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float64
from pydantic import ConfigDict, with_config
from torch import Tensor
from typing_extensions import TypedDict

from seqtrack_lit.boxes import clip_xywh
from seqtrack_lit.checks import number
from seqtrack_lit.crops import Crop, Image
from seqtrack_lit.files import read_json
from seqtrack_lit.models.seqtrack import Prediction
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker, load_seqtrack
from seqtrack_lit.tracking.tracker import Estimate, check_image, not_started
from seqtrack_lit.weights import SMALL

_PATIENCE = 2  # frames below `lost_below` after which the target is lost
_TILES = 3  # regions of the frame that are searched in each frame while it is lost
_CHANGE = 1.8  # of sqrt(w * h) between two sure boxes, at most
_STEP = 0.5  # distance of neighbouring tiles over their side


@with_config(ConfigDict(extra="forbid", strict=True))
class _Saved(TypedDict):
    likelihood: float
    presence: float
    bias: float
    lost_below: float
    found_above: float


@dataclass(frozen=True)
class Calibration:
    """The probability that a box has IoU >= 0.5 with the target, by logistic regression on held-out videos:
    sigmoid(bias + likelihood * log(mean token probability) + presence * logit(presence)).

    Args:
        likelihood: weight of the mean token probability.
        presence: weight of the largest probability of the dense head.
        bias: of the sum.
        lost_below: probability below which, frame after frame, the target is lost.
        found_above: probability above which it is found again.

    Raises:
        ValueError: thresholds beyond [0, 1], or in the wrong order.
    """

    likelihood: float
    presence: float
    bias: float
    lost_below: float
    found_above: float

    def __post_init__(self) -> None:
        number("calibration", high=1, lost_below=self.lost_below, found_above=self.found_above)
        if self.lost_below > self.found_above:
            raise ValueError(f"calibration.lost_below = {self.lost_below} lies above found_above = {self.found_above}")

    @classmethod
    def beside(cls, checkpoint: Path) -> "Calibration | None":
        """What stands in <checkpoint>.calibration.json; None where there is no such file.

        Raises:
            ValueError: the file holds something else; names file and field.
        """
        path = checkpoint.with_suffix(".calibration.json")
        if not path.is_file():
            return None
        saved = read_json(path, _Saved, "calibrate again, or remove it")
        try:
            return cls(**saved)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def needed(cls, checkpoint: Path) -> "Calibration":
        """Likewise where there must be one.

        Raises:
            FileNotFoundError: there is none.
        """
        found = cls.beside(checkpoint)
        if found is None:
            missing = checkpoint.with_suffix(".calibration.json")
            raise FileNotFoundError(
                f"long_term=true needs {missing}: measure it (experiments/small/calibrate.py), or leave long_term out"
            )
        return found

    def __call__(self, likelihood: Float[Tensor, "K"], presence: Float[Tensor, "K"]) -> Float[Tensor, "K"]:
        """Probabilities of boxes by mean token probability and presence."""
        odds = self.likelihood * likelihood.log() + self.presence * presence.logit(1e-6)
        return (odds + self.bias).sigmoid()


class LongTermTracker:
    """A SeqTrackTracker that is lost at times, knows it, and finds the target again.

    Estimates have the calibrated confidence. While the target is lost, the tracker goes on as before; beside that, a
    few tiles of the frame are searched in each frame, those next to where the target was first, at the scale at
    which it was. The likeliest place is looked at once more, centred; if it is surely the target, it is found.

    Args:
        tracker: tracks from frame to frame.
        calibration: of its confidences.

    Raises:
        ValueError: the model has no dense head.
    """

    def __init__(self, tracker: SeqTrackTracker, calibration: Calibration) -> None:
        if tracker.model.dense is None:
            raise ValueError("tracking for long needs a model with model.dense_head=true, which tells what is there")
        self.tracker, self.calibration, self.name = tracker, calibration, tracker.name
        self.lost, self._doubts, self._tile = False, 0, 0

    def __copy__(self) -> "LongTermTracker":
        return LongTermTracker(copy.copy(self.tracker), self.calibration)

    @property
    def settings(self) -> dict[str, object]:
        """What results depend on beside the weights, as plain values."""
        rule = {"lost_below": self.calibration.lost_below, "found_above": self.calibration.found_above}
        return {**self.tracker.settings, "long_term": rule}

    def init(self, image: Image, box_xywh: Float64[np.ndarray, "4"]) -> None:
        """Take the target from the first frame; see SeqTrackTracker.init."""
        self.tracker.init(image, box_xywh)
        self.lost, self._doubts, self._tile = False, 0, 0
        self.sure = self.tracker.box  # the last box that was surely right

    def update(self, image: Image) -> Estimate:
        """The target's place in the next frame, with the probability that it is there, and whether it is lost."""
        check_image(image)
        if self.tracker.frame < 0:
            raise not_started()
        crop = self.tracker.search_crop()
        prediction = self.tracker.near(image, crop)
        if prediction is None:
            prediction = self.tracker.predict_in(image, [crop], window=True)
        estimate = self.tracker.advance(image, crop, prediction.boxes[0].cpu(), prediction.likelihoods[0].cpu())
        box, probability = estimate.box_xywh, float(self._probabilities(prediction)[0])
        if self.lost and not self._is_sure(box, probability):
            found = self._search(image)
            if found is None:  # another size than that of the last sure box: a tracker that shrinks is sure of anything
                probability = min(probability, self.calibration.lost_below)
                self._go_on(self._resized(box))
            else:
                box, probability = found
                self._go_on(box)
        self._doubts = self._doubts + 1 if probability < self.calibration.lost_below else 0
        if self._is_sure(box, probability):
            self.lost, self.sure = False, self.tracker.box
        elif self._doubts >= _PATIENCE and not self.lost:
            self.lost, self._tile = True, 0
            self._go_on(self._resized(box))
        return Estimate(box, probability, estimate.updated, self.lost)

    def _is_sure(self, box: Float64[np.ndarray, "4"], probability: float) -> bool:
        """Whether it is the target: likely enough, and where it was lost before, not of quite another size."""
        change = abs(math.log(float(box[2] * box[3]) / (self.sure[2] * self.sure[3]))) / 2
        return probability >= self.calibration.found_above and (not self.lost or change < math.log(_CHANGE))

    def _go_on(self, box: Float64[np.ndarray, "4"]) -> None:
        x, y, w, h = box.tolist()
        self.tracker.box = (x, y, w, h)

    def _resized(self, box: Float64[np.ndarray, "4"]) -> Float64[np.ndarray, "4"]:
        """The last sure box around the centre of another one."""
        size = np.array(self.sure[2:])
        return np.concatenate([box[:2] + box[2:] / 2 - size / 2, size])

    def _search(self, image: Image) -> tuple[Float64[np.ndarray, "4"], float] | None:
        """The target in the next tiles, where it is surely there."""
        tiles = self._tiles(image)
        mine = [tiles[(self._tile + i) % len(tiles)] for i in range(min(_TILES, len(tiles)))]
        self._tile += len(mine)
        boxes, probabilities = self._look(image, mine)
        best = int(probabilities.argmax())
        if probabilities[best] < self.calibration.lost_below:
            return None
        near = Crop.around(boxes[best], factor=self.tracker.search_factor, size=self.tracker.model.search_size)
        boxes, probabilities = self._look(image, [near])
        return (boxes[0], float(probabilities[0])) if self._is_sure(boxes[0], probabilities[0]) else None

    def _tiles(self, image: Image) -> list[Crop]:
        """Regions over the frame as large as the search region of the last sure box, the nearest first."""
        x, y, w, h = self.sure
        size, center = self.tracker.model.search_size, np.array([x + w / 2, y + h / 2])
        side = max(1, math.ceil(math.sqrt(w * h) * self.tracker.search_factor))
        axes = [self._centers(length, side) for length in image.shape[1::-1]]
        places = [(float(px), float(py)) for px in axes[0] for py in axes[1]]
        places.sort(key=lambda place: float(np.abs(np.array(place) - center).max()))
        return [Crop(center=place, side=side, size=size) for place in places]

    @staticmethod
    def _centers(length: int, side: int) -> Float64[np.ndarray, "n"]:
        """Where tiles stand along an axis."""
        count = max(1, math.ceil((length - side) / (_STEP * side)) + 1)
        low = min(side, length) / 2
        return np.linspace(low, length - low, count) if count > 1 else np.array([length / 2])

    def _look(self, image: Image, crops: list[Crop]) -> tuple[Float64[np.ndarray, "K 4"], Float64[np.ndarray, "K"]]:
        """Boxes (xywh, pixels of the image) in several crops without the window, and their probabilities."""
        prediction = self.tracker.predict_in(image, crops, window=False)
        (height, width), margin = image.shape[:2], self.tracker.clip_margin
        boxes = [crop.to_image(box).tolist() for crop, box in zip(crops, prediction.boxes.cpu(), strict=True)]
        clipped = [clip_xywh((x, y, w, h), width, height, margin) for x, y, w, h in boxes]
        return np.array(clipped), self._probabilities(prediction).numpy()

    def _probabilities(self, prediction: Prediction) -> Float64[Tensor, "K"]:
        """That the boxes are right."""
        presence = cast(Tensor, prediction.presence)
        return self.calibration(prediction.likelihoods.double().mean(1), presence.double()).cpu()


def load_tracker(
    path: str | Path | None = None,
    *,
    long_term: bool | None = None,
    device: str | torch.device | None = None,
    official_config: str | Path | None = None,
    **overrides: object,
) -> SeqTrackTracker | LongTermTracker:
    """A tracker for own videos from a checkpoint: ours, the official `SEQTRACK_ep0500.pth.tar` or a bare state dict.

    Examples:
        >>> load_tracker(device="cpu").name
        'seqtrack_small'

    Args:
        path: the checkpoint; None: the small tracker that comes with the package.
        long_term: say when the target is lost, and look for it; None: where <path>.calibration.json is there.
        device: where to run; None takes the GPU when there is one.
        official_config: official YAML of an official checkpoint that is not one of the four published models.
        overrides: arguments of SeqTrackTracker that replace the checkpoint's.

    Raises:
        FileNotFoundError: no such file, or no calibration beside it.
        ValueError: not a checkpoint that can be read, or a wrong value.
    """
    tracker = load_seqtrack(path, device=device, official_config=official_config, **overrides)
    return for_long(tracker, SMALL if path is None else Path(path), long_term)


def for_long(
    tracker: SeqTrackTracker, checkpoint: Path, wanted: bool | None = None
) -> SeqTrackTracker | LongTermTracker:
    """The tracker of a checkpoint as a LongTermTracker: where it is wanted, or (None) where there is a calibration.

    Raises:
        FileNotFoundError: it is wanted, and there is no calibration.
    """
    if wanted is False:
        return tracker
    calibration = Calibration.needed(checkpoint) if wanted else Calibration.beside(checkpoint)
    return tracker if calibration is None else LongTermTracker(tracker, calibration)
