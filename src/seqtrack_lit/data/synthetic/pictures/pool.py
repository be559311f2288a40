"""A pool of pictures in memory: backgrounds, objects with alpha, photographs with a boxed object, video key frames.

A pool is a folder that `seqtrack-data pool=DIR` makes (collect/): `pool.csv` names every picture, its origin and
its licence. Two more tables may stand beside it: `cutouts.csv` (an object cut out of a picture, and its box there) and
`tracks.csv` (the box of one object in several frames of a video). Boxes are x, y, w, h in pixels.

A picture belongs to training, validation or test by its name alone; what is cut out of it goes where it goes, and all
frames of a video go together.
"""

import csv
import re
import zlib
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from seqtrack_lit.checks import flag, one_of
from seqtrack_lit.data.synthetic.pictures.cutouts import Cutout, Rgba

Part = Literal["train", "validation", "test"]
_SHARES = {"validation": 0.05, "test": 0.05}  # of the pictures; the rest is for training
_FREE = ("A", "B")
_LEAST = 24  # pixels of the shorter side of a cut-out, 5 times that of a background
_LARGEST = 0.7  # sqrt(w * h) of an object over the shorter side of its photograph
_SMALLEST = 80  # pixels below which no smaller copy of a picture is kept
KINDS = ("photo", "render", "cut")  # lists of objects: photographs on white or clear ground, drawings, cut-outs


Levels = list[UInt8[np.ndarray, "_ _ 3"]]  # a picture, and copies of it, each half as large as the one before


class Seen(NamedTuple):
    """An object in a photograph or a frame."""

    levels: Levels
    box_xywh: Float64[np.ndarray, "4"]


