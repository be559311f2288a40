"""Every sequence of a benchmark over time: its worst frame, overlap, confidence, failures and template updates.

media/sequences.json          a list of `Course` (runs/read.py), written by evaluation for the page of a run
media/sequences/0001.jpg ...  the frame in which the tracker overlaps the ground truth least
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float64

from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.evaluation.ope import iou
from seqtrack_lit.evaluation.results import Result
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.files import write_atomic
from seqtrack_lit.pictures import COLORS, TRUTH, draw_boxes, encoded
from seqtrack_lit.reports import plots
from seqtrack_lit.reports.page import Cell
from seqtrack_lit.runs.read import COURSES, MOST_PARTS, Course

FAILED = 0.1  # overlap below which the tracker has failed
_SIDE = 320  # pixels of a picture's longer side


class Drawn(NamedTuple):
    """A tracker on a sequence, for the template; coordinates of an SVG of width `MOST_PARTS` and height 100."""

    tracker: str
    line: int
    text: str
    overlap: str
    sure: str
    failed: list[tuple[float, float]]
    updates: list[float]


def course_of(video: Video, result: Result) -> Course:
    """How a tracker did over time; without a picture."""
    overlap = _overlap(video, result)
    return Course(
        sequence=video.name,
        frames=len(result.boxes),
        frame=int(np.argmin(np.nan_to_num(overlap, nan=np.inf))),
        file="",
        overlap=_parts(np.nan_to_num(overlap, nan=1.0), np.min),
        confidence=[] if result.confidences is None else _parts(result.confidences, np.mean),
        failed=int((overlap < FAILED).sum()),
        updates=[] if result.updates is None else np.flatnonzero(result.updates).tolist(),
    )


def write_courses(media: Path, videos: Iterable[tuple[Video, Result]]) -> None:
    """Write the courses of a tracker and a picture of each sequence to the folder `media`."""
    courses = []
    for number, (video, result) in enumerate(videos, 1):
        course = course_of(video, result)
        course["file"] = f"sequences/{number:04d}.jpg"
        write_atomic(media / course["file"], picture(video, [result], course["frame"]))
        courses.append(json.dumps(course, ensure_ascii=False))
    write_atomic(media / COURSES, "[" + ",\n".join(courses) + "]\n")


def picture(video: Video, results: Sequence[Result], frame: int) -> bytes:
    """A frame with the ground truth and the boxes of the trackers, as a small JPEG."""
    image = video.frames[frame]
    factor = _SIDE / max(image.shape[:2])  # small frames are enlarged, so that thin lines keep their colour
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=how), np.uint8)
    boxes = [video.boxes[frame], *(one.boxes[frame] for one in results if frame < len(one.boxes))]
    drawn = draw_boxes(small, [box * factor for box in boxes], colors=(TRUTH, *COLORS))
    return encoded(drawn, ".jpg", quality=75)


def sequences_part(
    scores: Sequence[Scores],
    courses: Mapping[str, Mapping[str, Course]],
    pictures: Mapping[str, str],
) -> dict[str, Any]:
    """The part of a page with every sequence, for `sequences` in templates/macros.html.

    Args:
        scores: of several trackers on one benchmark by one convention; the first one's worst sequence comes first.
        courses: by tracker and sequence, of the trackers that are drawn.
        pictures: addresses by sequence.
    """
    value, names = compared(scores)
    numbers = {one.tracker: number for number, one in enumerate(scores)}
    highest = {tracker: _highest(of.values()) for tracker, of in courses.items()}
    rows = []
    for name in names:
        values = [one.per_sequence[name][value] for one in scores]
        known = {tracker: of[name] for tracker, of in courses.items() if name in of}
        first = next(iter(known.values()), None)
        rows.append(
            {
                "name": name,
                "frames": "-" if first is None else first["frames"],
                "frame": "-" if first is None else first["frame"],
                "picture": pictures.get(name, ""),
                "numbers": [Cell(f"{one:.1f}", len(values) > 1 and one == max(values)) for one in values],
                "tracks": [_drawn(one, numbers[tracker], highest[tracker], tracker) for tracker, one in known.items()],
            }
        )
    facts = {"trackers": list(numbers), "value": value, "drawn": list(courses), "failed": FAILED, "width": MOST_PARTS}
    return {**facts, "rows": rows}


def compared(scores: Sequence[Scores]) -> tuple[str, list[str]]:
    """The value that is shown of each sequence, and the sequences that all trackers have, the first one's worst first.

    It is the first one that every sequence has: EAO is that of a whole set, so accuracy for VOT.
    """
    first = scores[0]
    names = [name for name in first.per_sequence if all(name in one.per_sequence for one in scores)]
    known = [one.per_sequence[name] for one in scores for name in names]
    value = next(value for value in first.values if all(value in of for of in known))
    return value, sorted(names, key=lambda name: (first.per_sequence[name][value], name))


def lines_of(count: int) -> list[dict[str, str]]:
    """Colours of so many trackers' lines, for light and for dark ground."""
    cycles = zip(plots.LIGHT.cycle, plots.DARK.cycle, strict=True)
    known = [{"light": light, "dark": dark} for light, dark in cycles]
    return [known[number % len(known)] for number in range(count)]


def _overlap(video: Video, result: Result) -> Float64[np.ndarray, "frames"]:
    """IoU of every frame; NaN where the target is absent or nothing is known."""
    count = min(len(video.boxes), len(result.boxes))
    truth, found = video.boxes[:count], np.nan_to_num(result.boxes[:count])
    shown = video.visible[:count] & np.isfinite(truth).all(1) & (truth[:, 2:] > 0).all(1)
    return np.where(shown, iou(np.nan_to_num(truth), found), np.nan)


def _parts(values: Float64[np.ndarray, "frames"], of: Callable[..., Any]) -> list[float]:
    """A number in [0, 1] for each of at most `MOST_PARTS` parts of the frames."""
    parts = np.array_split(values, min(len(values), MOST_PARTS))
    return [round(float(np.clip(of(part), 0, 1)), 3) for part in parts]


def _highest(courses: Iterable[Course]) -> float:
    """The top of a tracker's scale: its highest confidence behind the first frames, where it is 1."""
    return max((number for one in courses for number in one["confidence"][1:]), default=1.0) or 1.0


def _drawn(course: Course, line: int, highest: float, tracker: str) -> Drawn:
    overlap = course["overlap"]
    width, scale = MOST_PARTS / max(1, len(overlap)), MOST_PARTS / max(1, course["frames"])
    text = f"{course['failed']} of {course['frames']} frames below {FAILED}, {len(course['updates'])} template updates"
    return Drawn(
        tracker,
        line,
        text,
        _line(overlap),
        _line([number / highest for number in course["confidence"]]),
        [(round(start * width, 1), round(count * width, 1)) for start, count in _failures(overlap)],
        [round(at * scale, 1) for at in course["updates"]],
    )


def _line(values: Sequence[float]) -> str:
    """Points of a polyline over the whole width."""
    step = MOST_PARTS / max(1, len(values))
    return " ".join(f"{at * step:.1f},{98 - 96 * min(1.0, value):.0f}" for at, value in enumerate(values))


def _failures(overlap: Sequence[float]) -> list[tuple[int, int]]:
    """First part and number of parts of every failure."""
    found, at = [], 0
    for failed, group in groupby(value < FAILED for value in overlap):
        count = len(list(group))
        found += [(at, count)] if failed else []
        at += count
    return found
