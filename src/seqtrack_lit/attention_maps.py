"""Attention behind each of the four tokens (paper Fig. 7) and in the encoder, and the distribution of each token.

Arrays in, arrays out: nothing is displayed, no state is kept.

Letters: B batch, L tokens of a sequence, G side of the grid of search tokens, S side of the search crop in pixels,
T templates, g side of the grid of template tokens.
"""

from dataclasses import dataclass

import cv2
import matplotlib
import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64, UInt8

from seqtrack_lit import pictures
from seqtrack_lit.crops import Image
from seqtrack_lit.models.encoder import IMAGENET_MEAN, IMAGENET_STD
from seqtrack_lit.models.seqtrack import Forced, Prediction, SeqTrack
from seqtrack_lit.pictures import DARK, WHITE, draw_boxes, titled
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """One reading of a search region.

    Args:
        crop: the search region as the model saw it, RGB.
        box_cxcywh: the box read, fractions of the crop.
        names: what the four tokens stand for, in the order they were written.
        tokens: the four tokens.
        cross: per token, decoder block and head the attention on each search token; the sum of a map is the share that
            fell on the search region.
        own: per token, decoder block and head the attention on the tokens of the sequence itself, past boxes and START
            first (of the bidirectional decoder on its four queries); what does not exist yet has 0.
        distributions: per token the probabilities it was chosen from, after the window.
        unwindowed: the same before the window.
    """

    crop: UInt8[np.ndarray, "S S 3"]
    box_cxcywh: Float64[np.ndarray, "4"]
    names: tuple[str, str, str, str]
    tokens: Int64[np.ndarray, "4"]
    cross: Float32[np.ndarray, "4 layers heads G G"]
    own: Float32[np.ndarray, "4 layers heads L"]
    distributions: Float64[np.ndarray, "4 bins"]
    unwindowed: Float64[np.ndarray, "4 bins"]

    @property
    def maps(self) -> Float32[np.ndarray, "4 G G"]:
        """Per token the attention in the last block, averaged over heads (paper Fig. 7)."""
        return self.map()

    def map(self, *, layer: int = -1, head: int | None = None) -> Float32[np.ndarray, "4 G G"]:
        """Per token the attention in a decoder block, of one head or averaged over heads (None)."""
        return np.asarray(self.cross[:, layer].mean(1) if head is None else self.cross[:, layer, head])


def predict_attention(tracker: SeqTrackTracker, image: Image, *, forced: Forced = ()) -> AttentionMaps:
    """The tracker's next prediction with attention and distributions; its state stays as it is.

    Args:
        tracker: started by `init`, and moved on by `update` as far as wanted.
        image: the frame that follows, RGB.
        forced: tokens to go on from in the place of the chosen ones, see `SeqTrack.generate`.

    Raises:
        ValueError: the model's memory is a single token, see `attention_of`.
    """
    crop, prediction = tracker.predict(image, attention=True, distributions=True, forced=forced)
    return attention_of(tracker.model, prediction, crop.cut(image, padding=tracker.padding)[None])[0]


def attention_of(model: SeqTrack, prediction: Prediction, crops: UInt8[np.ndarray, "B S S 3"]) -> list[AttentionMaps]:
    """What a prediction with attention and distributions says of each sample.

    Args:
        model: that made it.
        prediction: of `SeqTrack.generate(attention=True, distributions=True)`.
        crops: the search crops, RGB.

    Raises:
        ValueError: fewer memory tokens than search tokens: with model.memory=mean there is one token and no map.
    """
    assert prediction.attention is not None
    assert prediction.distributions is not None
    assert prediction.unwindowed is not None
    cross, own = (one.float().cpu().numpy() for one in prediction.attention)
    grid, tokens = model.encoder.search_grid, model.encoder.search_tokens
    if cross.shape[-1] < tokens:
        raise ValueError(
            f"attention over {cross.shape[-1]} memory token(s) makes no map of {grid} x {grid}; model.memory must be "
            "search or both"
        )
    cross = cross[..., :tokens].reshape(*cross.shape[:-1], grid, grid)  # templates stand behind the search tokens
    rest = (prediction.distributions.double().cpu().numpy(), prediction.unwindowed.double().cpu().numpy())
    boxes, chosen = prediction.boxes.double().cpu().numpy(), prediction.tokens.cpu().numpy()
    names = model.tokenizer.names
    return [
        AttentionMaps(crop, boxes[i], names, chosen[i], cross[i], own[i], *(one[i] for one in rest))
        for i, crop in enumerate(crops)
    ]


@torch.inference_mode()
def template_attention(
    tracker: SeqTrackTracker, image: Image, *, block: int = -1, head: int | None = None
) -> Float32[np.ndarray, "G G T g g"]:
    """How much each search token attends to each token of the templates, in a block of the encoder.

    Args:
        tracker: started by `init`; its state stays as it is.
        image: the frame that follows, RGB.
        block: number of the block, from 0; of encoders with blocks apart, counted from where they meet.
        head: of the block; None: the mean over heads.

    Raises:
        ValueError: the encoder does not compute it (timm's, joint=false), or there is no such block.
    """
    model = tracker.model
    weights = model.encoder.search_attention(
        tracker.templates, tracker.search_pixels(image), tracker.template_boxes, block=block
    )[0]
    chosen = (weights.mean(0) if head is None else weights[head])[:, model.encoder.search_tokens :]
    grid, side = model.encoder.search_grid, model.encoder.template_grid
    return np.asarray(chosen.reshape(grid, grid, model.templates, side, side).float().cpu(), np.float32)


def template_images(tracker: SeqTrackTracker) -> UInt8[np.ndarray, "T h w 3"]:
    """The templates that the tracker compares with, RGB."""
    mean, std = (torch.tensor(of, device=tracker.device)[:, None, None] for of in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = (tracker.templates[0].float() * std + mean) * 255
    return np.asarray(pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu())


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
    level = tallest / max(float(np.max(tallest)), 1e-12) * height
    filled = np.arange(height, 0, -1)[:, None] <= np.ceil(level)[None]
    return np.where(filled[..., None], np.uint8(40), np.uint8(255)).repeat(3, axis=-1)


def strip(
    attention: AttentionMaps, *, side: int = 192, layer: int = -1, head: int | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """One picture: the search region with the box read, then the attention of each token with its distribution.

    Args:
        attention: what `predict_attention` returned.
        side: side of each of the five panels, pixels.
        layer: decoder block of the attention.
        head: of the block; None: the mean over heads.
    """
    crop = cv2.resize(attention.crop, (side, side), interpolation=cv2.INTER_LINEAR)
    center, size = attention.box_cxcywh[:2] * side, attention.box_cxcywh[2:] * side
    boxed = draw_boxes(crop, [np.concatenate([center - size / 2, size])])
    low = side // 6
    panels = [("search region", boxed, np.full((low, side, 3), 255, np.uint8))]
    for name, weights, distribution in zip(
        attention.names, attention.map(layer=layer, head=head), attention.distributions, strict=True
    ):
        panels.append((name, overlay(crop, weights), bars(distribution, width=side, height=low)))
    images = [titled(np.vstack([above, below]), name, DARK, WHITE) for name, above, below in panels]
    return pictures.strip(images, gap=max(2, side // 48), ground=WHITE)
