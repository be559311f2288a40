"""What a scored run looks like: short videos of its best, its median and its worst sequence."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from seqtrack_lit.data.sequence import Sequence
from seqtrack_lit.evaluation.results import read_result
from seqtrack_lit.tracking.video import COLORS, TRUTH, VideoWriter, draw_boxes


def pick(scores: Mapping[str, float]) -> dict[str, str]:
    """Names of the best, the median and the worst sequence by score; fewer where there are fewer.

    >>> pick({"a": 10.0, "b": 90.0, "c": 50.0})
    {'best': 'b', 'median': 'c', 'worst': 'a'}
    """
    order = sorted(scores, key=lambda name: (-scores[name], name))
    picked: dict[str, str] = {}
    for kind, place in (("best", 0), ("worst", -1), ("median", len(order) // 2)):
        if order[place] not in picked.values():
            picked[kind] = order[place]
    return {kind: picked[kind] for kind in ("best", "median", "worst") if kind in picked}


def write_clip(path: Path, video: Sequence, folder: Path, *, frames: int = 300, smallest: int = 360) -> Path:
    """A video of a result: the tracked box in yellow with its confidence, the ground truth in white.

    Args:
        path: the .mp4 file.
        video: the sequence; where it has no box for a frame, none is drawn.
        folder: result files of the tracker.
        frames: how many frames at most, from the first.
        smallest: small images are enlarged by a whole factor until their height is about this.
    """
    result = read_result(folder, video.name)
    rate = video.meta.get("frame_rate", 25.0)
    with VideoWriter(path, rate=rate if isinstance(rate, float) and rate > 0 else 25.0) as writer:
        for index in range(min(frames, len(video), len(result.boxes))):
            image = video.frames[index]
            factor = max(1, round(smallest / image.shape[0]))
            if factor > 1:
                image = np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC))
            truth = video.boxes[index] if index < len(video.boxes) else np.full(4, np.nan)
            shown = truth if video.visible[min(index, len(video.visible) - 1)] else np.full(4, np.nan)
            confidence = "" if result.confidences is None else f"{result.confidences[index]:.2f}"
            writer.write(
                draw_boxes(
                    image,
                    [shown * factor, result.boxes[index] * factor],
                    colors=(TRUTH, COLORS[0]),
                    labels=["", confidence],
                )
            )
    return path
