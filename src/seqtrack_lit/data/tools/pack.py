"""Packing a training set: of every frame with a target, what training can ever see of it.

The side of a search crop is F s' image pixels, where s' = s exp(sigma z), s = sqrt(w h) of the box, z is standard
normal and sigma = jitter.size / sqrt(2) (the mean of two independent logarithms); its centre lies at most c s' / 2 from
the target's in x and in y. So the crops with z between two limits see the square of (F + c) s' pixels around the
target, at the largest s', and are sharp if it is kept at the scale which the smallest s' needs. One such piece is kept
for each range of z in `RANGES`, the last of them the whole frame, so that none can be missed; and the template's crop.
"""

import logging
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import simplejpeg
from jaxtyping import Int64

from seqtrack_lit.checks import shown, whole
from seqtrack_lit.crops import Crop, Image
from seqtrack_lit.data.samples.augment import Box, CropSettings, Jitter, JitterSchedule
from seqtrack_lit.data.samples.packed import geometry
from seqtrack_lit.data.video.columns import Columns, IndexInfo, checksum, write_columns
from seqtrack_lit.data.video.frames import image_bytes, jpeg_size
from seqtrack_lit.data.video.index import SequenceIndex
from seqtrack_lit.data.video.packed import (
    EDGE,
    FACTS,
    FORMS,
    INDEX,
    PACK_FORMAT,
    PART,
    Geometry,
    open_pack,
    write_facts,
)
from seqtrack_lit.data.video.sequence import Frames
from seqtrack_lit.files import remove_leftovers, replacing, write_atomic
from seqtrack_lit.process import end_with_parent

RANGES = (-3.0, -1.0, 1.0, 3.0, math.inf)  # limits of z: .16, .68, .16 of all crops, and the rest
ROWS = 2000  # frames of a part: 100 to 300 MB
_FREE = 65_536  # pixels that may be decoded in vain rather than kept twice: a quarter of a millisecond
log = logging.getLogger(__name__)
_DONE = "packing.txt"  # what an unfinished pack is made of
Step = Callable[[int, int], None]


class Piece(NamedTuple):
    """What is kept of a frame: the region it shows (xywh, whole image pixels) and its width and height."""

    region: tuple[int, int, int, int]
    size: tuple[int, int]

    def serves(self, other: "Piece") -> bool:
        """Whether it shows all that the other one shows, as sharp, for little more decoding."""
        (x, y, w, h), (a, b, c, d) = self.region, other.region
        covers = x <= a and y <= b and x + w >= a + c and y + h >= b + d
        sharp = self.size[0] * c >= other.size[0] * w * 0.999 and self.size[1] * d >= other.size[1] * h * 0.999
        pixels, others = self.size[0] * self.size[1], other.size[0] * other.size[1]
        return covers and sharp and pixels <= 1.5 * others + _FREE


def pieces_of(box: Box, width: int, height: int, crops: CropSettings, jitter: Jitter) -> list[Piece]:
    """The pieces to keep of a frame.

    Args:
        box: of the target, xywh in pixels.
        width: of the frame.
        height: of the frame.
        crops: of the training.
        jitter: the widest of the training.

    Raises:
        ValueError: no crop can be cut around the box.
    """
    found = [_template(crops.template(box), width, height)]
    x, y, w, h = box.tolist()
    center, s, sigma = (x + w / 2, y + h / 2), math.sqrt(w * h), jitter.size / math.sqrt(2)
    for low, high in pairwise(RANGES):
        side = math.ceil(crops.search_factor * s * math.exp(sigma * low))
        scale = min(1.0, crops.search_size / side)
        reach = math.inf
        if high < math.inf:
            reach = (crops.search_factor + jitter.center) / 2 * s * math.exp(sigma * high) + EDGE + 2 + 1 / scale
        found.append(_piece(center, reach, scale, width, height))
    kept = list(found)
    for piece in found:
        others = [other for other in kept if other is not piece]
        if any(other.serves(piece) for other in others):
            kept = others
    return kept


