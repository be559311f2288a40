"""Packed training sets: the index, and a few large files that hold all pieces of frames training can see.

A pack is made by data/tools/pack.py and read at any place in any order. It holds numbers and JPEG or PNG files only:
nothing is unpickled, and no name in it leads anywhere.

  index/           columns of the set (columns.py), in which every row of boxes is a frame
  part-00000.bin   JPEG and PNG files, one behind the other
  pack.json        `PackFacts`
  *.npy            R rows, P pieces:
    shapes [R 2]   height and width of the frame; 0: it is not there
    first [R+1]    where each frame's pieces begin
    part, offset, bytes, crc [P]   where the file of a piece lies, and its CRC-32
    region [P 4]   what it shows: xywh in whole image pixels     size [P 2]   its width and height
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from typing_extensions import TypedDict

from seqtrack_lit.checks import shown
from seqtrack_lit.crops import Crop, Image, ImagePart
from seqtrack_lit.data.video.columns import Column, Columns, checksum_of, open_column, open_columns
from seqtrack_lit.data.video.frames import decode_image, decode_reduced
from seqtrack_lit.data.video.index import SequenceIndex
from seqtrack_lit.data.video.sequence import Frames, position
from seqtrack_lit.files import read_json, write_atomic

PACK_FORMAT = 1
FACTS, INDEX = "pack.json", "index"
PART = "part-{:05d}.bin"
EDGE = 2  # image pixels by which a piece must exceed the window: in a mirrored frame it lies up to so far away
AGAIN = "pack it again (seqtrack-data pack=NAME)"
FORMS: dict[str, tuple[str, tuple[int, ...]]] = {  # of the columns: type, and what a row holds
    "shapes": ("<u2", (2,)), "first": ("<i8", ()), "part": ("<i4", ()), "offset": ("<i8", ()), "bytes": ("<u4", ()),
    "crc": ("<u4", ()), "region": ("<i4", (4,)), "size": ("<u2", (2,)),
}  # fmt: skip


class Geometry(TypedDict):
    """The crops a pack was made for: settings of `CropSettings` and, at its widest, `Jitter`."""

    search_size: int
    search_factor: float
    template_size: int
    template_factor: float
    jitter_center: float
    jitter_size: float


class PackFacts(TypedDict):
    """What stands in pack.json.

    source: hash of the index it was made of.
    reader: the function that read the set, and its arguments but places.
    geometry: None: whole frames.
    quality: of JPEG; None: nothing was lost.
    parts: bytes of each part.
    checksums: of the columns.
    checksum: of all the rest.
    """

    format: int
    source: str
    reader: dict[str, Any]
    geometry: Geometry | None
    quality: int | None
    parts: list[int]
    checksums: dict[str, int]
    checksum: int


@dataclass(frozen=True, eq=False)
class Pieces:
    """All pieces of a pack, in a folder or below an address that fsspec knows (s3://bucket/folder)."""

    place: str
    facts: PackFacts
    columns: Columns

    def of(self, row: int) -> range:
        """Numbers of the pieces of a row's frame."""
        first = self.columns["first"]
        return range(int(first[row]), int(first[row + 1]))

    def read(self, piece: int) -> bytes:
        """The file of a piece.

        Raises:
            ValueError: not what was written.
            OSError: it cannot be read.
        """
        part, offset, count, crc = (int(self.columns[name][piece]) for name in ("part", "offset", "bytes", "crc"))
        place = f"{self.place}/{PART.format(part)}"
        data = _remote(place, offset, count) if "://" in place else _local(place, offset, count)
        if zlib.crc32(data) != crc:
            raise ValueError(f"{place}: bytes {offset} to {offset + count} are not as they were written; copy it again")
        return data


def _local(place: str, offset: int, count: int) -> bytes:
    with open(place, "rb", buffering=0) as file:  # noqa: PTH123 - a third of the time of Path.open
        file.seek(offset)
        return file.read(count)


def _remote(place: str, offset: int, count: int) -> bytes:
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(place)
        return bytes(system.cat_file(path, start=offset, end=offset + count))
    except Exception as error:  # every file system has errors of its own
        raise OSError(f"cannot read {place}: {shown(str(error), 200)}") from error


class _Packed:
    """A video whose frames are `count` rows of a pack, from number `row` on."""

    def __init__(self, pieces: Pieces, row: int, count: int, name: str) -> None:
        self.pieces, self.row, self.count, self.name = pieces, row, count, name

    def __len__(self) -> int:
        return self.count

    def _there(self, index: int) -> tuple[range, str]:
        """The pieces of a frame, and its name for messages."""
        at = position(index, self.count, self.name)
        what, there = f"{self.name}, frame {at}", self.pieces.of(self.row + at)
        if not there:
            raise ValueError(f"{what} is not in the pack {self.pieces.place}: no target in it, or it was unreadable")
        return there, what


class PackedFrames(_Packed):
    """Frames kept whole: those of the data set, to the bit."""

    def __getitem__(self, index: int) -> Image:
        (number, *_), what = self._there(index)
        return _checked(decode_image(self.pieces.read(number), what), self.pieces, number, what)

    def reduced(self, index: int, factor: int) -> Image | ImagePart:
        """See `ReducibleFrames`."""
        (number, *_), what = self._there(index)
        reduced = decode_reduced(self.pieces.read(number), what, factor)
        return self[index] if reduced is None else reduced


class PackedCrops(_Packed):
    """Frames of which pieces are kept, each for some of the crops that training cuts."""

    def __getitem__(self, index: int) -> Image:
        raise ValueError(f"{self.name}: whole frames are not kept in the pack {self.pieces.place}")

    def part(self, index: int, crop: Crop) -> ImagePart:
        """See `CroppedFrames`."""
        there, what = self._there(index)
        height, width = self.pieces.columns["shapes"][self.row + index % self.count].tolist()
        a, b = there[0], there[-1] + 1
        regions, sizes = (self.pieces.columns[name][a:b].tolist() for name in ("region", "size"))
        number = choose(crop, (width, height), regions, sizes)
        if number is None:
            raise ValueError(f"{what}: the pack {self.pieces.place} holds no piece for {crop}; {AGAIN}")
        image = _checked(decode_image(self.pieces.read(a + number), what), self.pieces, a + number, what)
        x, y, w, h = regions[number]
        return ImagePart(image, (x, y, w, h), (height, width, 3))


def choose(crop: Crop, frame_wh: tuple[int, int], regions: list[list[int]], sizes: list[list[int]]) -> int | None:
    """Which piece to cut a crop from: of those with all of it that is sharp enough, the one with the fewest pixels.

    Args:
        crop: in the frame as it is stored; mirrored ones lie up to `EDGE` pixels away.
        frame_wh: of the whole frame.
        regions: what each piece shows, xywh in image pixels.
        sizes: width and height of each piece.

    Returns:
        Its number; the sharpest one where none is sharp enough; None where none shows all of it.
    """
    x, y, side, _ = window = crop.window_xywh
    left, top = max(x - EDGE, 0), max(y - EDGE, 0)
    right, bottom = min(x + side + EDGE, frame_wh[0]), min(y + side + EDGE, frame_wh[1])
    wanted, best, best_rank = min(1.0, crop.size / side) * 0.999, None, (-1.0, 0)
    for number, ((rx, ry, rw, rh), (w, h)) in enumerate(zip(regions, sizes, strict=True)):
        covers = rx <= left and ry <= top and rx + rw >= right and ry + rh >= bottom
        if covers or right <= left or bottom <= top or (rx, ry, rw, rh) == window:
            rank = (min(w / rw, h / rh, wanted), -w * h)
            if rank > best_rank:
                best, best_rank = number, rank
    return best


def _checked(values: Column, pieces: Pieces, number: int, what: str) -> Image:
    width, height = pieces.columns["size"][number].tolist()
    if values.shape != (height, width, 3) or values.dtype != np.uint8:
        raise ValueError(f"{what}: {pieces.place} holds another picture than it says; {AGAIN}")
    return np.asarray(values, np.uint8)


@dataclass(frozen=True, eq=False)
class PackedVideos(SequenceIndex):
    """The videos of a pack: boxes and names of the set it was made of, frames out of the pack."""

    pieces: Pieces | None = None

    def frames(self, index: int) -> Frames:
        """The frames of one video."""
        assert self.pieces is not None
        at = self._at(index)
        first, last = self.columns["rows"][at : at + 2].tolist()
        kind = PackedFrames if self.pieces.facts["geometry"] is None else PackedCrops
        return kind(self.pieces, first, last - first, self.name(index))

    def __reduce__(self) -> tuple[Any, ...]:
        assert self.pieces is not None
        assert self.path is not None
        return open_pack, (self.pieces.place, self.path.parent, self.hash, self.positions)


def open_pack(
    place: str | Path,
    local: Path | None = None,
    expected: str | None = None,
    positions: Int64[np.ndarray, "chosen"] | None = None,
    cache: str | Path | None = None,
) -> PackedVideos:
    """The videos of a pack.

    Args:
        place: its folder, or its address for fsspec.
        local: where the index and the columns lie; None: in the folder, or copied from the address once.
        expected: hash that another process has found; None: compare everything but the parts with its checksum.
        positions: see `SequenceIndex`.
        cache: where the copies of an address lie.

    Raises:
        FileNotFoundError: no pack there.
        ValueError: it is damaged, incomplete or of another version.
    """
    base = str(place).rstrip("/")
    if local is None:
        local = _copied(base, cache) if "://" in base else Path(base).expanduser().absolute()
    base = base if "://" in base else str(local)
    facts = read_facts(local)
    index, info = open_columns(local / INDEX, compare=expected is None)
    kept = "" if facts["geometry"] is None else f"-q{facts['quality']}-{checksum_of({**facts['geometry']}):08x}"
    if info["hash"] != facts["source"] or (expected is not None and facts["source"] + kept != expected):
        raise ValueError(f"{local}: index and pieces are of different packs; {AGAIN}")
    try:
        columns = {
            name: open_column(local / f"{name}.npy", facts["checksums"].get(name, -1), expected is None)
            for name in FORMS
        }
    except Exception as error:  # a damaged header can fail in any way
        raise ValueError(f"{local} is damaged ({shown(' '.join(str(error).split()), 200)}); {AGAIN}") from error
    if expected is None:
        _check_columns(local, columns, len(index["boxes"]), facts["parts"])
        if "://" not in base:
            _check_parts(local, facts["parts"])
    return PackedVideos(
        dataset=info["dataset"],
        root=local,
        columns=index,
        attribute_names=tuple(info["attribute_names"]),
        repeats_image=info["repeats_image"],
        hash=facts["source"] + kept,
        path=local / INDEX,
        positions=positions,
        pieces=Pieces(base, facts, columns),
    )


def read_facts(folder: Path) -> PackFacts:
    """What is known of a pack.

    Raises:
        FileNotFoundError: no pack there.
        ValueError: damaged, or of another version.
    """
    path = folder / FACTS
    if not path.is_file():
        unfinished = any(folder.glob("part-*.bin"))
        raise FileNotFoundError(
            f"no pack in {folder}: {'it is not finished, go on with the same command' if unfinished else AGAIN}"
        )
    facts: PackFacts = read_json(path, PackFacts, AGAIN)
    rest = {key: value for key, value in facts.items() if key != "checksum"}
    if facts["format"] != PACK_FORMAT or facts["checksum"] != checksum_of(rest):
        raise ValueError(f"{path} is damaged or of another version than {PACK_FORMAT}; {AGAIN}")
    return facts


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write pack.json, with which a pack is whole."""
    write_atomic(folder / FACTS, json.dumps({**facts, "checksum": checksum_of(facts)}, indent=1))


def _check_columns(folder: Path, columns: Columns, rows: int, parts: list[int]) -> None:
    """That every number leads to a place inside."""
    pieces = len(columns["part"])
    lengths = {"shapes": rows, "first": rows + 1}
    for name, (kind, shape) in FORMS.items():
        column = columns[name]
        if column.dtype.str != kind or column.shape != (lengths.get(name, pieces), *shape):
            raise ValueError(f"{folder / name}.npy holds {column.dtype.str} of shape {column.shape}; {AGAIN}")
    first, part, end = columns["first"], columns["part"], columns["offset"] + columns["bytes"]
    good = first[0] == 0 and first[-1] == pieces and (np.diff(first) >= 0).all()
    if pieces and good:
        good = part.min() >= 0 and part.max() < len(parts) and columns["offset"].min() >= 0
        good = good and (end <= np.array(parts, np.int64)[part]).all() and columns["size"].min() > 0
        good = good and columns["region"][:, 2:].min() > 0 and np.abs(columns["region"]).max() < 2**20
    if not good:
        raise ValueError(f"{folder}: its columns lead out of its parts; {AGAIN}")


def _check_parts(folder: Path, parts: list[int]) -> None:
    for number, size in enumerate(parts):
        path = folder / PART.format(number)
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            what = "is missing" if found is None else f"has {found:,} bytes"
            raise ValueError(f"{path} {what}, expected {size:,}; copy it again, or {AGAIN}")


def _copied(place: str, cache: str | Path | None) -> Path:
    """A local copy of everything but the parts; made again when the pack's facts are others.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no folder for copies is known.
    """
    from fsspec.core import url_to_fs

    if cache is None:
        raise ValueError(f"{place}: no folder for a copy of its index")
    local = Path(cache).expanduser().absolute() / f"pack-{hashlib.sha256(place.encode()).hexdigest()[:12]}"
    try:
        system, path = url_to_fs(place)
        facts = system.cat_file(f"{path}/{FACTS}")
        if not (local / FACTS).is_file() or (local / FACTS).read_bytes() != facts:
            names = [f"{name}.npy" for name in FORMS]
            names += [f"{INDEX}/{Path(found).name}" for found in system.ls(f"{path}/{INDEX}", detail=False)]
            (local / INDEX).mkdir(parents=True, exist_ok=True)
            for name in names:
                system.get_file(f"{path}/{name}", str(local / name))
            write_atomic(local / FACTS, facts)
    except ImportError as error:  # s3fs, gcsfs ...
        raise ValueError(f"{place}: {error}") from error
    except Exception as error:
        raise FileNotFoundError(f"cannot read a pack from {place}: {shown(str(error), 200)}") from error
    return local
