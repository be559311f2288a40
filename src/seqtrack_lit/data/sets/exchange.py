"""Boxes of several targets in one video, in files of other programs and in a plain table: written and read.

    csv   frame,target,x,y,w,h, both counted from 0; more columns may follow, the heads may be missing; between
          semicolons a comma is a decimal point
    mot   MOTChallenge: frame,id,x,y,w,h,confidence,-1,-1,-1, both counted from 1
    coco  COCO-video JSON: videos, images (frame_id), annotations (track_id, bbox, score), as `data/train=folder` reads
    cvat  "CVAT for video 1.1" XML: tracks of boxes; only those with keyframe=1 that are not outside are read
    yolo  a folder: labels/NAME_000001.txt (class, centre and size as fractions), frames counted from 1, and data.yaml

Frames keep the numbers that they have in the video. A frame without the target has no box (in CVAT one that is
outside). YOLO's format knows classes and no targets: it is read where no class has two boxes in a frame.
"""

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import ParseError, XMLParser
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from jaxtyping import Float64, Int64
from typing_extensions import TypedDict

from seqtrack_lit.boxes import LARGEST, misread
from seqtrack_lit.checks import printable, shown
from seqtrack_lit.data.sets.annotations import read_text
from seqtrack_lit.files import read_json, read_yaml, remove_leftovers, write_atomic

EXPORTS = {"mot": "_mot.txt", "coco": "_coco.json", "cvat": "_cvat.xml", "yolo": "_yolo"}
MOST_TARGETS = 255
_MOST_LABELS = 1_000_000  # files in a folder of YOLO
_REMEDY = "export it again, or write lines frame,target,x,y,w,h to a .csv file"


class Clip(NamedTuple):
    """What formats say of a video: its name, the size of its pictures in pixels, the numbers of its frames from 0."""

    name: str
    width: int
    height: int
    frames: Sequence[int]


@dataclass(frozen=True, eq=False)
class TargetBoxes:
    """A target's boxes.

    Args:
        label: what it is.
        frames: numbers of the frames that show it, rising, from 0.
        boxes: xywh in pixels, a row for each of these frames.
        confidences: in [0, 1].
    """

    label: str
    frames: Int64[np.ndarray, "rows"]
    boxes: Float64[np.ndarray, "rows 4"]
    confidences: Float64[np.ndarray, "rows"]


def export(kind: str, base: Path, targets: Sequence[TargetBoxes], clip: Clip) -> Path:
    """Write targets in one of the formats to `base` with the format's ending; returns the path."""
    path = base.with_name(base.name + EXPORTS[kind])
    if kind == "yolo":
        _write_yolo(path, targets, clip)
    else:
        write = {"mot": _mot, "coco": _coco, "cvat": _cvat}[kind]
        write_atomic(path, write(targets, clip))
    return path


def read_boxes_of_targets(path: Path, clip: Clip, given: int = 0) -> list[TargetBoxes]:
    """Targets of a file in one of the formats, by its ending (.csv, .txt is MOT, .json COCO, .xml CVAT, a folder YOLO).

    Of the first `given` targets, whose boxes are known from elsewhere, a .csv may hold none: they come without boxes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or a box, a frame or a target is none of this clip; names file and line.
    """
    if path.is_dir():
        rows = _read_yolo(path, clip)
    else:
        readers = {".csv": _read_csv, ".txt": _read_mot, ".json": _read_coco, ".xml": _read_cvat}
        if path.suffix.lower() not in readers:
            raise ValueError(
                f"{path}: expected .csv (frame,target,x,y,w,h), .txt (MOT), .json (COCO-video), .xml (CVAT for video "
                "1.1) or a folder (YOLO)"
            )
        rows = readers[path.suffix.lower()](path)
    found = _grouped(path, rows, clip)
    if path.suffix.lower() != ".csv" or path.is_dir():
        return found
    numbers = sorted({row.target for row in rows})
    far = numbers[0] < 0 or numbers[-1] >= len(numbers) + given
    if far or not {*range(numbers[-1])} <= {*numbers, *range(given)}:
        raise ValueError(f"{path}: targets {numbers[:9]}; expected 0, 1, 2 ... without gaps")
    by_number, none = dict(zip(numbers, found, strict=True)), np.zeros((0, 5))
    empty = TargetBoxes("target", none[:, 0].astype(np.int64), none[:, 1:], none[:, 0])
    return [by_number.get(number, empty) for number in range(max(numbers) + 1)]


