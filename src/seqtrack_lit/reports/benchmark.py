"""The report page of trackers on a benchmark: scores, curves, attributes, and every sequence over time."""

import tempfile
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float64

from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.evaluation.ope import iou
from seqtrack_lit.evaluation.results import Result, read_result
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.evaluation.tables import Cell as TableCell
from seqtrack_lit.evaluation.tables import Table, compare
from seqtrack_lit.pictures import COLORS, TRUTH, draw_boxes, encoded
from seqtrack_lit.reports import plots
from seqtrack_lit.reports.media import pick
from seqtrack_lit.reports.page import Cell, Media, draw_scores, fresh_folder, scores_table, write_document
from seqtrack_lit.tracking.video_io import write_clip

FAILED = 0.1  # overlap below which the tracker has failed
_POINTS = 200  # of a line over time at most
_SIDE = 320  # pixels of a picture's longer side
_DRAWN = 4  # trackers whose course is drawn


class Course(NamedTuple):
    """A tracker on a sequence over time, for the template; coordinates of an SVG of width `_POINTS` and height 100."""

    tracker: str
    text: str
    overlap: str
    sure: str
    failed: list[tuple[float, float]]
    updates: list[float]


def write_benchmark(
    trackers: Mapping[str, Path], videos: Sequence[Video], scores: Sequence[Scores], out: Path, *, linked: bool = False
) -> Path:
    """Write the page to the folder `out`; returns the path of index.html.

    Args:
        trackers: folders of result files by name; the first one decides the order of the sequences.
        videos: the benchmark, with ground truth for every frame.
        scores: of these trackers by one convention, in the same order.
        out: the folder.
        linked: whether pictures and clips lie beside the page.

    Raises:
        ValueError: `out` holds something that is no page, or a result cannot be read.
    """
    fresh_folder(out)
    media, first = Media(out, linked=linked), scores[0]
    value = next(iter(first.values))
    results = {
        video.name: {name: read_result(folder, video.name) for name, folder in trackers.items()}
        for video in videos
        if all(video.name in one.per_sequence for one in scores)
    }
    known = {video.name: video for video in videos if video.name in results}
    # of each tracker, behind the first frames, where it is 1: the top of its scale
    known_confidences = {name: [of[name].confidences for of in results.values()] for name in trackers}
    highest = [
        max((float(one[1:].max(initial=0)) for one in of if one is not None), default=1)
        for of in known_confidences.values()
    ]
    order = sorted(known, key=lambda name: (first.per_sequence[name][value], name))
    count = f"{len(known)} sequences, {sum(len(video) for video in known.values()):,} frames"
    return write_document(
        out,
        "benchmark.html",
        title=f"{first.benchmark}: {', '.join(trackers)}",
        subtitle=f"{count}, convention {first.convention}",
        table=scores_table(compare(scores, paper_rows="seqtrack"), set(trackers)),
        plots=draw_scores(scores, media),
        trackers=list(trackers),
        value=value,
        failed=FAILED,
        width=_POINTS,
        lines=[
            {
                "light": plots.LIGHT.cycle[i % len(plots.LIGHT.cycle)],
                "dark": plots.DARK.cycle[i % len(plots.DARK.cycle)],
            }
            for i in range(len(trackers))
        ],
        rows=[_row(known[name], results[name], scores, value, highest, media) for name in order],
        clips=_clips(known, {name: results[name][next(iter(trackers))] for name in known}, first, value, media),
    )


def sequences_table(scores: Sequence[Scores]) -> Table:
    """One value of several trackers for each sequence that all have, the worst of the first tracker first.

    It is the first one that every sequence has: EAO is that of a whole set, so accuracy for VOT.
    """
    first = scores[0]
    names = [name for name in first.per_sequence if all(name in one.per_sequence for one in scores)]
    known = [one.per_sequence[name] for one in scores for name in names]
    value = next(value for value in first.values if all(value in of for of in known))
    names.sort(key=lambda name: (first.per_sequence[name][value], name))
    rows: list[tuple[TableCell, ...]] = [(name, *(one.per_sequence[name][value] for one in scores)) for name in names]
    title = f"{first.benchmark}, {value} by sequence (convention {first.convention})"
    return Table(title, ("sequence", *(one.tracker for one in scores)), tuple(rows))


