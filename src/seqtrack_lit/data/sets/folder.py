"""Your own videos: a folder for each with frames (or a video file) and groundtruth.txt; or one CSV or JSON for all.

    root/cat/0001.jpg ...  (or cat/img/0001.jpg ..., or cat/clip.mp4)
    root/cat/groundtruth.txt        x,y,w,h in pixels, one row a frame; 0,0,0,0 or NaN where the target is absent
    root/cat/absence.label          optional, one 0/1 a frame; or LaSOT's full_occlusion.txt, out_of_view.txt

Other people's data may be odd; one's own should be right, so everything doubtful is an error here.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from seqtrack_lit.boxes import LARGEST
from seqtrack_lit.checks import path_part, shown
from seqtrack_lit.data.sets.annotations import has_area, read_boxes, read_flags, read_text
from seqtrack_lit.data.sets.index_builder import IndexBuilder, cached
from seqtrack_lit.data.sets.layout import (
    Problems,
    existing_root,
    images_in,
    noted,
    numbering,
    require_first_box,
    require_rows,
)
from seqtrack_lit.data.video.file import VIDEO_SUFFIXES, VideoFrames
from seqtrack_lit.data.video.frames import IMAGE_SUFFIXES
from seqtrack_lit.data.video.index import SequenceIndex

_IMAGE_FOLDERS = (".", "img", "imgs", "frames")
_FLAGS = ("absence.label", "full_occlusion.txt", "out_of_view.txt")
_LARGEST_JSON = 2_000_000_000  # bytes


def folder(
    root: str | Path,
    *,
    annotations: str | None = None,
    name: str = "folder",
    tracking: bool = False,
    cache: str | Path | None = None,
    problems: Problems | None = None,
) -> SequenceIndex:
    """Own videos under `root`; a frame is visible where its box has an area and no flag says absent.

    Args:
        root: the folder; or one single video's folder.
        annotations: a CSV (video,frame,x,y,w,h) or COCO-video JSON inside `root`, instead of groundtruth.txt files.
        name: of the data set, in messages and results.
        tracking: also require a first box in every video, which a tracker needs.
        cache: folder for the index; None reads the annotations at every call.
        problems: where to note what is wrong instead of raising.

    Raises:
        FileNotFoundError: the root, frames or annotations are missing.
        ValueError: boxes and frames do not fit, or a box is impossible; with file and line.
    """
    base = existing_root(name, root, "a folder for each video with its frames (or a video file) and groundtruth.txt")
    key = f"folder-{name}-{annotations or 'groundtruth'}-{tracking}".replace("/", "_")
    if annotations is not None:
        file = base / annotations
        read = _coco_video if file.suffix.lower() == ".json" else _csv
        builder = IndexBuilder(name, base, problems=problems)
        inputs = [file, *_what_counts(base)]
        return cached(key, base, inputs, lambda: _collect(builder, read(base, file), tracking), cache, problems)
    videos = _video_folders(name, base, problems)
    inputs = [path for video in videos for path in (*_what_counts(video), *_existing(video, *_FLAGS))]
    inputs += [video / "groundtruth.txt" for video in videos]
    readings = {video.name: partial(_groundtruth, video) for video in videos}
    builder = IndexBuilder(name, base, problems=problems)
    return cached(key, base, inputs, lambda: _collect(builder, readings, tracking), cache, problems)


@dataclass(frozen=True)
class _Frames:
    """Where a video's frames lie (absolute) and what they are called; no files = a video file."""

    place: Path
    files: Sequence[str] | None
    count: int

    @classmethod
    def find(cls, place: Path) -> "_Frames":
        """Frames in a folder (or its img/, imgs/, frames/), or a video file."""
        if place.is_file():
            if place.suffix.lower() not in VIDEO_SUFFIXES:  # FFmpeg would make a video of a text
                raise ValueError(f"{place}: expected a folder or a video file ({' '.join(VIDEO_SUFFIXES)})")
            return cls(place, None, len(VideoFrames(place)))
        clips = sorted(path for path in place.glob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
        stills = [
            place / part
            for part in _IMAGE_FOLDERS
            if any(path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "." for path in (place / part).glob("*"))
        ]
        if len(clips) + len(stills) != 1:
            found = ", ".join(str(path.relative_to(place.parent)) for path in [*clips, *stills]) or "none"
            raise ValueError(
                f"{place}: expected images in it (or in img/, imgs/, frames/) or one video file "
                f"({' '.join(VIDEO_SUFFIXES)}); found: {found}"
            )
        if clips:
            return cls(clips[0], None, len(VideoFrames(clips[0])))
        names = images_in(stills[0])
        return cls(stills[0], names, len(names))


@dataclass(frozen=True)
class _Video:
    """One target in one video: `boxes` for the frames from number `start` on."""

    frames: _Frames
    boxes: Float64[np.ndarray, "rows 4"]
    visible: Bool[np.ndarray, "rows"]
    source: Path
    start: int = 0
    object_class: str | None = None


Reading = Callable[[], _Video]


def _collect(builder: IndexBuilder, readings: Mapping[str, Reading], tracking: bool) -> IndexBuilder:
    for name, reading in readings.items():
        with noted(builder.problems, name):
            path_part(f"{builder.root}: the name of a video", name)
            video = reading()
            if tracking:
                require_first_box(video.source, video.boxes)
            files = video.frames.files
            part = None if files is None else list(files[video.start : video.start + len(video.boxes)])
            rule = numbering(part) if part else None
            if files is None:
                rule = (video.start, 0, "")  # a video file: only the start counts
            builder.add(
                name,
                video.boxes,
                video.visible,
                folder=video.frames.place.relative_to(builder.root).as_posix(),
                video=files is None,
                numbered=rule,
                files=part if rule is None else None,
                object_class=video.object_class,
            )
    return builder


def _video_folders(name: str, root: Path, problems: Problems | None) -> list[Path]:
    if (root / "groundtruth.txt").is_file():
        return [root]
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise FileNotFoundError(
            f"{name}: {root} holds no videos; expected a folder for each, with frames (or a video file) and "
            "groundtruth.txt; for one CSV or JSON give annotations=FILE; see docs/datasets.md"
        )
    without = [path for path in folders if not (path / "groundtruth.txt").is_file()]
    if without and problems is not None:
        for path in without:
            problems.add("missing", path.name, f"no {path / 'groundtruth.txt'}")
    elif without:
        raise FileNotFoundError(
            f"{name}: {without[0]} has no groundtruth.txt ({len(without)} of {len(folders)} folders have none); "
            "write one row x,y,w,h a frame, or move the folder away"
        )
    return [path for path in folders if path not in without]


def _groundtruth(place: Path) -> _Video:
    file = place / "groundtruth.txt"
    frames, boxes = _Frames.find(place), read_boxes(file)
    require_rows(file, len(boxes), frames.count, frames.place)
    boxes, visible = _own_boxes(boxes, lambda row: f"{file}, line {row + 1}")
    for flag in _existing(place, *_FLAGS):
        visible &= read_flags(flag, len(boxes)) == 0
    return _Video(frames, boxes, visible, file)


def _own_boxes(
    boxes: Float64[np.ndarray, "rows 4"], where: Any
) -> tuple[Float64[np.ndarray, "rows 4"], Bool[np.ndarray, "rows"]]:
    """Absent rows (zeros or NaN) as zeros, and which rows hold a target; anything between is refused."""
    absent = np.isnan(boxes).all(1) | (boxes == 0).all(1)
    far = (np.abs(boxes) > LARGEST).any(1)
    bad = far | (~absent & ~has_area(boxes))
    if bad.any():
        row = int(bad.argmax())
        what = "lies beyond any picture" if far[row] else "has no area"
        raise ValueError(
            f"{where(row)}: box {','.join(f'{value:g}' for value in boxes[row])} {what}; expected x,y,w,h "
            "(not two corners) with w,h > 0, or 0,0,0,0 where the target is absent"
        )
    return np.where(absent[:, None], 0.0, boxes), ~absent


_Rows = dict[int, tuple[int, list[float]]]  # frame number -> line in the CSV, box


def _csv(root: Path, file: Path) -> dict[str, Reading]:
    """Rows video,frame,x,y,w,h; frame counts from 0; frames without a row have no target."""
    rows = csv.DictReader(io.StringIO(read_text(file), newline=None), skipinitialspace=True)
    try:
        needed, columns = ("video", "frame", "x", "y", "w", "h"), rows.fieldnames or []
    except csv.Error as error:
        raise ValueError(f"{file}, line 1: {error}") from error
    if not set(needed) <= set(columns) or len(set(columns)) < len(columns):
        raise ValueError(
            f"{file}, line 1: expected the columns {','.join(needed)}, each once, found {shown(', '.join(columns))}"
        )
    videos: dict[str, _Rows] = {}
    while True:
        try:
            row: dict[Any, str] | None = next(rows, None)
        except csv.Error as error:
            raise ValueError(f"{file}, line {rows.line_num}: {error}; is a quotation mark never closed?") from error
        if row is None:
            break
        line = rows.line_num
        if None in row:
            raise ValueError(f"{file}, line {line}: more values than columns; decimals are written with a point")
        try:
            number, box = int(row["frame"]), [float(row[key]) for key in "xywh"]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file}, line {line}: not numbers: {str(dict(row))[:200]}") from error
        known = videos.setdefault(row["video"], {})
        if number in known:
            raise ValueError(
                f"{file}, line {line}: frame {number} of {row['video']} again (first on line {known[number][0]})"
            )
        known[number] = (line, box)
    names = {name: _csv_name(root, file, name) for name in videos}
    if len(set(names.values())) < len(names):
        raise ValueError(
            f"{file}: two videos have the same name but for slashes and suffix: {sorted(names)}; rename one"
        )
    return {names[name]: partial(_csv_video, root, file, name, known) for name, known in videos.items()}