class _Row(NamedTuple):
    """A box as it was read: where it stands, target, label, frame from 0, xywh, confidence."""

    where: str
    target: Any
    label: str
    frame: int
    box: tuple[float, float, float, float]
    confidence: float


def _grouped(path: Path, rows: Sequence[_Row], clip: Clip) -> list[TargetBoxes]:
    """Rows by target, checked against the clip."""
    wanted = frozenset(clip.frames) if not isinstance(clip.frames, range) else clip.frames
    known: dict[Any, dict[int, _Row]] = {}
    for row in rows:
        of = known.setdefault(row.target, {})
        if row.frame not in wanted:
            chosen = f"frames {clip.frames[0]} to {clip.frames[-1]}" if len(clip.frames) else "no frame"
            step = f" in steps of {clip.frames.step}" if isinstance(clip.frames, range) and clip.frames.step > 1 else ""
            raise ValueError(f"{path}, {row.where}: frame {row.frame}, of {chosen}{step} that are tracked")
        if row.frame in of:
            raise ValueError(f"{path}, {row.where}: frame {row.frame} of target {shown(row.target)} again, "
                             f"first {of[row.frame].where}")  # fmt: skip
        x, y, w, h = row.box
        if not all(abs(value) <= LARGEST for value in row.box) or w <= 0 or h <= 0:
            raise ValueError(f"{path}, {row.where}: box {row.box} has no area or lies beyond any picture; expected "
                             "x,y,w,h in pixels, w and h > 0")  # fmt: skip
        if x >= clip.width or y >= clip.height or x + w <= 0 or y + h <= 0:
            raise ValueError(
                f"{path}, {row.where}: box {row.box} lies outside of the {clip.width} x {clip.height} pixels"
            )
        of[row.frame] = row
        if len(known) > MOST_TARGETS:
            raise ValueError(f"{path}, {row.where}: more than {MOST_TARGETS} targets")
    found = []
    for key in sorted(known):
        order = [known[key][frame] for frame in sorted(known[key])]
        boxes = np.array([row.box for row in order], np.float64)
        if wrong := misread(boxes, clip.width, clip.height):
            kind = {"fractions": "fractions of the picture", "corners": "two corners", "huge": "of a larger picture"}
            raise ValueError(f"{path}, {order[wrong[1]].where}: box {order[wrong[1]].box} seems to be "
                             f"{kind[wrong[0]]}; expected x,y,w,h in pixels")  # fmt: skip
        found.append(
            TargetBoxes(
                order[0].label, np.array([row.frame for row in order]), boxes, np.array([r.confidence for r in order])
            )
        )
    if not found:
        raise ValueError(f"{path} holds no box; {_REMEDY}")
    return found


def _numbers(path: Path, line: int, text: str, least: int) -> list[float]:
    parts = text.strip().replace(",", ".").split(";") if ";" in text else re.split(r"\s*[,\t]\s*|\s+", text.strip())
    try:  # between semicolons a comma is a decimal point, as spreadsheets of half the world write it
        values = [float(part) for part in parts]
    except ValueError:
        raise ValueError(f"{path}, line {line}: {shown(text)}: expected numbers between commas") from None
    if len(values) < least or any(value != int(value) for value in values[:2] if abs(value) < LARGEST):
        raise ValueError(f"{path}, line {line}: {shown(text)}: expected at least {least} numbers, the first two whole")
    if not all(abs(value) <= LARGEST * 1e3 for value in values):
        raise ValueError(f"{path}, line {line}: {shown(text)}: a number beyond any video")
    return values


def _table(path: Path) -> list[tuple[int, list[float]]]:
    """The lines of numbers of a table, each with its number."""
    lines = enumerate(read_text(path).splitlines(), 1)
    given = [(number, text) for number, text in lines if text.strip()]
    if given and re.match(r"\s*frame\b", given[0][1], re.IGNORECASE):
        given = given[1:]
    return [(number, _numbers(path, number, text, 6)) for number, text in given]


def _read_csv(path: Path) -> list[_Row]:
    return [
        _Row(f"line {line}", int(v[1]), "target", int(v[0]), (v[2], v[3], v[4], v[5]), 1.0) for line, v in _table(path)
    ]


def _read_mot(path: Path) -> list[_Row]:
    return [
        _Row(f"line {line}", int(v[1]), "target", int(v[0]) - 1, (v[2], v[3], v[4], v[5]), _confidence(v[6:7]))
        for line, v in _table(path)
    ]


def _confidence(given: Sequence[Any]) -> float:
    """A confidence where one is given that is one."""
    return float(given[0]) if given and given[0] is not None and 0 <= given[0] <= 1 else 1.0