def _template(crop: Crop, width: int, height: int) -> Piece:
    """The crop itself; where it would be stretched, the pixels that it shows."""
    if crop.side > crop.size:
        return Piece(crop.window_xywh, (crop.size, crop.size))
    return _piece(crop.center, crop.side / 2 + EDGE + 2, 1.0, width, height)


def _piece(center: tuple[float, float], reach: float, scale: float, width: int, height: int) -> Piece:
    """A square around a point as far as it lies in the frame; one pixel where nothing of it does."""
    spans = []
    for middle, length in zip(center, (width, height), strict=True):
        first = min(max(math.floor(max(middle - reach, 0)), 0), length - 1)
        last = max(math.ceil(min(middle + reach, length)), first + 1)
        spans.append((first, last - first))
    (x, w), (y, h) = spans
    return Piece((x, y, w, h), (max(round(w * scale), 1), max(round(h * scale), 1)))


@dataclass(frozen=True)
class Packing:
    """How a set is packed.

    Args:
        crops: of the training.
        jitter: of the training.
        quality: of JPEG, 1 to 100; None: whole frames as they are, bit for bit (pictures that are no ordinary JPEG
            become PNG).

    Raises:
        ValueError: a quality out of range.
    """

    crops: CropSettings
    jitter: JitterSchedule
    quality: int | None = 90

    def __post_init__(self) -> None:
        if self.quality is not None:
            whole("", 1, 100, pack_quality=self.quality)

    @property
    def geometry(self) -> Geometry | None:
        """See `PackFacts`."""
        return None if self.quality is None else geometry(self.crops, self.jitter)

    def read(self, frames: Frames, t: int) -> "Source":
        """A frame, decoded where it is cut.

        Raises:
            ValueError: it cannot be read.
        """
        path = getattr(frames, "path", None) if self.quality is None else None
        data = image_bytes(path(t)) if callable(path) else b""
        size = jpeg_size(data, "") if data else None
        if size is not None:
            return Source(size, None, data)
        image = frames[t]
        data = b"" if self.quality is not None else cv2.imencode(".png", image[..., ::-1])[1].tobytes()
        return Source((image.shape[0], image.shape[1]), image, data)

    def pieces(self, source: "Source", box: Box) -> Iterator[tuple[Piece, Callable[[], bytes]]]:
        """The pieces of a frame, and what makes the file of each.

        Raises:
            ValueError: no crop can be cut around the box.
        """
        (height, width), image, data = source
        wide, quality = self.geometry, self.quality
        if wide is None or quality is None:
            yield Piece((0, 0, width, height), (width, height)), lambda: data
            return
        assert image is not None
        template = self.crops.template(box)
        for piece in pieces_of(box, width, height, self.crops, Jitter(wide["jitter_center"], wide["jitter_size"])):
            yield piece, partial(_encoded, image, piece, template, quality)


class Source(NamedTuple):
    """A frame: height and width, pixels where they were decoded, its file where that is kept."""

    size: tuple[int, int]
    image: Image | None
    data: bytes


def _encoded(image: Image, piece: Piece, template: Crop, quality: int) -> bytes:
    """The JPEG of a piece."""
    x, y, w, h = piece.region
    if piece.region == template.window_xywh and piece.size == (template.size, template.size):
        pixels = template.cut(image)
    else:
        pixels = image[y : y + h, x : x + w]
        if piece.size != (w, h):
            pixels = np.asarray(cv2.resize(pixels, piece.size, interpolation=cv2.INTER_AREA), np.uint8)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality, colorsubsampling="420"))


