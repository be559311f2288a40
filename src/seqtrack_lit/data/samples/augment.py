"""What happens to a sample on its way from frames to crops: grey, flip, jitter, crop, brightness.

All geometry is ours, on float boxes, because targets may reach over a crop's edge. Albumentations may be used for
photometric transforms only: its boxes over an edge raise or vanish, and flips of images of different sizes go wrong
silently. Every random number comes from a generator that is passed in.
"""

import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from seqtrack_lit.checks import number, one_of, whole
from seqtrack_lit.crops import Crop, Image, ImagePart, Normaliser, Padding

Decode = Literal["exact", "fast"]
CropImage = UInt8[np.ndarray, "S S 3"]
Box = Float64[np.ndarray, "4"]  # image box xywh, pixels
ImageBoxes = Float64[np.ndarray, "rows 4"]
_LEVELS = np.arange(256, dtype=np.float32)
_BELOW = 1e-4  # of a grey level; products in float32 are off by 3e-5 at most
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its newest version on import


@runtime_checkable
class Photometric(Protocol):
    """A photometric transform: `brightness`, or an albumentations Compose."""

    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None:
        """Draw from these from now on."""

    def __call__(self, *, image: Image) -> dict[str, Any]:
        """The image under the key "image"."""


class _Brightness:
    """See `brightness`: by OpenCV's product, which is rounded, where it comes to the same; else by a slower table."""

    def __init__(self, low: float, high: float) -> None:
        if not 0 <= low <= high < math.inf:
            raise ValueError(f"data.augmentation.photometric needs 0 <= low <= high, got low = {low}, high = {high}")
        self.low, self.high = low, high

    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None:
        """Draw from the first of these from now on."""
        self._generator = random_generator

    def __call__(self, *, image: Image) -> dict[str, Any]:
        """The brighter or darker image under the key "image"."""
        factor = np.float32(self._generator.uniform(self.low, self.high))
        levels = _LEVELS * factor
        if np.max(levels % 1) < 1 - 2 * _BELOW:  # no level lies where rounding errors decide
            return {"image": cv2.convertScaleAbs(image, alpha=float(factor), beta=_BELOW - 0.5)}
        return {"image": cv2.LUT(image, np.minimum(levels, 255).astype(np.uint8))}


def brightness(low: float = 0.8, high: float = 1.2) -> Photometric:
    """Multiply an image by one number drawn from [low, high] and clamp it (official: brightness jitter 0.2).

    Numbers and pixels are those of albumentations' MultiplicativeNoise(multiplier=(low, high)), cut not rounded.
    """
    return _Brightness(low, high)


class Jitter(NamedTuple):
    """Random offset and scaling of the search region's box from the target's.

    center: the centre moves by uniform +- center / 2 times the jittered size sqrt(w' h'), in x and in y.
    size: width and height are multiplied by exp(size * N(0, 1)), each on its own.
    """

    center: float
    size: float

    def apply(self, box: Box, rng: np.random.Generator) -> Box:
        """The jittered box (official: lib/train/data/processing.py, _get_jittered_box)."""
        (x, y, w, h), (wide, high), (right, down) = box.tolist(), rng.normal(size=2).tolist(), rng.random(2).tolist()
        new_w, new_h = w * math.exp(wide * self.size), h * math.exp(high * self.size)
        reach = self.center * math.sqrt(new_w * new_h)
        new_x = x + 0.5 * w + (right - 0.5) * reach - 0.5 * new_w
        new_y = y + 0.5 * h + (down - 0.5) * reach - 0.5 * new_h
        return np.array([new_x, new_y, new_w, new_h])


