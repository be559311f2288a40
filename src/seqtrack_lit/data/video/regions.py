"""Regions of VOT: masks, rectangles, polygons and special codes, and their text, one region a line.

    m10,20,5,3,0,15          mask: x, y of the patch, its width and height, run lengths row by row, zeros first
    10,20,5,3                rectangle x,y,w,h in pixels
    10,20,14,20,14,22        polygon x,y,x,y ... of at least three points
    0                        special: nothing is known or visible; in trajectories 1 marks the given region
Four or more numbers with a NaN among them are special 0. Sources: vot-toolkit 0.7.4 (region/io.py), TraX 4.

Letters: H W image, h w patch.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int64

from seqtrack_lit.boxes import LARGEST
from seqtrack_lit.checks import shown
from seqtrack_lit.files import read_text

LARGEST_MASK = 2**26  # pixels of a patch, more than any video has
LARGEST_TEXT = 64_000_000  # bytes; the masks of VOT2020's longest video are below 10 MB
REMEDY = "unpack the file again, or delete it and track again"  # ground truth, or a tracker's answer
LARGEST_LINE = 4_000_000  # characters; a mask of a million runs
_MASK = re.compile(r"m-?[0-9]{1,9},-?[0-9]{1,9},[0-9]{1,9},[0-9]{1,9}((,[0-9]{1,9})*)")


@dataclass(frozen=True)
class Special:
    """No region: 0 unknown or absent, 1 the given region of a start, 2 a failure."""

    code: int


@dataclass(frozen=True)
class Rectangle:
    """A box in pixels: corner and size."""

    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True, eq=False)
class Polygon:
    """A closed polygon of at least three points (x, y) in pixels."""

    points: Float64[np.ndarray, "N 2"]


@dataclass(frozen=True, eq=False)
class Mask:
    """A patch of pixels at (x, y) of the image; everything around it is background."""

    pixels: Bool[np.ndarray, "h w"]
    x: int = 0
    y: int = 0


Region = Special | Rectangle | Polygon | Mask


@runtime_checkable
class RegionList(Protocol):
    """Regions by frame: a list, or a file whose regions are parsed when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Region: ...

    def __iter__(self) -> Iterator[Region]: ...


class Regions:
    """The regions of a file, parsed when asked for: decoded masks take a hundred times the memory of their text.

    Args:
        path: the file, for messages.
        lines: its lines.
    """

    def __init__(self, path: Path, lines: list[str]) -> None:
        self.path, self.lines = path, lines

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int, /) -> Region:
        number = range(len(self.lines))[index]
        return parse_region(self.lines[number], f"{self.path}, line {number + 1}")

    def __iter__(self) -> Iterator[Region]:
        return (self[number] for number in range(len(self)))


@dataclass(frozen=True, eq=False)
class VotAnnotation:
    """What a VOT sequence has beside frames and boxes, one value a frame.

    Args:
        name: of the sequence.
        regions: ground truth; may have fewer rows than frames, further ones are special 0.
        anchors: 1 a run starts here forwards, -1 backwards, 0 none.
        tags: visual attributes by name (occlusion, camera_motion ...).
        size: width and height of the images in pixels.
        fps: frames a second.
    """

    name: str
    regions: Regions
    anchors: Int64[np.ndarray, "frames"]
    tags: Mapping[str, Bool[np.ndarray, "frames"]]
    size: tuple[int, int]
    fps: float

    def __len__(self) -> int:
        return len(self.anchors)

    def region(self, frame: int) -> Region:
        """Ground truth of a frame (0-based)."""
        return self.regions[frame] if frame < len(self.regions) else Special(0)


def read_regions(path: Path) -> Regions:
    """The regions of a text file; every line is parsed once.

    Raises:
        FileNotFoundError: no such file.
        ValueError: empty, too large, no text, or a line that is no region; names file and line.
    """
    regions = Regions(path, read_text(path, largest=LARGEST_TEXT).rstrip().splitlines())
    if not len(regions):
        raise ValueError(f"{path} is empty; expected one region a line; {REMEDY}")
    for _ in regions:
        pass
    return regions


