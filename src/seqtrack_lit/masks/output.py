"""Masks in files: as indexed PNG, and as COCO's results."""

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image as Picture
from typing_extensions import TypedDict

from seqtrack_lit.files import remove_leftovers, write_atomic
from seqtrack_lit.masks.refiner import Refined

Color = tuple[int, int, int]
MOST_TARGETS = 255  # values of a PNG beside the background
_NAME = re.compile(r"[0-9]{6,}\.png")


class MaskWriter:
    """<name>_masks/000000.png, one a frame, and <name>_masks.json with all frames.

    A PNG has the value 0 for the background and 1, 2, ... for the targets, the last one on top, with a palette, as
    DAVIS has them. The JSON is a list in COCO's format of results, one entry a frame and target: image_id (frame,
    0-based), track_id (target, 0-based), category_id 1, bbox, segmentation (run lengths) and score. Pictures of an
    earlier result are removed.

    Args:
        base: path of the result without its ending.
        colors: of the targets, RGB, repeated.
    """

    def __init__(self, base: Path, colors: Sequence[Color]) -> None:
        self.folder, self.table = base.with_name(f"{base.name}_masks"), base.with_name(f"{base.name}_masks.json")
        self.rows: list[dict[str, object]] = []
        repeated = [colors[target % len(colors)] for target in range(MOST_TARGETS)]
        self._palette = [0, 0, 0, *(value for color in repeated for value in color)]
        self.table.unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        for path in self.folder.iterdir():
            if _NAME.fullmatch(path.name):
                path.unlink()

    def write(
        self,
        frame: int,
        refined: Sequence[Refined],
        boxes_xywh: Sequence[Sequence[float]],
        confidences: Sequence[float],
    ) -> None:
        """Add a frame (0-based): mask, box and the tracker's confidence of every target.

        The confidence is the score where the refiner has none.

        Raises:
            OSError: the picture cannot be written.
        """
        labels = np.zeros(refined[0].mask.shape, np.uint8)
        for target, (mask, score) in enumerate(refined):
            labels[mask] = target + 1
            self.rows.append(
                {
                    "image_id": frame,
                    "category_id": 1,
                    "track_id": target,
                    "bbox": list(boxes_xywh[target]),
                    "segmentation": encode_rle(mask),
                    "score": confidences[target] if score is None else round(score, 6),
                }
            )
        picture, data = Picture.fromarray(labels), io.BytesIO()
        picture.putpalette(self._palette)
        picture.save(data, "PNG")
        write_atomic(self.folder / f"{frame:06d}.png", data.getvalue())

    def close(self) -> None:
        """Write the run lengths of the frames so far, also after an error.

        Raises:
            OSError: they cannot be written.
        """
        lines = ",\n".join(json.dumps(row, allow_nan=False) for row in self.rows)
        write_atomic(self.table, f"[\n{lines}\n]\n")


class Rle(TypedDict):
    """A mask: height and width, and its runs."""

    size: list[int]
    counts: str


def encode_rle(mask: Bool[np.ndarray, "H W"]) -> Rle:
    """A mask as compressed run lengths, as pycocotools reads and writes them.

    Runs go down the columns and begin with background. From the fourth on, a run is written as its difference to the
    one two before; numbers are in base 32, lowest digit first, with a bit for "more follows" and a sign in the last
    digit. Source: cocodataset/cocoapi, common/maskApi.c (rleToString).
    """
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(changes, prepend=0, append=flat.size).tolist()
    if flat.size and flat[0]:
        runs.insert(0, 0)
    text = []
    for index, run in enumerate(runs):
        value, more = run - runs[index - 2] if index > 2 else run, True
        while more:
            digit, value = value & 31, value >> 5
            more = value != (-1 if digit & 16 else 0)
            text.append(chr(48 + digit + 32 * more))
    return {"size": list(mask.shape), "counts": "".join(text)}