def _csv_name(root: Path, file: Path, video: str) -> str:
    """What the sequence is called whose folder or video file the CSV names; "." is the root."""
    _place(root, video, f"{file}: video")
    path = Path(os.path.normpath(video))
    name = (path.with_suffix("") if path.suffix.lower() in VIDEO_SUFFIXES else path).as_posix()
    return path_part(f"{file}: video", (name if path.name else root.name).replace("/", "_"))


def _csv_video(root: Path, file: Path, name: str, known: _Rows) -> _Video:
    frames = _Frames.find(_place(root, name, f"{file}: video"))
    first = min(known)
    for number, (line, _) in known.items():
        if not 0 <= number < frames.count:
            raise ValueError(f"{file}, line {line}: frame {number} of {name}, which has frames 0 to {frames.count - 1}")
    lines = {number - first: line for number, (line, _) in known.items()}
    table = _spread({number - first: box for number, (_, box) in known.items()})
    boxes, visible = _own_boxes(table, lambda row: f"{file}, line {lines[row]}")
    return _Video(frames, boxes, visible, file, first)


def _coco_video(root: Path, file: Path) -> dict[str, Reading]:
    """COCO with `videos`, images with video_id and frame_id, annotations with instance_id (or track_id)."""
    try:
        content = json.loads(read_text(file, largest=_LARGEST_JSON))
        videos, images = _by_id(content, "videos"), _by_id(content, "images")
        classes = {item["id"]: str(item["name"]) for item in content.get("categories", [])}
        orders: dict[Any, dict[int, str]] = {key: {} for key in videos}
        for key, item in images.items():
            order, number, size = orders[item["video_id"]], item["frame_id"], (item.get("width"), item.get("height"))
            if (
                not isinstance(number, int)
                or number in order
                or not all(isinstance(v, int | float | None) for v in size)
            ):
                raise ValueError(f"image {key}: frame_id {number!r}, width, height {size}; expected whole numbers, "
                                 "a frame_id once in a video")  # fmt: skip
            order[number] = os.fspath(item["file_name"])
        tracks: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
        for item in content["annotations"]:
            track = item["instance_id"] if "instance_id" in item else item["track_id"]
            if not item.get("iscrowd"):
                tracks.setdefault((images[item["image_id"]]["video_id"], track), []).append(item)
        kinds = {key: classes.get(items[0].get("category_id")) for key, items in tracks.items()}
        given = {key: f"{videos[key[0]]['name']}_{key[1]}".replace("/", "_") for key in tracks}
        names = {key: path_part("the name of a target", name) for key, name in given.items()}
        if len(set(names.values())) < len(names):
            raise ValueError(f"two targets have the same name: {sorted(names.values())[:9]}; rename a video")
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is no COCO-video JSON ({type(error).__name__}: {error}); expected videos[id,name], images[id,"
            "video_id,frame_id,file_name], annotations[image_id,instance_id,bbox]; single images: the coco reader"
        ) from error
    return {
        names[key]: partial(_coco_track, root, file, sorted(orders[key[0]].items()), images, items, kinds[key])
        for key, items in tracks.items()
    }