@dataclass(frozen=True)
class JitterSchedule:
    """Jitter as a function of the share of the training's samples drawn before a sample.

    It stays (center, size) until `begin`, then goes linearly to (end_center, end_size) at `finish`.

    Args:
        center, size: at the start; the paper's 3.5 and 0.5 all the time.
        end_center, end_size: at the end; None: as at the start.
        begin, finish: shares of the training in [0, 1].
    """

    center: float = 3.5
    size: float = 0.5
    end_center: float | None = None
    end_size: float | None = None
    begin: float = 0.5
    finish: float = 0.8

    def __post_init__(self) -> None:
        for name in ("center", "size", "end_center", "end_size"):
            value = getattr(self, name)
            if value is not None:
                number("data.jitter", **{name: value})
        if not 0 <= self.begin <= self.finish <= 1:
            raise ValueError(
                f"data.jitter needs 0 <= begin <= finish <= 1, got begin = {self.begin}, finish = {self.finish}"
            )

    def at(self, progress: float) -> Jitter:
        """The jitter when a share `progress` of the training is done.

        >>> JitterSchedule(2.0, 0.4, 1.0, 0.2, begin=0.5, finish=0.7).at(0.6)
        Jitter(center=1.5, size=0.3)
        """
        if progress < self.begin:
            return Jitter(self.center, self.size)
        end = Jitter(
            self.center if self.end_center is None else self.end_center,
            self.size if self.end_size is None else self.end_size,
        )
        if progress >= self.finish:
            return end
        share = (progress - self.begin) / (self.finish - self.begin)
        return Jitter(*(round(a + (b - a) * share, 9) for a, b in zip((self.center, self.size), end, strict=True)))


@dataclass(frozen=True)
class CropSettings:
    """How search regions and templates are cut, and the coordinates their boxes get.

    Args:
        search_size, template_size: pixels of a side of the crops.
        search_factor, template_factor: side of the region in image pixels over sqrt(w * h) of its box.
        normaliser: see `Crop.to_crop`.
        padding: see `Crop.cut`.
        decode: "exact" decodes JPEGs whole. "fast" uses libjpeg's fast transforms and decodes a frame at a half, a
            quarter or an eighth where its crops shrink it as much: about 1 grey level off, and smoother.
    """

    search_size: int = 256
    template_size: int = 256
    search_factor: float = 4.0
    template_factor: float = 4.0
    normaliser: Normaliser = "S-1"
    padding: Padding = "exact"
    decode: Decode = "exact"

    def __post_init__(self) -> None:
        group = "data.crops"
        whole(group, 2, search_size=self.search_size, template_size=self.template_size)
        number(group, above=True, search_factor=self.search_factor, template_factor=self.template_factor)
        one_of(group, get_args(Normaliser), normaliser=self.normaliser)
        one_of(group, get_args(Padding), padding=self.padding)
        one_of(group, get_args(Decode), decode=self.decode)

    def search(self, around: Box) -> Crop:
        """The search region around a box (jittered, or of the frame before)."""
        return Crop.around(around, factor=self.search_factor, size=self.search_size)

    def template(self, box: Box) -> Crop:
        """The region of a template."""
        return Crop.around(box, factor=self.template_factor, size=self.template_size)

    def reduction(self, crops: Sequence[Crop]) -> int:
        """By how much a frame may be reduced so that none of these crops of it is stretched: 1, 2, 4 or 8."""
        return next(factor for factor in (8, 4, 2, 1) if factor == 1 or all(c.side >= factor * c.size for c in crops))

    def cut(self, crop: Crop, image: Image | ImagePart, *, mirrored: bool = False) -> CropImage:
        """The pixels of a region, [size, size, 3]; mirrored: a region of the mirrored image.

        Raises:
            ValueError: the region and the image share nothing.
        """
        (x, y), (height, width), reach = crop.center, image.shape[:2], crop.side / 2
        if not (-reach < x < width + reach and -reach < y < height + reach):
            raise ValueError(f"the window of {crop.side} px around {x:.1f}, {y:.1f} shows nothing of the image")
        return crop.cut(image, padding=self.padding, mirrored=mirrored)

    def to_crop(self, crop: Crop, boxes: ImageBoxes) -> Float32[Tensor, "rows 4"]:
        """Image boxes as crop boxes (cxcywh, fractions) in the training's coordinates."""
        return torch.from_numpy(crop.to_crop(boxes, self.normaliser).astype(np.float32))


