"""A data set at a glance: sequences with their boxes, and training samples as the model gets them, on one picture."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from seqtrack_lit.data.samples.batch import Sample
from seqtrack_lit.data.samples.sampling import Videos

LABEL = 18  # pixels of a line of text
BOX, ABSENT = (60, 220, 60), (150, 150, 150)
Box = Float64[np.ndarray, "4"]
Picture = UInt8[np.ndarray, "_ _ 3"]  # of any size: a sheet or a part of one


def sequences_sheet(videos: Videos, *, count: int = 24, shown: int = 4, columns: int = 2, height: int = 150) -> Picture:
    """Frames of some sequences with their boxes; a grey frame number says that the target is not visible there.

    Args:
        videos: the data set.
        count: videos shown, spread evenly over it.
        shown: frames of each, spread evenly over those that have a box.
        columns: sequences side by side.
        height: of a shown frame in pixels.
    """
    chosen = _spread(len(videos), count)
    strips = [_strip(videos, i, shown, height) for i in chosen]
    return _grid(strips, columns)


def _strip(videos: Videos, index: int, shown: int, height: int) -> Picture:
    boxes, visible, frames = videos.boxes(index), videos.visible(index), videos.frames(index)
    cells = []
    for t in _spread(len(boxes), shown):
        cell = _shrunk(frames[t], boxes[t], height)
        cells.append(_labelled(cell, f"{t + 1}", (255, 255, 255) if visible[t] else ABSENT))
    absent = int((~visible).sum())
    title = f"{videos.name(index)}  {len(frames)} frames" + (f", target absent in {absent}" if absent else "")
    return _labelled(_beside(cells), title)


def _shrunk(image: Picture, box_xywh: Box, height: int) -> Picture:
    scale = height / image.shape[0]
    small = np.asarray(cv2.resize(image, (max(round(image.shape[1] * scale), 1), height)), np.uint8)
    return draw_box(small, box_xywh * scale)


def samples_sheet(samples: Iterable[Sample], *, columns: int = 3, side: int = 160) -> Picture:
    """Training samples, each a row of its templates and its search crop, with the target's box in each.

    Args:
        samples: ready for the model.
        columns: samples side by side.
        side: of a shown crop in pixels.
    """
    strips = []
    for sample in samples:
        crops = [*sample.templates.numpy(), sample.search.numpy()]
        boxes = [*sample.template_boxes.double().numpy(), sample.box.double().numpy()]
        cells = [_crop(np.moveaxis(crop, 0, -1), box, side) for crop, box in zip(crops, boxes, strict=True)]
        epoch, index, _ = sample.key.tolist()
        title = f"epoch {epoch}, sample {index}: templates, then search"
        strips.append(_labelled(_beside(cells), title))
    return _grid(strips, columns)


def _crop(crop: Picture, box_cxcywh: Box, side: int) -> Picture:
    cx, cy, w, h = box_cxcywh * side
    resized = np.asarray(cv2.resize(np.ascontiguousarray(crop), (side, side)), np.uint8)
    return draw_box(resized, np.array([cx - w / 2, cy - h / 2, w, h]))


def draw_box(image: Picture, box_xywh: Box) -> Picture:
    """The image with the box, where it has an area."""
    if not np.isfinite(box_xywh).all() or (box_xywh[2:] <= 0).any():
        return image
    x, y, w, h = box_xywh.clip(-1e4, 1e4)
    corners = (round(x), round(y)), (round(x + w) - 1, round(y + h) - 1)
    cv2.rectangle(image, *corners, BOX, 2)
    return image


def _labelled(image: Picture, text: str, color: tuple[int, int, int] = (255, 255, 255)) -> Picture:
    sheet = Pillow.new("RGB", (image.shape[1], image.shape[0] + LABEL))
    sheet.paste(Pillow.fromarray(image), (0, LABEL))
    ImageDraw.Draw(sheet).text((3, 2), text, fill=color, font=_font())
    return np.array(sheet)


def _font() -> ImageFont.FreeTypeFont:
    """Matplotlib's, because Pillow's own knows English letters only."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 11)


def _beside(cells: list[Picture]) -> Picture:
    space = np.zeros((cells[0].shape[0], 3, 3), np.uint8)
    tallest = max(cell.shape[0] for cell in cells)
    padded = [np.pad(cell, ((0, tallest - cell.shape[0]), (0, 0), (0, 0))) for cell in cells]
    return np.concatenate([part for cell in padded for part in (cell, space)][:-1], 1)


def _grid(strips: list[Picture], columns: int) -> Picture:
    """Strips in rows, each row as high and each column as wide as its largest."""
    if not strips:
        raise ValueError("there is nothing to show")
    width, space = max(strip.shape[1] for strip in strips), 8
    rows = []
    for first in range(0, len(strips), columns):
        part = strips[first : first + columns]
        row = np.full((max(strip.shape[0] for strip in part) + space, columns * (width + space), 3), 40, np.uint8)
        for k, strip in enumerate(part):
            row[: strip.shape[0], k * (width + space) : k * (width + space) + strip.shape[1]] = strip
        rows.append(row)
    return np.concatenate(rows)


def _spread(available: int, wanted: int) -> list[int]:
    """Places spread evenly over a range, first and last included."""
    places = np.linspace(0, available - 1, min(wanted, available)).round()
    return [int(place) for place in np.unique(places)]
