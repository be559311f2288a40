"""VOT2020 short-term: 60 videos with masks, anchors and tags, as the VOT toolkit downloads them.

    sequences/list.txt                       names, one a line
    sequences/<name>/sequence                key=value: fps, channels.color=color/%08d.jpg, width, height, length
    sequences/<name>/color/00000001.jpg ...
    sequences/<name>/groundtruth.txt         a region a frame, see data.video.regions
    sequences/<name>/anchor.value            >0 a run starts here forwards, <0 backwards, 0 none
    sequences/<name>/<tag>.tag (or .label)   0 or 1 a frame

Files shorter than the video count as zeros, as in the toolkit (0.7.4, dataset/common.py).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from PIL import Image as Pillow

from seqtrack_lit.checks import path_part, shown
from seqtrack_lit.data.sets.annotations import has_area, read_text
from seqtrack_lit.data.sets.index_builder import IndexBuilder, read_set
from seqtrack_lit.data.sets.layout import HELP, Problems, existing_root, images_in, require_numbered, table
from seqtrack_lit.data.video.index import SequenceIndex
from seqtrack_lit.data.video.regions import Regions, VotAnnotation, box_of, read_regions

_CHANNEL = re.compile(r"(?P<folder>[^%]*)/%0?(?P<digits>[1-9])d(?P<suffix>\.jpg|\.png)")
_TAGS = (".tag", ".label")


class _Header(NamedTuple):
    """What the file `sequence` holds; zeros where it is silent."""

    folder: str
    digits: int
    suffix: str
    fps: float
    width: int
    height: int
    length: int


def vot2020(
    root: str | Path, *, complete: bool = True, cache: str | Path | None = None, problems: Problems | None = None
) -> SequenceIndex:
    """VOT2020 short-term, or any data set of its layout with complete=False.

    Boxes are those around the ground truth (zeros where it is absent), attributes the tags that occur.

    Args:
        root: the workspace of the toolkit, or its folder sequences/.
        complete: False takes the sequences of list.txt, else those that are there; True wants the published 60.
        cache: folder for the index; None reads the annotations at every call.
        problems: where to note what is wrong instead of raising.
    """
    base = existing_root("vot2020", root, "sequences/<name>/ with sequence, groundtruth.txt, anchor.value, color/")
    base = base / "sequences" if (base / "sequences").is_dir() else base
    wanted = [row["name"] for row in table("vot2020")] if complete else list(_names(base))
    there = {name for name in wanted if (base / name / "groundtruth.txt").exists()}
    files = {name: _inputs(base / name) if name in there else [base / name / "groundtruth.txt"] for name in wanted}
    tags = sorted({tag for name in there for tag in _tag_files(base / name)})
    return read_set("vot2020", base, files, _add, (complete, cache, problems), attribute_names=tags)


def _names(base: Path) -> Iterator[str]:
    """Names in list.txt, else the folders with a file `sequence`."""
    listed = base / "list.txt"
    if listed.is_file():
        for number, line in enumerate(read_text(listed).split("\n"), 1):
            if line.strip():
                yield path_part(f"{listed}, line {number}: the name of a sequence", line.strip())
    else:
        yield from sorted(path.parent.name for path in base.glob("*/sequence"))


def _inputs(place: Path) -> list[Path]:
    values = [place / "groundtruth.txt", place / "sequence", place / "anchor.value", *_tag_files(place).values()]
    return [*values, place, *(path for path in place.iterdir() if path.is_dir())]


def _tag_files(place: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(place.glob("*")) if path.suffix in _TAGS}


def _add(builder: IndexBuilder, name: str) -> None:
    base = builder.root
    place = base / name
    if len(builder.attribute_names) > 32:
        raise ValueError(f"{base}: {len(builder.attribute_names)} kinds of tags; at most 32 can be kept")
    if others := sorted(path.name for path in place.glob("groundtruth_*.txt")):
        raise ValueError(f"{place / others[0]}: several targets in a video are not of VOT2020 short-term; expected one")
    known, header = annotation(base, name), _header(place)
    frames = len(known)
    require_numbered(place / header.folder, 1, header.digits, header.suffix, frames)
    read_regions(place / "groundtruth.txt")
    boxes = np.stack([box_of(known.region(frame)) for frame in range(frames)])
    starts = [0, *np.flatnonzero(known.anchors).tolist()]
    if len(starts) == 1:
        raise ValueError(f"{place / 'anchor.value'}: no anchor; expected values other than 0 where runs start; {HELP}")
    for frame in starts:
        if not has_area(boxes[frame : frame + 1])[0]:
            raise ValueError(
                f"{place / 'groundtruth.txt'}, line {frame + 1}: no target, but a run starts in this frame (the first "
                "frame or anchor.value); unpack it again"
            )
    builder.add(
        name,
        boxes,
        has_area(boxes),
        folder=f"{name}/{header.folder}",
        numbered=(1, header.digits, header.suffix),
        frame_rate=known.fps,
        resolution=known.size,
        attributes=[tag for tag, flags in known.tags.items() if flags.any()],
    )


def annotation(base: Path, name: str) -> VotAnnotation:
    """Regions, anchors and tags of one sequence; regions are parsed when asked for.

    Args:
        base: folder of the sequences, as `SequenceIndex.root`.
        name: of the sequence.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file that cannot be read, or is longer than the video; names file and line.
    """
    place = base / name
    header = _header(place)
    frames = header.length or len(images_in(place / header.folder))
    file = place / "groundtruth.txt"
    lines = read_text(file).rstrip().splitlines()
    if not 0 < len(lines) <= frames:
        raise ValueError(
            f"{file} has {len(lines)} rows, but {place / header.folder} has {frames} frames; expected a region a frame"
        )
    tags = {tag: _column(path, frames) == 1 for tag, path in _tag_files(place).items()}
    anchors = np.sign(_column(place / "anchor.value", frames)).astype(np.int64)
    size = (header.width, header.height)
    if not all(size):
        first = place / header.folder / f"{1:0{header.digits}d}{header.suffix}"
        try:
            with Pillow.open(first) as image:
                size = image.size
        except Exception as error:  # Pillow lets through whatever its readers stumble over
            raise ValueError(f"cannot read image {first} ({type(error).__name__}); unpack it again") from None
    return VotAnnotation(name, Regions(file, lines), anchors, tags, size, header.fps)


def _header(place: Path) -> _Header:
    file = place / "sequence"
    values = {}
    for line in read_text(file, largest=1_000_000).splitlines():
        key, equals, value = line.partition("=")
        if equals:
            values[key.strip()] = value.strip()
    pattern = values.get("channels.color", "color/%08d.jpg").replace("\\", "/").removeprefix("./")
    match = _CHANNEL.fullmatch(pattern if "%" in pattern else f"{pattern.rstrip('/')}/%08d.jpg")
    if match is None:
        raise ValueError(f"{file}: channels.color={shown(pattern)}; expected a folder and a pattern, color/%08d.jpg")
    for part in match["folder"].split("/"):
        path_part(f"{file}: channels.color", part)
    numbers = {}
    for key, default in {"fps": 30, "width": 0, "height": 0, "length": 0}.items():
        text = values.get(key) or str(default)
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) or (key == "fps" and not 0 < float(text) <= 1e5):
            raise ValueError(f"{file}: {key}={shown(text)}; expected a positive number")
        numbers[key] = int(float(text))  # the toolkit takes whole numbers
    return _Header(match["folder"], int(match["digits"]), match["suffix"], float(max(numbers.pop("fps"), 1)), **numbers)


def _column(file: Path, frames: int) -> Float64[np.ndarray, "frames"]:
    """A number a frame; frames beyond the end of the file have 0."""
    lines = read_text(file).rstrip().splitlines()
    if len(lines) > frames:
        raise ValueError(f"{file}, line {frames + 1}: the video has {frames} frames; expected a value a frame")
    values = np.zeros(frames)
    for number, line in enumerate(lines, 1):
        try:
            values[number - 1] = float(line or "0")
        except ValueError:
            raise ValueError(f"{file}, line {number}: {shown(line)} is no number; expected a value a frame") from None
    return np.nan_to_num(values)
