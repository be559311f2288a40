"""Tracking for long: a lost target is searched for in the whole frame until it is found; distractors are remembered.

Not part of the paper and never used for its benchmarks. The likelihoods of a network are no probabilities of anything;
a calibration, measured on held-out videos, turns them into the probability that the box is right.

K: candidates.
"""

import copy
import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float, Float64
from pydantic import ConfigDict, with_config
from torch import Tensor
from typing_extensions import TypedDict

from seqtrack_lit.boxes import clip_xywh, iou
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
_GROWTH = 1.4  # of the sides of a box while the target is lost, at most
_STEP = 0.5  # distance of neighbouring tiles over their side
_ENOUGH = 0.98  # probability from which a place in a tile is taken at once; below it the next frame has to confirm it
_EVERY = 8  # frames between two searches for what the target could be taken for
_KEPT = 2  # distractors that are remembered
_DISTRACTOR = 0.5  # probability from which something is a distractor
_APART, _SAME = 0.1, 0.5  # IoU of two boxes up to which they hold two objects, and above which they hold one
_AGAIN = 2.0  # of the logarithm of the odds, by which the target has to fit better where a distractor was before
_EDGE = 0.1  # of a box, covered around it as well


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
        """Logarithms of the odds of boxes by mean token probability and presence; their sigmoid is the probability."""
        return self.bias + self.likelihood * likelihood.log() + self.presence * presence.logit(1e-6)


class _Place(NamedTuple):
    """A box (xywh, pixels) and the logarithm of the odds that the target is there."""

    box: Float64[np.ndarray, "4"]
    odds: float

    @property
    def probability(self) -> float:
        return float(torch.tensor(self.odds, dtype=torch.float64).sigmoid())