def _by_id(content: dict[str, Any], what: str) -> dict[Any, dict[str, Any]]:
    known = {item["id"]: item for item in content[what]}
    if len(known) < len(content[what]):
        raise ValueError(f"two {what} have the same id")
    return known


def _coco_track(
    root: Path,
    file: Path,
    order: list[tuple[int, str]],
    images: dict[Any, dict[str, Any]],
    items: list[dict[str, Any]],
    object_class: str | None,
) -> _Video:
    """One target's boxes in the frames (number, file) of its video."""
    place = {number: i for i, (number, _) in enumerate(order)}
    first = min(place[images[item["image_id"]]["frame_id"]] for item in items)
    known: dict[int, list[float]] = {}
    ids: dict[int, Any] = {}
    for item in items:
        box: Any = item.get("bbox")
        row = place[images[item["image_id"]]["frame_id"]] - first
        numbers = isinstance(box, list) and [type(v) in (int, float) and not abs(v) > LARGEST for v in box]
        if row in known or numbers != [True] * 4:
            what = f"bbox {str(box)[:80]}, expected [x,y,w,h] in pixels"
            what = "a second box of this target in its image" if row in known else what
            raise ValueError(f"{file}, annotation {item.get('id')}: {what}")
        known[row], ids[row] = [float(value) for value in box], item.get("id")
        width, height = (images[item["image_id"]].get(key) for key in ("width", "height"))
        x, y, w, h = known[row]
        if width and height and w > 0 and h > 0 and (x >= width or y >= height or x + w <= 0 or y + h <= 0):
            raise ValueError(
                f"{file}, annotation {item.get('id')}: box {known[row]} lies outside its image of {width} x {height} "
                "pixels; leave it out if absent"
            )
    boxes, visible = _own_boxes(_spread(known), lambda row: f"{file}, annotation {ids[row]}")
    frames = _Frames(root, [name for _, name in order], len(order))
    for _, name in order[first : first + len(boxes)]:
        _place(root, name, f"{file}: file_name")
    return _Video(frames, boxes, visible, file, first, object_class)


