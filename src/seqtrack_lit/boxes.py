"""Boxes: the two conventions of this project and how to go between them.

- ``xywh``: image boxes in pixels, top-left corner and size, continuous (w = right - left).
- ``cxcywh``: crop boxes in fractions of the crop's side, centre and size.

A box name carries its format. Everything here is a pure function on tensors of any batch shape.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

Boxes = Float[Tensor, "*batch 4"]
LARGEST = 1e6  # pixels: no picture is as wide (JPEG ends at 65,535)


def cxcywh_to_xywh(boxes_cxcywh: Boxes) -> Boxes:
    """Centre and size to corner and size, in the same unit."""
    center, wh = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat([center - wh / 2, wh], dim=-1)


def cxcywh_to_xyxy(boxes_cxcywh: Boxes) -> Boxes:
    """Centre and size to two corners, in the same unit."""
    center, wh = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat([center - wh / 2, center + wh / 2], dim=-1)


def xyxy_to_cxcywh(boxes_xyxy: Boxes) -> Boxes:
    """Two corners to centre and size, in the same unit; crossed corners give negative sizes."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def patch_shares(boxes_cxcywh: Boxes, grid: int) -> Float[Tensor, "*batch N"]:
    """For each of the grid x grid patches of a crop, row by row, the share of its area inside the box, in [0, 1]."""
    edges = torch.linspace(0, 1, grid + 1, device=boxes_cxcywh.device)
    low, high = cxcywh_to_xyxy(boxes_cxcywh.float()).chunk(2, dim=-1)  # *batch 2 each: x, y
    covered = torch.minimum(high[..., None], edges[1:]) - torch.maximum(low[..., None], edges[:-1])  # *batch 2 grid
    share = covered.clamp(min=0) * grid
    return (share[..., 1, :, None] * share[..., 0, None, :]).flatten(-2)  # y x -> (y x)


def iou_rows(
    a_xywh: Float64[np.ndarray, "rows 4"], b_xywh: Float64[np.ndarray, "rows 4"]
) -> Float64[np.ndarray, "rows"]:
    """`iou` of arrays."""
    return np.asarray(iou(torch.from_numpy(a_xywh), torch.from_numpy(b_xywh)))


def iou(a_xywh: Boxes, b_xywh: Boxes) -> Float[Tensor, "*batch"]:
    """Continuous intersection over union in [0, 1] of boxes paired row by row; 0 where the union is empty.

    Examples:
        >>> iou(torch.tensor([0.0, 0, 2, 2]), torch.tensor([1.0, 0, 2, 2]))
        tensor(0.3333)
    """
    low = torch.maximum(a_xywh[..., :2], b_xywh[..., :2])
    high = torch.minimum(a_xywh[..., :2] + a_xywh[..., 2:], b_xywh[..., :2] + b_xywh[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    union = a_xywh[..., 2:].prod(-1) + b_xywh[..., 2:].prod(-1) - intersection
    return torch.where(union > 0, intersection / union.where(union > 0, torch.ones_like(union)), 0.0)


def difference(
    own_xywh: Float64[np.ndarray, "*rows 4"], box_xywh: Float64[np.ndarray, "*rows 4"]
) -> Float64[np.ndarray, "*rows 4"]:
    """From one box to another: of the centre in sizes of the first one, of the size as logarithm of the ratio."""
    own, size = np.maximum(own_xywh[..., 2:], 1), np.maximum(box_xywh[..., 2:], 1)  # pixels
    apart = box_xywh[..., :2] + box_xywh[..., 2:] / 2 - own_xywh[..., :2] - own_xywh[..., 2:] / 2
    return np.concatenate([apart / own, np.log(size / own)], axis=-1)


def moved(
    boxes_xywh: Float64[np.ndarray, "*rows 4"], by: Float64[np.ndarray, "*rows 4"]
) -> Float64[np.ndarray, "*rows 4"]:
    """Boxes moved and scaled by differences."""
    size = boxes_xywh[..., 2:] * np.exp(by[..., 2:])
    return np.concatenate([boxes_xywh[..., :2] + boxes_xywh[..., 2:] * (0.5 + by[..., :2]) - size / 2, size], axis=-1)


def clip_xywh(
    box_xywh: tuple[float, float, float, float], width: int, height: int, margin: float
) -> tuple[float, float, float, float]:
    """Keep a tracked box on the image and at least `margin` pixels wide and high (no rounding).

    The far corner is taken from the unclipped near corner, then x1 is kept in [0, W - margin], x2 in
    [margin, W] and the size at >= margin; y likewise. Official: lib/utils/box_ops.py clip_box, margin 10.
    Crossed corners (negative sizes) become `margin`.
    """
    x, y, w, h = box_xywh
    x2, y2 = x + w, y + h
    x1, y1 = min(max(0.0, x), width - margin), min(max(0.0, y), height - margin)
    x2, y2 = min(max(margin, x2), float(width)), min(max(margin, y2), float(height))
    return x1, y1, max(margin, x2 - x1), max(margin, y2 - y1)


def misread(
    boxes_xywh: Float64[np.ndarray, "rows 4"], width: int, height: int
) -> tuple[Literal["fractions", "corners", "huge"], int] | None:
    """Whether boxes that should be x,y,w,h in pixels of a picture look like something else, and in which row.

    "fractions": all lie about the first pixel. "huge": one is more than twice as wide or high as the picture.
    "corners": all are two corners inside the picture, while one of them as x,y,w,h reaches out of it by more than 5 %
    of its side; boxes of a target in the upper left corner can be both. On 15 real clips with the two corners written
    instead, 14 were found by all of their boxes, 9 by the first box alone, and nothing in the clips as they are.

    Args:
        boxes_xywh: of one target; rows that are not finite or have no area say nothing.
        width: of the picture; 0 where unknown: only fractions are seen then.
        height: of the picture.
    """
    rows = np.flatnonzero(np.isfinite(boxes_xywh).all(1) & (boxes_xywh[:, 2:] > 0).all(1))
    if not len(rows):
        return None
    near, far = boxes_xywh[rows, :2], boxes_xywh[rows, 2:]
    if (near > -1).all() and (near + far <= 1.5).all():
        return "fractions", int(rows[0])
    if not (width and height):
        return None
    size = np.array([width, height])
    huge = (far > 2 * size).any(1)
    if huge.any():
        return "huge", int(rows[np.argmax(huge)])
    out = (near + far > 1.05 * size).any(1)
    if out.any() and (near >= 0).all() and (far > near).all() and (far <= size + 1).all():
        return "corners", int(rows[out.argmax()])
    return None