class SharedAugmentation(NamedTuple):
    """What is done to all frames of one sample alike."""

    grayscale: bool
    flip: bool

    def image(self, image: Image | ImagePart) -> Image | ImagePart:
        """The frame, in grey where that was drawn. It is mirrored when a region is cut (`CropSettings.cut`)."""
        if not self.grayscale:
            return image
        colours = image.pixels if isinstance(image, ImagePart) else image
        grey = np.asarray(cv2.cvtColor(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))
        return replace(image, pixels=grey) if isinstance(image, ImagePart) else grey

    def boxes(self, boxes: ImageBoxes, width: int, offset: float = 0.0) -> ImageBoxes:
        """The boxes in that frame: x' = width - offset - x - w; y, w and h stay.

        Pixel x covers [x, x + 1) and goes to pixel W - 1 - x, so the continuous offset is 0. Official code mirrors
        the corners like pixel numbers, offset 1, which leaves its flipped boxes one pixel too far left.
        """
        if not self.flip:
            return boxes
        mirrored = boxes.copy()
        mirrored[:, 0] = width - offset - boxes[:, 0] - boxes[:, 2]
        return mirrored


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a sample, with the paper's values.

    Args:
        grayscale: probability that all frames of a sample are grey.
        flip: probability that all frames of a sample are mirrored.
        crop_flip: probability that a crop is mirrored, each on its own (official 0.5, on top of the shared flip).
        flip_offset: see `SharedAugmentation.boxes`; 1 is the official behaviour.
        photometric: `brightness`, or an albumentations Compose, for each crop on its own; or None.
        channel_gain: > 0: the search crop's distance from mid-grey is multiplied by 1 + channel_gain * N(0, 1) in
            each colour channel.
    """

    grayscale: float = 0.05
    flip: float = 0.5
    crop_flip: float = 0.0
    flip_offset: float = 0.0
    photometric: Photometric | None = None
    channel_gain: float = 0.0

    def __post_init__(self) -> None:
        number("data.augmentation", high=1, grayscale=self.grayscale, flip=self.flip, crop_flip=self.crop_flip)
        number("data.augmentation", channel_gain=self.channel_gain)

    def shared(self, rng: np.random.Generator) -> SharedAugmentation:
        """Draw what happens to all frames alike."""
        grayscale, flip = rng.random(2)
        return SharedAugmentation(bool(grayscale < self.grayscale), bool(flip < self.flip))

    def colors(self, rng: np.random.Generator) -> Callable[[CropImage], CropImage]:
        """The photometric transform of one sample; draws anew for each crop it is called with."""
        compose = self.photometric
        if compose is None:
            return lambda crop: crop
        # all its randomness comes from here; albumentations' own streams repeat across workers and epochs
        compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        return lambda crop: np.asarray(compose(image=crop)["image"], np.uint8)

    def crop(
        self, crop: CropImage, boxes: Float32[Tensor, "rows 4"], rng: np.random.Generator
    ) -> tuple[CropImage, Float32[Tensor, "rows 4"]]:
        """Mirror a crop and its boxes (cxcywh, fractions: x' = 1 - x), or leave them."""
        if rng.random() >= self.crop_flip:
            return crop, boxes
        boxes[:, 0].neg_().add_(1)
        return np.asarray(cv2.flip(crop, 1), np.uint8), boxes

    def gain(self, crop: CropImage, rng: np.random.Generator) -> CropImage:
        """Stretch or squeeze the colours of a search crop about mid-grey, each channel on its own."""
        if not self.channel_gain:
            return crop
        factors = (1 + self.channel_gain * rng.normal(size=3)).astype(np.float32)
        return np.asarray(cv2.LUT(crop, _gain_table(factors)[None]))


_MID_GREY = 255 * 0.449  # mean of ImageNet, what the model's input is centred on


def _gain_table(factors: Float32[np.ndarray, "3"]) -> UInt8[np.ndarray, "256 3"]:
    """For every value of each channel, what becomes of it."""
    shifted = (_LEVELS[:, None] - np.float32(_MID_GREY)) * factors
    return np.asarray((shifted + np.float32(_MID_GREY + 0.5)).clip(0, 255), np.uint8)