def pack(
    videos: SequenceIndex,
    folder: Path,
    packing: Packing,
    *,
    reader: Mapping[str, Any],
    workers: int | None = None,
    step: Step = lambda done, total: None,
) -> "Packed":
    """Pack a set, or go on where it was stopped.

    Args:
        videos: the whole set.
        folder: where to.
        packing: how.
        reader: what read the set, see `PackFacts`.
        workers: processes; 0: this one; None: one a processor.
        step: called with frames done and frames in all.

    Raises:
        ValueError: the folder holds a pack of something else, or no frame can be read.
    """
    if videos.positions is not None:
        raise ValueError(f"only whole data sets are packed, not a part of {videos.dataset}")
    rows = _rows(videos)
    parts = [rows[first : first + ROWS] for first in range(0, len(rows), ROWS)]
    asked = f"{videos.hash} {packing.quality} {packing.geometry} {dict(reader)} format {PACK_FORMAT}\n"
    if _is_there(folder, asked):
        return _numbers(folder, len(rows))
    remove_leftovers(folder)
    left = [number for number in range(len(parts)) if not (folder / f"{PART.format(number)}.npz").is_file()]
    done = len(rows) - sum(len(parts[number]) for number in left)
    step(done, len(rows))
    for count in _work(left, [parts[number] for number in left], (videos, folder, packing), workers):
        step(done := done + count, len(rows))
    _finish(videos, folder, packing, len(parts), dict(reader))
    return _numbers(folder, len(rows))


def _work(
    numbers: list[int],
    rows: list[Int64[np.ndarray, "_"]],
    settings: tuple[SequenceIndex, Path, Packing],
    workers: int | None,
) -> Iterator[int]:
    """Pack parts in several processes; frames of each that is finished."""
    if workers == 0 or not numbers:
        _shared.update(zip(("videos", "folder", "packing"), settings, strict=True))
        yield from map(_pack_part, numbers, rows)
        return
    processes = min(workers or os.cpu_count() or 1, len(numbers))
    with ProcessPoolExecutor(processes, initializer=_start, initargs=settings) as pool:
        try:
            yield from pool.map(_pack_part, numbers, rows)
        except BaseException:  # Ctrl-C or SIGTERM: do not wait for the parts in hand
            for process in list(pool._processes.values()):
                process.terminate()
            raise


def _rows(videos: SequenceIndex) -> Int64[np.ndarray, "rows"]:
    """Rows of boxes with a target; those of one image behind each other."""
    rows = np.flatnonzero(videos.columns["visible"])
    if videos.repeats_image:
        rows = rows[np.argsort(videos.columns["first"][rows], kind="stable")]
    return rows


def _is_there(folder: Path, asked: str) -> bool:
    """Whether the pack is whole; begins it where there is none.

    Raises:
        ValueError: the folder holds another one.
    """
    path = folder / _DONE
    known = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not known and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds something else than a pack; give another folder with packs=")
    if known and known != asked:
        raise ValueError(
            f"{folder} holds a pack of other data or settings ({shown(known, 400)}); delete it, or packs=FOLDER"
        )
    write_atomic(path, asked)
    return (folder / FACTS).is_file()


_shared: dict[str, Any] = {}  # of a worker process


def _start(videos: SequenceIndex, folder: Path, packing: Packing) -> None:
    end_with_parent()
    cv2.setNumThreads(0)
    _shared.update(videos=videos, folder=folder, packing=packing)