def parse_region(text: str, where: str) -> Region:
    """A region from its text.

    Args:
        text: one line.
        where: file and line, the beginning of a message.

    Raises:
        ValueError: no region, run lengths beyond the patch, or numbers beyond any image.
    """
    text = text.strip()
    if len(text) > LARGEST_LINE:
        raise ValueError(f"{where}: {len(text):,} characters are too many for a region; {REMEDY}")
    if text.startswith("m"):
        return _parse_mask(text, where)
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and numbers[0] in (0, 1, 2):
        return Special(int(numbers[0]))
    if len(numbers) < 4 or len(numbers) % 2:
        raise ValueError(
            f"{where}: {shown(text)} is no region; expected a mask m.., a rectangle x,y,w,h, a polygon x,y,x,y,x,y.. "
            f"or 0 where the target is absent; {REMEDY}"
        )
    if any(math.isnan(number) for number in numbers):
        return Special(0)
    if max(map(abs, numbers)) > LARGEST:
        raise ValueError(f"{where}: {shown(text)} lies beyond any image; {REMEDY}")
    if len(numbers) == 4:
        return Rectangle(*numbers)
    return Polygon(np.array(numbers).reshape(-1, 2))


def _parse_mask(text: str, where: str) -> Mask:
    match = _MASK.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{where}: {shown(text)} is no mask; expected mX,Y,WIDTH,HEIGHT and run lengths, whole numbers of at most "
            f"nine digits separated by commas; {REMEDY}"
        )
    x, y, width, height = (int(part) for part in text[1:].split(",", 4)[:4])
    runs = np.array(match[1].split(",")[1:], np.int64)
    return mask_of_runs(runs, (x, y, width, height), where)


def mask_of_runs(runs: Int64[np.ndarray, "runs"], place: tuple[int, int, int, int], where: str) -> Mask:
    """A mask from its run lengths.

    Args:
        runs: lengths of zeros and ones in turn, row by row; the rest of the patch is zeros.
        place: x, y, width, height of the patch.
        where: file and line, the beginning of a message.

    Raises:
        ValueError: run lengths beyond the patch, or a patch beyond any image.
    """
    x, y, width, height = place
    if width * height > LARGEST_MASK or max(abs(x), abs(y)) > LARGEST:
        raise ValueError(f"{where}: a mask of {width} x {height} pixels at {x},{y} lies beyond any image; {REMEDY}")
    total = int(runs.sum())
    if total > width * height:
        raise ValueError(
            f"{where}: run lengths of {total} pixels in a mask of {width} x {height}; it is damaged; {REMEDY}"
        )
    flat = np.zeros(width * height, np.bool_)
    flat[:total] = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return Mask(flat.reshape(height, width), x, y)


def format_region(region: Region) -> str:
    """The text of a region; numbers of rectangles and polygons are float32 with four decimals, as TraX sends them."""
    if isinstance(region, Special):
        return str(region.code)
    if isinstance(region, Mask):
        height, width = region.pixels.shape
        return ",".join(map(str, (f"m{region.x}", region.y, width, height, *_run_lengths(region.pixels))))
    numbers = (region.x, region.y, region.w, region.h) if isinstance(region, Rectangle) else region.points.ravel()
    return ",".join(f"{float(np.float32(number)):.4f}" for number in numbers)


def _run_lengths(pixels: Bool[np.ndarray, "h w"]) -> list[int]:
    flat = pixels.ravel()
    if not flat.size:
        return [0]
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs: list[int] = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


def trim(mask: Bool[np.ndarray, "H W"]) -> Mask:
    """The smallest patch with all foreground pixels of a mask of a whole image; 0 x 0 where there are none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return Mask(np.zeros((0, 0), np.bool_))
    top, left = int(rows[0]), int(columns[0])
    return Mask(mask[top : rows[-1] + 1, left : columns[-1] + 1], left, top)


def whole_mask(mask: Mask, width: int, height: int) -> Bool[np.ndarray, "H W"]:
    """A mask of the whole image; what lies outside is cut off."""
    whole = np.zeros((height, width), np.bool_)
    rows, columns = mask.pixels.shape
    left, top = max(mask.x, 0), max(mask.y, 0)
    right, bottom = min(mask.x + columns, width), min(mask.y + rows, height)
    if right > left and bottom > top:
        whole[top:bottom, left:right] = mask.pixels[top - mask.y : bottom - mask.y, left - mask.x : right - mask.x]
    return whole


def box_of(region: Region) -> Float64[np.ndarray, "4"]:
    """The box xywh around a region, as TraX converts it for a tracker of boxes; zeros where there is none.

    A mask's box has the width max - min + 1, a polygon's max - min. Numbers are rounded as in `format_region`.
    """
    box: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    if isinstance(region, Rectangle):
        box = (region.x, region.y, region.w, region.h)
    elif isinstance(region, Polygon):
        near, far = region.points.min(0), region.points.max(0)
        box = (*near, *(far - near))
    elif isinstance(region, Mask) and region.pixels.any():
        patch = trim(region.pixels)
        height, width = patch.pixels.shape
        box = (region.x + patch.x, region.y + patch.y, width, height)
    return np.array(format_region(Rectangle(*map(float, box))).split(","), np.float32).astype(np.float64)