class PicturePool:
    """The pictures of one part of a pool, read when first asked for.

    Args:
        root: folder of the pool.
        part: train, validation or test.
        only_free: leave out pictures under copyleft licences (tier C).

    Raises:
        FileNotFoundError: no pool there.
        ValueError: a wrong part, or a pool without backgrounds or objects.
    """

    def __init__(self, root: str | Path, *, part: Part = "train", only_free: bool = True) -> None:
        one_of("data.pictures", get_args(Part), part=part)
        flag("data.pictures", only_free=only_free)
        self.root, self.part, self.only_free = Path(root).expanduser(), part, only_free
        if not (self.root / "pool.csv").is_file():
            raise FileNotFoundError(
                f"{self.root} is no pool of pictures (no pool.csv in it); `seqtrack-data pool={self.root}` builds one"
            )

    def __reduce__(self) -> tuple[object, ...]:
        return _open, (self.root, self.part, self.only_free)  # other processes read the files themselves

    def read(self) -> "PicturePool":
        """Read everything now, so that forked processes share it.

        Raises:
            ValueError: no background or no object in this part.
        """
        if not self.backgrounds or not any(self.objects.values()):
            raise ValueError(f"{self.root} has no backgrounds or no objects for {self.part}; build the pool again")
        for objects in self.objects.values():
            for item in objects:
                item.levels, item.half, item.outline  # noqa: B018 - computed once, kept
        self.stills, self.tracks  # noqa: B018
        return self

    @cached_property
    def backgrounds(self) -> list[Levels]:
        """Photographs and video frames, large enough to be cut."""
        names = [name for name in self._rows if name.startswith(("backgrounds/", "frames/"))]
        images = [self._image(name) for name in names]
        return [levels for levels in images if min(levels[0].shape[:2]) >= 5 * _LEAST]

    @cached_property
    def textures(self) -> list[Levels]:
        """Surfaces."""
        return [self._image(name) for name in self._rows if name.startswith("textures/")]

    @cached_property
    def objects(self) -> dict[str, list[Cutout]]:
        """Objects by list; neighbours in a list are of the same kind."""
        lists: dict[str, list[Rgba]] = {kind: [] for kind in KINDS}
        rows = [(row["package"], row["path"], name) for name, row in self._rows.items() if name.startswith("objects/")]
        for _, _, name in sorted(rows):
            kind = "render" if self._rows[name]["kind"] == "render" else "photo"
            lists[kind].append(self._object(name))
        for row in self._table("cutouts.csv"):
            if row["picture"] in self._rows:
                lists["cut"].append(self._object(row["file"]))
        big = {kind: [one for one in pictures if min(one.shape[:2]) >= _LEAST] for kind, pictures in lists.items()}
        return {kind: [Cutout(one, kind, i) for i, one in enumerate(pictures)] for kind, pictures in big.items()}

    @cached_property
    def stills(self) -> list[Seen]:
        """Photographs with the box of an object that leaves something of them around it."""
        found = [self._seen(row) for row in self._table("cutouts.csv") if row["picture"] in self._rows]
        return [one for one in found if np.sqrt(one.box_xywh[2:].prod()) < _LARGEST * min(one.levels[0].shape[:2])]

    @cached_property
    def tracks(self) -> list[list[Seen]]:
        """Objects in several frames of a video, at least two."""
        found: dict[str, list[Seen]] = defaultdict(list)
        for row in self._table("tracks.csv"):
            if row["picture"] in self._rows:
                found[row["track"]].append(self._seen(row))
        return [frames for frames in found.values() if len(frames) > 1]

    @property
    def hash(self) -> str:
        """Of the names in this part: another one, other samples."""
        return f"{zlib.crc32(repr([self.part, *self._rows]).encode()):08x}"

    @cached_property
    def _rows(self) -> dict[str, dict[str, str]]:
        """Pictures of this part by file name."""
        rows = {row["file"]: row for row in self._table("pool.csv")}
        kept = {name: row for name, row in rows.items() if row["tier"] in _FREE or not self.only_free}
        return {name: row for name, row in kept.items() if part_of(name) == self.part}

    @cached_property
    def _images(self) -> dict[str, Levels]:
        return {}

    def _image(self, name: str) -> Levels:
        if name not in self._images:
            levels = [self._read(name, cv2.IMREAD_COLOR)[..., ::-1].copy()]
            while min(levels[-1].shape[:2]) > _SMALLEST:
                height, width = (side // 2 for side in levels[-1].shape[:2])
                levels.append(np.asarray(cv2.resize(levels[-1], (width, height), interpolation=cv2.INTER_AREA)))
            self._images[name] = levels
        return self._images[name]

    def _object(self, name: str) -> Rgba:
        picture = self._read(name, cv2.IMREAD_UNCHANGED)
        if picture.ndim != 3 or picture.shape[2] != 4:
            raise ValueError(f"{self.root / name} must be a picture with alpha; build the pool again")
        return np.ascontiguousarray(picture[..., [2, 1, 0, 3]])

    def _read(self, name: str, mode: int) -> UInt8[np.ndarray, "height width channels"]:
        picture = cv2.imread(str(self.root / name), mode)
        if picture is None:
            raise ValueError(f"{self.root / name} cannot be read as a picture; build the pool again")
        return np.asarray(picture)

    def _seen(self, row: dict[str, str]) -> Seen:
        return Seen(self._image(row["picture"]), np.array([float(row[key]) for key in ("x", "y", "w", "h")]))

    def _table(self, name: str) -> list[dict[str, str]]:
        path = self.root / name
        if not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def part_of(name: str) -> Part:
    """Where a picture belongs, by its name without numbers at its end; a frame goes with its video."""
    stem = name.split("/")[1] if name.startswith("frames/") else re.sub(r"[-_\d]+$", "", Path(name).stem)
    place = zlib.crc32(stem.encode()) / 2**32
    for part, share in _SHARES.items():
        if place < share:
            return part  # type: ignore[return-value]
        place -= share
    return "train"


def _open(root: Path, part: Part, only_free: bool) -> PicturePool:
    return PicturePool(root, part=part, only_free=only_free)