def _mot(targets: Sequence[TargetBoxes], clip: Clip) -> str:
    rows = sorted(
        (int(frame) + 1, number, *box, confidence)
        for number, one in enumerate(targets, 1)
        for frame, box, confidence in zip(one.frames, one.boxes, one.confidences, strict=True)
    )
    return "".join(f"{f},{n},{x:.4f},{y:.4f},{w:.4f},{h:.4f},{c:.6g},-1,-1,-1\n" for f, n, x, y, w, h, c in rows)


def _coco(targets: Sequence[TargetBoxes], clip: Clip) -> str:
    classes = {label: number for number, label in enumerate(dict.fromkeys(one.label for one in targets), 1)}
    size = {"width": clip.width, "height": clip.height}
    images = [
        {"id": frame + 1, "video_id": 1, "frame_id": frame, "file_name": f"{clip.name}/{frame:08d}.jpg", **size}
        for frame in map(int, clip.frames)
    ]
    annotations: list[dict[str, object]] = []
    for number, one in enumerate(targets, 1):
        for frame, box, confidence in zip(
            one.frames.tolist(), one.boxes.round(4).tolist(), one.confidences, strict=True
        ):
            annotations.append({
                "id": len(annotations) + 1, "image_id": frame + 1, "video_id": 1, "track_id": number,
                "category_id": classes[one.label], "bbox": box, "area": round(box[2] * box[3], 2), "iscrowd": 0,
                "score": round(float(confidence), 6),
            })  # fmt: skip
    content = {
        "videos": [{"id": 1, "name": clip.name, **size}],
        "categories": [{"id": number, "name": label} for label, number in classes.items()],
        "images": images,
        "annotations": annotations,
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


class _Image(TypedDict):
    id: int
    video_id: int
    frame_id: int


class _Annotation(TypedDict, total=False):
    image_id: int
    track_id: int
    instance_id: int
    category_id: int
    bbox: list[float]
    score: float | None


class _CocoVideo(TypedDict):
    videos: list[dict[str, Any]]
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[dict[str, Any]]


def _read_coco(path: Path) -> list[_Row]:
    content: _CocoVideo = read_json(path, _CocoVideo, _REMEDY)
    if len({image["video_id"] for image in content["images"]}) > 1:
        raise ValueError(f"{path}: images of several videos; expected those of one")
    frames = {image["id"]: image["frame_id"] for image in content["images"]}
    labels = {one.get("id"): printable(str(one.get("name", "target"))) for one in content["categories"]}
    rows = []
    for number, one in enumerate(content["annotations"]):
        where, target = f"annotations.{number}", one.get("track_id", one.get("instance_id"))
        box = one.get("bbox", [])
        if one.get("image_id") not in frames or target is None or len(box) != 4:
            raise ValueError(f"{path}, {where}: expected image_id of an image, track_id and bbox [x,y,w,h]; {_REMEDY}")
        label = labels.get(one.get("category_id"), "target")
        x, y, w, h = box
        rows.append(_Row(where, target, label, frames[one["image_id"]], (x, y, w, h), _confidence([one.get("score")])))
    return rows


def _cvat(targets: Sequence[TargetBoxes], clip: Clip) -> str:
    out = io.StringIO()
    labels = "".join(f"<label><name>{escape(one)}</name></label>" for one in dict.fromkeys(t.label for t in targets))
    size = f"<original_size><width>{clip.width}</width><height>{clip.height}</height></original_size>"
    out.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
    out.write(f"<meta><task><name>{escape(clip.name)}</name><labels>{labels}</labels>{size}</task></meta>\n")
    for number, one in enumerate(targets):
        out.write(f'<track id="{number}" label={quoteattr(one.label)} source="semi-auto">\n')
        after = dict(pairwise(map(int, clip.frames)))
        frames, corners = one.frames.tolist(), ""
        for place, (frame, (x, y, w, h)) in enumerate(zip(frames, one.boxes, strict=True)):
            corners = f'xtl="{x:.4f}" ytl="{y:.4f}" xbr="{x + w:.4f}" ybr="{y + h:.4f}"'
            out.write(_cvat_box(frame, corners, outside=False))
            gone = after.get(frame)
            if gone is not None and gone not in frames[place + 1 : place + 2]:
                out.write(_cvat_box(gone, corners, outside=True))
        out.write("</track>\n")
    out.write("</annotations>\n")
    return out.getvalue()


def _cvat_box(frame: int, corners: str, *, outside: bool) -> str:
    return f'<box frame="{frame}" keyframe="1" outside="{int(outside)}" occluded="0" {corners} z_order="0"></box>\n'


class _CvatReader:
    """Takes the boxes of tracks as they are parsed; no tree is built."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, list[_Row]()
        self.track: Mapping[str, str] | None = None
        self.tracks = -1

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse what could define entities, which unfold to gigabytes or name files."""
        raise ValueError(f"{self.path}: an XML document type (<!DOCTYPE); CVAT writes none: {_REMEDY}")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """The beginning of an element."""
        if tag == "track":
            self.track, self.tracks = attributes, self.tracks + 1
        elif tag == "box" and self.track is not None:
            if attributes.get("keyframe", "1") == "0" or attributes.get("outside", "0") == "1":
                return
            where = f"track {self.tracks}, frame {shown(attributes.get('frame', ''))}"
            try:
                frame = int(attributes["frame"])
                x1, y1, x2, y2 = (float(attributes[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
            except (KeyError, ValueError):
                raise ValueError(
                    f"{self.path}, {where}: expected numbers frame, xtl, ytl, xbr, ybr; {_REMEDY}"
                ) from None
            label = printable(self.track.get("label", "target"))[:200]
            self.rows.append(_Row(where, self.tracks, label, frame, (x1, y1, x2 - x1, y2 - y1), 1.0))

    def end(self, tag: str) -> None:
        """The end of an element."""
        if tag == "track":
            self.track = None


def _read_cvat(path: Path) -> list[_Row]:
    reader = _CvatReader(path)
    parser = XMLParser(target=reader)
    try:
        parser.feed(read_text(path))
        parser.close()
    except ParseError as error:
        raise ValueError(f"{path}: no XML: {error}; {_REMEDY}") from None
    if not reader.rows:
        raise ValueError(f'{path} holds no <track> with a <box>; export from CVAT as "CVAT for video 1.1"')
    return reader.rows


_LABEL_FILE = re.compile(r".*?(\d{1,9})\.txt")


def _write_yolo(folder: Path, targets: Sequence[TargetBoxes], clip: Clip) -> None:
    names = list(dict.fromkeys(one.label for one in targets))
    lines: dict[int, list[str]] = {int(frame): [] for frame in clip.frames}
    for one in targets:
        for frame, (x, y, w, h) in zip(one.frames.tolist(), one.boxes, strict=True):
            middle = f"{(x + w / 2) / clip.width:.8f} {(y + h / 2) / clip.height:.8f}"
            lines[frame].append(f"{names.index(one.label)} {middle} {w / clip.width:.8f} {h / clip.height:.8f}\n")
    labels = folder / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder, labels)
    for path in labels.iterdir():  # of an earlier result
        if _LABEL_FILE.fullmatch(path.name):
            path.unlink()
    for frame, of in lines.items():
        (labels / f"{clip.name}_{frame + 1:06d}.txt").write_text("".join(of), encoding="utf-8")
    known = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(names))
    write_atomic(folder / "data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{known}")


def _read_yolo(folder: Path, clip: Clip) -> list[_Row]:
    labels = folder / "labels" if (folder / "labels").is_dir() else folder
    names: Any = {}
    if (folder / "data.yaml").is_file():
        content = read_yaml(folder / "data.yaml")
        names = content.get("names", {}) if isinstance(content, dict) else {}
        names = dict(enumerate(names)) if isinstance(names, list) else names if isinstance(names, dict) else {}
    rows = []
    for number, path in enumerate(sorted(labels.iterdir())):
        if number > _MOST_LABELS:
            raise ValueError(f"{labels} holds more than {_MOST_LABELS:,} files")
        named = _LABEL_FILE.fullmatch(path.name)
        if named is None or path.is_symlink() or not path.is_file():
            continue
        for line, text in enumerate(read_text(path, largest=1_000_000).splitlines(), 1):
            try:
                kind, cx, cy, w, h = (float(part) for part in text.split()[:5])
            except ValueError:
                raise ValueError(f"{path}, line {line}: {shown(text)}: expected class, cx, cy, w, h") from None
            if not (kind in range(1000) and max(abs(cx), abs(cy), w, h) <= 2):
                raise ValueError(f"{path}, line {line}: {shown(text)}: expected a class and fractions of the picture")
            wide, high = w * clip.width, h * clip.height
            box = (cx * clip.width - wide / 2, cy * clip.height - high / 2, wide, high)
            label = printable(str(names.get(int(kind), "target")))[:200]
            rows.append(_Row(f"{path.name} line {line}", int(kind), label, int(named[1]) - 1, box, 1.0))
    return rows
