"""Clips of tracked videos for a report: the best, the median and the worst, with the boxes drawn in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from seqtrack_lit.crops import Image
from seqtrack_lit.data.sequence import Sequence as Video
from seqtrack_lit.evaluation.results import read_result, write_atomic
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.tracking.video import COLORS, TRUTH, VideoWriter, draw_boxes

LONGEST = 300  # frames of a clip; of longer videos every n-th frame is shown
WIDTH = 480  # pixels; small videos are enlarged, so that boxes are thin lines in them
OURS = COLORS[1]


class Videos(Protocol):
    """Videos by number and name: data.index.SequenceIndex, data.generated.GeneratedVideos."""

    @property
    def names(self) -> Sequence[str]:
        """Names of all videos."""
        ...

    def __getitem__(self, index: int, /) -> Video: ...


@dataclass(frozen=True)
class Clip:
    """A written clip: its files, and what to say of it."""

    video: Path
    poster: Path
    name: str
    place: str  # best, median, worst
    score: str  # AUC 71.2
    every: int  # shows every n-th frame


def choose(scores: Scores) -> dict[str, str]:
    """Names of the best, the median and the worst video by the first score; fewer when there are fewer videos."""
    value = next(iter(scores.values))
    order = sorted(scores.per_sequence, key=lambda name: -scores.per_sequence[name][value])
    places = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
    chosen: dict[str, str] = {}
    for place, position in places.items():
        if order and order[position] not in chosen.values():
            chosen[place] = order[position]
    return chosen


def write_clips(scores: Scores, results: Path, videos: Videos, out: Path) -> list[Clip]:
    """Write the chosen videos as H.264 with our box and the ground truth drawn, and a poster of each.

    Args:
        scores: of the tracker, by video.
        results: the tracker's result folder.
        videos: the benchmark; a chosen video that it does not hold is left out.
        out: folder of the clips.

    Raises:
        FileNotFoundError: a result file is missing.
        ValueError: a frame or a result file cannot be read.
    """
    value = next(iter(scores.values))
    at = {name: number for number, name in enumerate(videos.names)}
    clips = []
    for place, name in choose(scores).items():
        if name not in at:
            continue
        path, poster = out / f"{place}.mp4", out / f"{place}.jpg"
        every = _write(videos[at[name]], results, path, poster)
        score = f"{value} {scores.per_sequence[name][value]:.1f}"
        clips.append(Clip(path, poster, name, place, score, every))
    return clips


def _write(video: Video, results: Path, path: Path, poster: Path) -> int:
    """One clip; the poster is a frame at a third of it. Returns how many frames a shown frame stands for."""
    boxes = read_result(results, video.name).boxes
    count = min(len(video), len(boxes))
    every = -(-count // LONGEST)
    shown = range(0, count, every)
    rate = float(np.asarray(video.meta.get("frame_rate") or 25.0))
    with VideoWriter(path, rate=min(rate, 30.0)) as writer:
        for i in shown:
            known = [video.boxes[i]] if i < len(video.boxes) and video.boxes[i][2:].min() > 0 else []
            image, scale = _enlarged(video.frames[i])
            drawn = draw_boxes(
                image, [box * scale for box in [*known, boxes[i]]], colors=(TRUTH, OURS)[-len(known) - 1 :]
            )
            writer.write(drawn)
            if i == shown[len(shown) // 3]:
                write_atomic(poster, cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))[1].tobytes())
    return every


def _enlarged(image: Image) -> tuple[Image, int]:
    """A whole multiple of the size, at least `WIDTH` wide."""
    scale = -(-WIDTH // image.shape[1]) if image.shape[1] < WIDTH else 1
    if scale == 1:
        return image, 1
    larger = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return np.asarray(larger, dtype=np.uint8), scale