def _spread(known: dict[int, list[float]]) -> Float64[np.ndarray, "rows 4"]:
    table = np.zeros((max(known) + 1, 4))
    for row, box in known.items():
        table[row] = box
    return table


def _place(root: Path, name: str, where: str) -> Path:
    """What an annotation names, which must lie inside the root; links of one's own are followed.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is an absolute path, leads out of the root, or is no path at all.
    """
    path = PurePath(os.path.normpath(name or ".."))
    if path.is_absolute() or path.drive or path.parts[:1] == ("..",) or "\0" in name:
        raise ValueError(f"{where} {shown(name)}, expected a name inside {root}")
    place = root / name
    try:
        there = place.exists()
    except OSError as error:  # too long a name, a circle of links
        raise ValueError(f"{where} {shown(name)}: {error.strerror}") from error
    if not there:
        raise FileNotFoundError(f"{where} {shown(name)}: there is no {place}; names are relative to {root}")
    return place


def _what_counts(place: Path) -> Iterator[Path]:
    """The folders and video files at or below a place: these change when frames come, go, or are renamed."""
    seen = set()
    for folder, below, files in os.walk(place, followlinks=True):
        real = os.path.realpath(folder)  # a link may lead back up
        below[:] = [name for name in below if not name.startswith(".") and real not in seen]
        seen.add(real)
        yield Path(folder)
        yield from (Path(folder, name) for name in files if Path(name).suffix.lower() in VIDEO_SUFFIXES)


def _existing(place: Path, *names: str) -> list[Path]:
    return [place / name for name in names if (place / name).exists()]