def _pack_part(number: int, rows: Int64[np.ndarray, "rows"]) -> int:
    """Write one part and, when it is whole, what lies where in it."""
    videos, folder, packing = _shared["videos"], _shared["folder"], _shared["packing"]
    path, pieces = folder / PART.format(number), list[tuple[int, ...]]()
    shapes, counts = np.zeros((len(rows), 2), "<u2"), np.zeros(len(rows), "<i8")
    source: Source | None = None
    last, known = -1, dict[Piece, tuple[int, ...]]()
    with replacing(path) as temporary, temporary.open("wb") as file:
        for at, (video, t, key) in enumerate(_places(videos, rows)):
            try:
                if key != last:
                    last, source, known = key, None, {}
                    source = packing.read(videos.frames(video), t)
                if source is None:
                    continue
                for piece, make in packing.pieces(source, videos.boxes(video)[t]):
                    if piece not in known:
                        data = make()
                        known[piece] = (file.tell(), len(data), zlib.crc32(data))
                        file.write(data)
                    pieces.append((*known[piece], *piece.region, *piece.size))
                    counts[at] += 1
                shapes[at] = source.size
            except (ValueError, OSError, IndexError, cv2.error) as error:
                log.warning("%s, frame %d is not packed: %s", videos.name(video), t, error)
    table = np.array(pieces, np.int64).reshape(-1, 9)
    with replacing(folder / f"{path.name}.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, rows=rows, shapes=shapes, counts=counts, pieces=table)
    return len(rows)


def _places(videos: SequenceIndex, rows: Int64[np.ndarray, "rows"]) -> Iterator[tuple[int, int, int]]:
    """Video and frame of each row, and a number that is the same for the same picture."""
    starts = videos.columns["rows"]
    found = np.searchsorted(starts, rows, side="right") - 1
    keys = videos.columns["first"][found] if videos.repeats_image else rows
    yield from zip(found.tolist(), (rows - starts[found]).tolist(), keys.tolist(), strict=True)


def _finish(videos: SequenceIndex, folder: Path, packing: Packing, count: int, reader: dict[str, Any]) -> None:
    """Put the tables of all parts together, and write the facts."""
    total = len(videos.columns["boxes"])
    columns: Columns = {"shapes": np.zeros((total, 2), "<u2"), "first": np.zeros(total + 1, "<i8")}
    pieces = 0
    for number in range(count):
        with np.load(folder / f"{PART.format(number)}.npz", allow_pickle=False) as table:
            columns["shapes"][table["rows"]] = table["shapes"]
            columns["first"][table["rows"] + 1] = table["counts"]
            pieces += len(table["pieces"])
    columns["first"][:] = np.cumsum(columns["first"])
    for name in ("part", "offset", "bytes", "crc", "region", "size"):
        kind, shape = FORMS[name]
        columns[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, (pieces, *shape))
    for number in range(count):
        with np.load(folder / f"{PART.format(number)}.npz", allow_pickle=False) as table:
            found, counts = table["pieces"], table["counts"]
            begin = columns["first"][table["rows"]] - (np.cumsum(counts) - counts)
            places = np.repeat(begin, counts) + np.arange(len(found))
        columns["part"][places] = number
        for name, at in (("offset", 0), ("bytes", 1), ("crc", 2), ("region", slice(3, 7)), ("size", slice(7, 9))):
            columns[name][places] = found[:, at]
    for name, column in columns.items():
        if isinstance(column, np.memmap):
            column.flush()
        else:
            np.save(folder / f"{name}.npy", column, allow_pickle=False)
    info = IndexInfo(
        dataset=videos.dataset,
        attribute_names=list(videos.attribute_names),
        repeats_image=videos.repeats_image,
        hash=videos.hash,
        inputs="",
    )
    write_columns(folder / INDEX, videos.columns, info)
    facts = {
        "format": PACK_FORMAT,
        "source": videos.hash,
        "reader": reader,
        "geometry": packing.geometry,
        "quality": packing.quality,
        "parts": [(folder / PART.format(number)).stat().st_size for number in range(count)],
        "checksums": {name: checksum(folder / f"{name}.npy") for name in FORMS},
    }
    write_facts(folder, facts)
    for path in folder.glob("part-*.npz"):
        path.unlink()


class Packed(NamedTuple):
    """What is in a pack: frames, frames that could not be packed, pieces, bytes of all files."""

    frames: int
    unreadable: int
    pieces: int
    bytes: int


def _numbers(folder: Path, frames: int) -> Packed:
    videos = open_pack(folder)
    assert videos.pieces is not None
    first = videos.pieces.columns["first"]
    there = int((np.diff(first) > 0).sum())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Packed(frames, frames - there, int(first[-1]), size)