def _row(
    video: Video,
    results: Mapping[str, Result],
    scores: Sequence[Scores],
    value: str,
    highest: Sequence[float],
    media: Media,
) -> dict[str, Any]:
    """A sequence: picture, values, courses."""
    values = [one.per_sequence[video.name][value] for one in scores]
    overlaps = [_overlap(video, result) for result in results.values()]
    worst = int(np.argmin(np.nan_to_num(overlaps[0], nan=np.inf)))
    return {
        "name": video.name,
        "frames": len(video),
        "frame": worst,
        "picture": media.add(f"{video.name.replace('/', '_')}.jpg", _picture(video, list(results.values()), worst)),
        "numbers": [Cell(f"{one:.1f}", len(values) > 1 and one == max(values)) for one in values],
        "tracks": [_course(*of) for of in zip(results, results.values(), overlaps, highest, strict=True)][:_DRAWN],
    }


def _overlap(video: Video, result: Result) -> Float64[np.ndarray, "frames"]:
    """IoU of every frame; NaN where the target is absent or nothing is known."""
    count = min(len(video.boxes), len(result.boxes))
    truth, found = video.boxes[:count], np.nan_to_num(result.boxes[:count])
    shown = video.visible[:count] & np.isfinite(truth).all(1) & (truth[:, 2:] > 0).all(1)
    return np.where(shown, iou(np.nan_to_num(truth), found), np.nan)


def _picture(video: Video, results: Sequence[Result], frame: int) -> bytes:
    """A frame with the ground truth and the boxes of the trackers, as a small JPEG."""
    image = video.frames[frame]
    factor = min(1.0, _SIDE / max(image.shape[:2]))
    small = np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
    boxes = [video.boxes[frame], *(one.boxes[frame] for one in results if frame < len(one.boxes))]
    drawn = draw_boxes(small, [box * factor for box in boxes], colors=(TRUTH, *COLORS))
    return encoded(drawn, ".jpg", quality=75)


def _course(tracker: str, result: Result, overlap: Float64[np.ndarray, "frames"], highest: float) -> Course:
    failed = overlap < FAILED
    scale = _POINTS / max(1, len(result.boxes))
    updates = [] if result.updates is None else np.flatnonzero(result.updates).tolist()
    text = f"{int(failed.sum())} of {len(failed)} frames below {FAILED}, {len(updates)} template updates"
    return Course(
        tracker,
        text,
        _line(np.nan_to_num(overlap, nan=1.0), np.min, scale),
        "" if result.confidences is None else _line(result.confidences / (highest or 1.0), np.mean, scale),
        [(round(start * scale, 1), round(max(1.0, count * scale), 1)) for start, count in _runs(failed)],
        [round(at * scale, 1) for at in updates],
    )


def _line(values: Float64[np.ndarray, "frames"], of: Any, scale: float) -> str:
    """Points of a polyline, one for each of at most `_POINTS` parts."""
    parts = np.array_split(values, min(len(values), _POINTS))
    starts = np.cumsum([0, *(len(part) for part in parts)])
    heights = [98 - 96 * float(np.clip(of(part), 0, 1)) for part in parts]
    return " ".join(f"{start * scale:.1f},{height:.0f}" for start, height in zip(starts, heights, strict=False))


def _runs(flags: Bool[np.ndarray, "frames"]) -> list[tuple[int, int]]:
    """Start and length of every run of true values."""
    found, at = [], 0
    for flag, group in groupby(flags.tolist()):
        count = len(list(group))
        found += [(at, count)] if flag else []
        at += count
    return found


def _clips(
    videos: Mapping[str, Video], results: Mapping[str, Result], scores: Scores, value: str, media: Media
) -> list[dict[str, str]]:
    """Clips of the best, the median and the worst sequence of a tracker."""
    values = {name: scores.per_sequence[name][value] for name in videos}
    clips = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, name in pick(values).items():
            result, video = results[name], videos[name]
            path = write_clip(Path(folder) / f"{kind}.mp4", video, result.boxes, result.confidences, shrink=True)
            middle = min(len(video), len(result.boxes)) // 2
            poster = media.add(f"{kind}.jpg", _picture(video, [result], middle))
            address = media.copy(path.name, path)
            clips.append(
                {"kind": kind, "name": name, "value": f"{values[name]:.1f}", "video": address, "poster": poster}
            )
    return clips
