"""A training sample, and samples put together as a batch."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor


class Sample(NamedTuple):
    """One training sample. Images are RGB uint8; boxes cxcywh in fractions of their crop, perhaps outside [0, 1].

    past: boxes of P frames before the search frame as a tracker would have them, oldest first; see past.py.
    key: (epoch, index, attempt); attempt > 0 counts samples replaced because they could not be made.
    dataset: number of the data set in the order of the configuration.
    """

    templates: UInt8[Tensor, "T 3 h w"]
    search: UInt8[Tensor, "3 H W"]
    box: Float32[Tensor, "4"]
    template_boxes: Float32[Tensor, "T 4"]
    past: Float32[Tensor, "P 4"]
    key: Int64[Tensor, "3"]
    dataset: Int64[Tensor, ""]


class Batch(NamedTuple):
    """Samples with a leading axis; see `Sample`."""

    templates: UInt8[Tensor, "B T 3 h w"]
    search: UInt8[Tensor, "B 3 H W"]
    box: Float32[Tensor, "B 4"]
    template_boxes: Float32[Tensor, "B T 4"]
    past: Float32[Tensor, "B P 4"]
    key: Int64[Tensor, "B 3"]
    dataset: Int64[Tensor, "B"]


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples."""
    return Batch(*(torch.stack(parts) for parts in zip(*samples, strict=True)))


def to_chw(images: Sequence[UInt8[np.ndarray, "H W 3"]]) -> UInt8[Tensor, "N 3 H W"]:
    """Images of one size as a tensor, channels first."""
    planes = np.empty((len(images), 3, *images[0].shape[:2]), np.uint8)
    for image, channels in zip(images, planes, strict=True):
        cv2.split(image, list(channels))  # into them
    return torch.from_numpy(planes)
