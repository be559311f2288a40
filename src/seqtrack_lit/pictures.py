"""Pictures for people: boxes on images, samples and videos of a data set on a sheet, images side by side.

Images are RGB uint8; boxes xywh in pixels unless a name says otherwise.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from seqtrack_lit.boxes import Boxes
from seqtrack_lit.crops import Image
from seqtrack_lit.data.samples.batch import Batch
from seqtrack_lit.data.samples.sampling import Videos

Color = tuple[int, int, int]
Picture = UInt8[np.ndarray, "_ _ 3"]  # of any size: a sheet or a part of one
# Told apart by colour-blind readers too (Okabe and Ito 2008); drawn over a dark edge, so seen on any ground.
COLORS: tuple[Color, ...] = ((240, 228, 66), (86, 180, 233), (230, 120, 50), (0, 190, 140), (204, 121, 167))
TINT = 0.45  # of a colour over a mask
TRUTH: Color = (255, 255, 255)
TARGET, PREDICTED = (80, 220, 80), (240, 80, 80)  # in samples
WHITE, GREY, DARK = (255, 255, 255), (150, 150, 150), (20, 20, 20)
LABEL = 18  # pixels of a line of text
_SPACE = 8  # pixels between the parts of a sheet


def encoded(image: Image, suffix: str, *, quality: int | None = None) -> bytes:
    """The content of a .png or .jpg file with this picture."""
    options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(suffix, image[..., ::-1], options)[1].tobytes()


def draw_boxes(
    image: Image,
    boxes_xywh: Sequence[Float64[np.ndarray, "4"]],
    *,
    colors: Sequence[Color] = COLORS,
    labels: Sequence[str] = (),
) -> Image:
    """A copy of the image with thin coloured boxes over a dark edge; labels stand above them.

    Args:
        image: RGB.
        boxes_xywh: pixels of this image; a box that is not finite is left out.
        colors: RGB, one a box, repeated.
        labels: short texts, one a box; none: no labels.
    """
    drawn = image.copy()
    height, width = image.shape[:2]
    thin = max(1, round(min(height, width) ** 0.5 / 8.5))  # 1 px at 144, 2 at 288, 3 at 720 lines
    for number, box in enumerate(boxes_xywh):
        if not np.isfinite(box).all():
            continue
        color = colors[number % len(colors)]
        x1, y1, x2, y2 = (round(v) for v in np.clip([*box[:2], *(box[:2] + box[2:])], -1e4, 1e4).tolist())
        cv2.rectangle(drawn, (x1, y1), (x2, y2), DARK, thin + 2)
        cv2.rectangle(drawn, (x1, y1), (x2, y2), color, thin)
        if labels:
            _write(drawn, labels[number], (x1, y1 - thin - 3), color, thin)
    return drawn


def draw_masks(image: Image, masks: Sequence[Bool[np.ndarray, "height width"]], colors: Sequence[Color]) -> Image:
    """A copy of the image with every mask tinted and outlined in its colour (RGB); later ones lie on top."""
    drawn = image.copy()
    for mask, color in zip(masks, colors, strict=True):
        drawn[mask] = (drawn[mask] * (1 - TINT) + np.array(color) * TINT).round().astype(np.uint8)
        edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, edges, -1, color, 1)
    return drawn


def _write(image: Image, text: str, at: tuple[int, int], color: Color, thin: int) -> None:
    """A small label, kept inside the image."""
    scale = 0.35 + 0.1 * thin
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thin)
    x = min(max(at[0], 1), max(1, image.shape[1] - w - 1))
    y = min(max(at[1], h + 2), image.shape[0] - 2)
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, DARK, thin + 2, cv2.LINE_AA)
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, color, thin, cv2.LINE_AA)


def samples_sheet(
    batch: Batch, predicted_cxcywh: Boxes | None = None, *, count: int = 8, columns: int = 8, side: int | None = None
) -> Picture:
    """Training samples: templates above, the search crop below, with the target (green) and a predicted box (red).

    Args:
        batch: the samples.
        predicted_cxcywh: boxes in fractions of the search crops.
        count: samples shown at most.
        columns: samples side by side.
        side: of a shown crop in pixels; None: that of the search crop, 96 at least.
    """
    side = max(96, batch.search.shape[-1]) if side is None else side
    cells = []
    for i in range(min(count, len(batch.box))):
        crops = [*batch.templates[i], batch.search[i]]
        boxes = [[box] for box in [*batch.template_boxes[i], batch.box[i]]]
        if predicted_cxcywh is not None:
            boxes[-1].append(predicted_cxcywh[i])
        tiles = []
        for crop, of in zip(crops, boxes, strict=True):
            pixels = np.ascontiguousarray(crop.permute(1, 2, 0).cpu().numpy())
            tile = np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
            corners = [
                np.concatenate([b[:2] - b[2:] / 2, b[2:]]) * side for b in (b.double().cpu().numpy() for b in of)
            ]
            tiles.append(draw_boxes(tile, corners, colors=(TARGET, PREDICTED)))
        cells.append(np.concatenate(tiles))
    return _grid(cells, columns)


def videos_sheet(videos: Videos, *, count: int = 24, shown: int = 4, columns: int = 2, height: int = 150) -> Picture:
    """Frames of some videos with their boxes; a grey frame number says that the target is not visible there.

    Args:
        videos: the data set.
        count: videos shown, spread evenly over it.
        shown: frames of each, spread evenly over those that have a box.
        columns: videos side by side.
        height: of a shown frame in pixels.
    """
    strips = []
    for index in _spread(len(videos), count):
        boxes, visible, frames = videos.boxes(index), videos.visible(index), videos.frames(index)
        cells = []
        for t in _spread(len(boxes), shown):
            scale = height / frames[t].shape[0]
            size = max(round(frames[t].shape[1] * scale), 1), height
            small = np.asarray(cv2.resize(frames[t], size, interpolation=cv2.INTER_AREA), np.uint8)
            box = boxes[t] * scale if (boxes[t][2:] > 0).all() else np.full(4, np.nan)
            cell = draw_boxes(small, [box], colors=(TARGET,))
            cells.append(titled(cell, f"{t + 1}", WHITE if visible[t] else GREY))
        absent = int((~visible).sum())
        title = f"{videos.name(index)}  {len(frames)} frames" + (f", target absent in {absent}" if absent else "")
        strips.append(titled(strip(cells), title))
    return _grid(strips, columns)


def strip(images: Sequence[Picture], *, gap: int = 3, ground: Color = (0, 0, 0)) -> Picture:
    """Images side by side, lower ones filled up below, with gaps (pixels) between them."""
    tallest = max(image.shape[0] for image in images)
    parts = []
    for image in images:
        part = np.full((tallest, image.shape[1] + gap, 3), ground, np.uint8)
        part[: image.shape[0], : image.shape[1]] = image
        parts.append(part)
    return np.concatenate(parts, axis=1)[:, : -gap or None]


def column(images: Sequence[Picture], *, ground: Color = (0, 0, 0)) -> Picture:
    """Images one below the other, narrow ones filled up on the right."""
    widest = max(image.shape[1] for image in images)
    parts = []
    for image in images:
        part = np.full((image.shape[0], widest, 3), ground, np.uint8)
        part[:, : image.shape[1]] = image
        parts.append(part)
    return np.concatenate(parts)


def titled(image: Picture, text: str, ink: Color = WHITE, ground: Color = (0, 0, 0)) -> Picture:
    """The image with a line of text above it."""
    sheet = Pillow.new("RGB", (image.shape[1], image.shape[0] + LABEL), ground)
    sheet.paste(Pillow.fromarray(image), (0, LABEL))
    ImageDraw.Draw(sheet).text((3, 2), text, fill=ink, font=_font())
    return np.array(sheet)


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Matplotlib's, because Pillow's own has English letters only."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 11)


def _grid(cells: Sequence[Picture], columns: int) -> Picture:
    """Cells in rows, each row as high as its highest and each column as wide as the widest cell.

    Raises:
        ValueError: there are none.
    """
    if not cells:
        raise ValueError("there is nothing to show")
    width = max(cell.shape[1] for cell in cells) + _SPACE
    rows = []
    for first in range(0, len(cells), columns):
        part = cells[first : first + columns]
        height = max(cell.shape[0] for cell in part) + _SPACE
        row = np.full((height, min(columns, len(cells)) * width, 3), 40, np.uint8)
        for k, cell in enumerate(part):
            row[: cell.shape[0], k * width : k * width + cell.shape[1]] = cell
        rows.append(row)
    return np.concatenate(rows)


def _spread(available: int, wanted: int) -> list[int]:
    """Places spread evenly over a range, first and last included."""
    places = np.linspace(0, available - 1, min(wanted, available)).round()
    return [int(place) for place in np.unique(places)]