class LongTermTracker:
    """A SeqTrackTracker with detection of a lost target, and search for it until it is found again.

    Estimates have the calibrated confidence. While the target is lost, the tracker goes on as before; beside that, a
    few tiles of the frame are searched in each frame, those next to where the target was first, at the scale at
    which it was. The likeliest place is searched once more, centred; if it is surely the target, it is found.

    Now and then the target is covered in the search region: what is found instead is a distractor, whose
    template is kept. Where the tracker was in doubt, a place is the target only if the target's
    template fits there better than any of theirs. A target that was found again may be the distractor itself:
    then the one that fits better is the target.

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
        self._begin()

    def __copy__(self) -> "LongTermTracker":
        return LongTermTracker(copy.copy(self.tracker), self.calibration)

    def _begin(self) -> None:
        self.lost, self._low, self._tile = False, 0, 0
        self._in_doubt, self._returned = False, False
        self._unconfirmed: _Place | None = None  # found in the frame before
        self._distractors: deque[SeqTrackTracker] = deque(maxlen=_KEPT)  # each with the template of one
        self._refused: _Place | None = None  # where one was since the target was last there

    @property
    def settings(self) -> dict[str, object]:
        """What results depend on beside the weights, as plain values."""
        rule = {"lost_below": self.calibration.lost_below, "found_above": self.calibration.found_above}
        return {**self.tracker.settings, "long_term": rule}

    def init(self, image: Image, box_xywh: Float64[np.ndarray, "4"]) -> None:
        """Take the target from the first frame; see SeqTrackTracker.init."""
        self.tracker.init(image, box_xywh)
        self._begin()
        self.sure = self.tracker.box  # the last box that was surely right
        self._compare(image, _Place(np.array(self.sure), math.inf))

    def update(self, image: Image) -> Estimate:
        """The target's place in the next frame, with the probability that it is there, and whether it is lost."""
        check_image(image)
        if self.tracker.frame < 0:
            raise not_started()
        crop = self.tracker.search_crop()
        prediction = None if self.lost or self._in_doubt else self.tracker.predict_near(image, crop)
        if prediction is None or float(self._odds(prediction)[0].sigmoid()) < self.calibration.found_above:
            prediction = self.tracker.predict_in(image, [crop], window=True)
        estimate = self.tracker.advance(image, crop, prediction.boxes[0].cpu(), prediction.likelihoods[0].cpu())
        place = _Place(estimate.box_xywh, float(self._odds(prediction)[0]))
        probability, sure = place.probability, self._is_sure(place)
        if sure and self._in_doubt and self._is_distractor(image, place):
            probability, sure = self.calibration.lost_below, False
            self.lost, self._tile = True, self._tile if self.lost else 0
        if self.lost and not sure:
            found = self._search(image)
            if found is None:  # another size than that of the last sure box: a tracker that shrinks is sure of anything
                probability = min(probability, self.calibration.lost_below)
                self._go_on(self._resized(place.box))
            else:
                place, probability, sure = found, found.probability, True
                self._go_on(place.box)
                self._returned = True
        self._low = self._low + 1 if probability < self.calibration.lost_below else 0
        self._in_doubt = not sure
        if sure:
            self.lost, self._unconfirmed, self._refused = False, None, None
            if self.tracker.frame % _EVERY == 0:
                place = self._compare(image, place)
                self._go_on(place.box)
            self.sure = self.tracker.box
        elif self._low >= _PATIENCE and not self.lost:
            self.lost, self._tile = True, 0
            self._go_on(self._resized(place.box))
        return Estimate(place.box, probability, estimate.updated, self.lost)

    def _is_sure(self, place: _Place) -> bool:
        """Whether it is the target: likely enough, and where it was lost before, not of quite another size."""
        change = abs(math.log(float(place.box[2] * place.box[3]) / (self.sure[2] * self.sure[3]))) / 2
        likely = place.probability >= self.calibration.found_above
        return likely and (not self.lost or change < math.log(_CHANGE))

    def _go_on(self, box: Float64[np.ndarray, "4"]) -> None:
        x, y, w, h = box.tolist()
        self.tracker.box = (x, y, w, h)

    def _resized(self, box: Float64[np.ndarray, "4"]) -> Float64[np.ndarray, "4"]:
        """A box whose sides are nearly those of the last sure one."""
        sure = np.array(self.sure[2:])
        size = np.clip(box[2:], sure / _GROWTH, sure * _GROWTH)
        return np.concatenate([box[:2] + box[2:] / 2 - size / 2, size])

    # --- distractors

    def _compare(self, image: Image, place: _Place) -> _Place:
        """Where the target is: here, or, if it was lost before, where it is likelier. The other one is a distractor."""
        other = self._places_in(_covered(image, place.box), [self.tracker.search_crop()])[0]
        if other.probability < _DISTRACTOR or _overlap(other.box, place.box) > _APART:
            return place
        if self._returned and other.odds > place.odds:
            self._distractors.clear()
            return other
        distractor = copy.copy(self.tracker)
        distractor.offset = 0.0
        distractor.init(image, other.box)
        self._distractors.append(distractor)
        return place

    def _is_distractor(self, image: Image, place: _Place) -> bool:
        """Whether the template of a distractor fits better there than the target's; hardly worse, if it did before."""
        if not self._distractors:
            return False
        crops = [self._around(place.box)]
        mine = self._places_in(image, crops)[0].odds
        if self._refused is not None and _overlap(self._refused.box, place.box) > _SAME:
            mine -= _AGAIN
        others = [self._places_in(image, crops, by=one)[0] for one in self._distractors]
        fits_better = any(one.odds > mine and _overlap(one.box, place.box) > _SAME for one in others)
        self._refused = place if fits_better else self._refused
        return fits_better

    # --- the whole frame

    def _search(self, image: Image) -> _Place | None:
        """The target in the next tiles, where it is surely there."""
        before, self._unconfirmed = self._unconfirmed, None
        if before is not None:
            place = self._places_in(image, [self._around(before.box)])[0]
            if self._is_sure(place) and not self._is_distractor(image, place):
                return place
        tiles = self._tiles(image)
        mine = [tiles[(self._tile + i) % len(tiles)] for i in range(min(_TILES, len(tiles)))]
        self._tile += len(mine)
        best = max(self._places_in(image, mine), key=lambda place: place.odds)
        if best.probability < self.calibration.lost_below:
            return None
        place = self._places_in(image, [self._around(best.box)])[0]
        if not self._is_sure(place) or self._is_distractor(image, place):
            return None
        if place.probability < _ENOUGH:
            self._unconfirmed = place
            return None
        return place

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

    def _around(self, box: Float64[np.ndarray, "4"]) -> Crop:
        """The search region around a box."""
        return Crop.around(box, factor=self.tracker.search_factor, size=self.tracker.model.search_size)

    def _places_in(self, image: Image, crops: list[Crop], *, by: SeqTrackTracker | None = None) -> list[_Place]:
        """The target of a tracker (None: the target) in each of several crops, without the window."""
        tracker = by or self.tracker
        prediction = tracker.predict_in(image, crops, window=False)
        (height, width), margin = image.shape[:2], tracker.clip_margin
        boxes = [tracker.to_image(crop, box) for crop, box in zip(crops, prediction.boxes.cpu(), strict=True)]
        clipped = [np.array(clip_xywh(box, width, height, margin)) for box in boxes]
        return [_Place(box, float(odds)) for box, odds in zip(clipped, self._odds(prediction), strict=True)]

    def _odds(self, prediction: Prediction) -> Float64[Tensor, "K"]:
        """Logarithms of the odds that the boxes are right."""
        presence = cast(Tensor, prediction.presence)
        return self.calibration(prediction.likelihoods.double().mean(1), presence.double()).cpu()


def _overlap(one: Float64[np.ndarray, "4"], other: Float64[np.ndarray, "4"]) -> float:
    return float(iou(torch.from_numpy(one), torch.from_numpy(other)))


def _covered(image: Image, box: Float64[np.ndarray, "4"]) -> Image:
    """The image with the mean colour around a box in the place of what is in it."""
    (height, width), (x, y, w, h) = image.shape[:2], box.tolist()
    left, right = max(0, int(x - _EDGE * w)), min(width, int(x + (1 + _EDGE) * w) + 1)
    top, bottom = max(0, int(y - _EDGE * h)), min(height, int(y + (1 + _EDGE) * h) + 1)
    covered, within = image.copy(), image[top:bottom, left:right]
    if within.size:
        edge = [within[[0, -1]].reshape(-1, 3), within[:, [0, -1]].reshape(-1, 3)]
        covered[top:bottom, left:right] = np.concatenate(edge).mean(0)
    return covered


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
    tracker = load_seqtrack(path, device=device, official_config=official_config, quick=True, **overrides)
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
