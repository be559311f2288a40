"""Cross-attention of the decoder behind each of the four tokens (paper Fig. 7), and the distribution of each.

Arrays in, arrays out: nothing is displayed, no state is kept.

Letters: B batch, M memory tokens, G side of the grid of search tokens, S side of the search crop in pixels.
"""

from dataclasses import dataclass

import cv2
import matplotlib
import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor

from seqtrack_lit import pictures
from seqtrack_lit.crops import Image
from seqtrack_lit.pictures import DARK, WHITE, draw_boxes, titled
from seqtrack_lit.tokens import Order
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker

NAMES: dict[Order, tuple[str, str, str, str]] = {
    "cxcywh": ("cx", "cy", "w", "h"),
    "whcxcy": ("w", "h", "cx", "cy"),
    "xyxy": ("x1", "y1", "x2", "y2"),
}


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """One reading of a search region.

    Args:
        crop: the search region as the model saw it, RGB.
        box_cxcywh: the box read, fractions of the crop.
        names: what the four tokens stand for, in the order they were written.
        maps: per token the attention on each search token; a map's sum is the share that fell on the search region.
        distributions: per token the probabilities it was chosen from, after the window.
    """

    crop: UInt8[np.ndarray, "S S 3"]
    box_cxcywh: Float64[np.ndarray, "4"]
    names: tuple[str, str, str, str]
    maps: Float32[np.ndarray, "4 G G"]
    distributions: Float64[np.ndarray, "4 bins"]


def predict_attention(tracker: SeqTrackTracker, image: Image) -> AttentionMaps:
    """The tracker's next prediction with attention and distributions; its state stays as it is.

    Args:
        tracker: started by `init`, and moved on by `update` as far as wanted.
        image: the frame that follows, RGB.

    Raises:
        ValueError: the model's memory is a single token, see `attention_maps`.
    """
    crop, prediction = tracker.predict(image, attention=True, distributions=True)
    assert prediction.attention is not None
    assert prediction.distributions is not None
    return AttentionMaps(
        crop=crop.cut(image, padding=tracker.padding),
        box_cxcywh=prediction.boxes[0].double().cpu().numpy(),
        names=NAMES[tracker.model.tokenizer.order],
        maps=attention_maps(prediction.attention, tracker.model.encoder.search_grid)[0],
        distributions=prediction.distributions[0].double().cpu().numpy(),
    )


def attention_maps(attention: Float[Tensor, "B 4 layers heads M"], search_grid: int) -> Float32[np.ndarray, "B 4 G G"]:
    """Cross-attention of the last decoder block, averaged over heads, on the grid of the search region.

    Args:
        attention: as `SeqTrack.generate(attention=True)` returns it.
        search_grid: side of the grid of search tokens, `model.encoder.search_grid`.

    Raises:
        ValueError: fewer memory tokens than search tokens: with model.memory=mean there is one token and no map.
    """
    tokens = search_grid**2
    if attention.shape[-1] < tokens:
        raise ValueError(
            f"attention over {attention.shape[-1]} memory token(s) makes no map of {search_grid} x {search_grid}; "
            "model.memory must be search or both"
        )
    weights = attention[:, :, -1, :, :tokens].float().mean(dim=2)  # templates stand behind the search tokens
    grids = weights.reshape(*weights.shape[:2], search_grid, search_grid)
    return np.asarray(grids.cpu(), dtype=np.float32)


def overlay(
    image: UInt8[np.ndarray, "height width 3"], weights: Float[np.ndarray, "rows columns"], *, strength: float = 0.7
) -> UInt8[np.ndarray, "height width 3"]:
    """A heat map over an image: the largest weight is brightest and covers `strength` of the image, 0 leaves it.

    Args:
        image: RGB, of any size.
        weights: not negative; stretched smoothly over the image.
        strength: opacity of the largest weight, in [0, 1].
    """
    height, width = image.shape[:2]
    heat = cv2.resize(weights.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC).clip(0)
    heat = heat / max(float(heat.max()), 1e-12)
    colour = np.asarray(matplotlib.colormaps["inferno"](heat))[..., :3] * 255
    opacity = strength * heat[..., None]
    return np.asarray(np.rint(image * (1 - opacity) + colour * opacity), dtype=np.uint8)


def bars(distribution: Float64[np.ndarray, "bins"], *, width: int, height: int) -> UInt8[np.ndarray, "height width 3"]:
    """A distribution over the coordinate tokens as bars on white, bin 0 at the left, the largest as high as the band.

    Where several bins share a column the largest is drawn.
    """
    bins = len(distribution)
    column = np.arange(bins) * width // bins
    tallest = np.zeros(width)
    np.maximum.at(tallest, column, distribution)
    if bins < width:  # a bin is wider than a column
        tallest = distribution[np.arange(width) * bins // width]
    level = tallest / max(float(tallest.max()), 1e-12) * height
    filled = np.arange(height, 0, -1)[:, None] <= np.ceil(level)[None]
    return np.where(filled[..., None], np.uint8(40), np.uint8(255)).repeat(3, axis=-1)


def strip(attention: AttentionMaps, *, side: int = 192) -> UInt8[np.ndarray, "height width 3"]:
    """One picture: the search region with the box read, then the attention of each token with its distribution.

    Args:
        attention: what `predict_attention` returned.
        side: side of each of the five panels, pixels.
    """
    crop = cv2.resize(attention.crop, (side, side), interpolation=cv2.INTER_LINEAR)
    center, size = attention.box_cxcywh[:2] * side, attention.box_cxcywh[2:] * side
    boxed = draw_boxes(crop, [np.concatenate([center - size / 2, size])])
    low = side // 6
    panels = [("search region", boxed, np.full((low, side, 3), 255, np.uint8))]
    for name, weights, distribution in zip(attention.names, attention.maps, attention.distributions, strict=True):
        panels.append((name, overlay(crop, weights), bars(distribution, width=side, height=low)))
    images = [titled(np.vstack([above, below]), name, DARK, WHITE) for name, above, below in panels]
    return pictures.strip(images, gap=max(2, side // 48), ground=WHITE)
