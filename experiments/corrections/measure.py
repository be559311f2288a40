"""How many boxes by hand a clip needs, and what merges the tracks between two of them best.

    python experiments/corrections/measure.py REAL_CLIPS [--cache FOLDER] [--goal 0.85] [--most 20]

A simulated annotator gives the first box of each clip, then always corrects the frame of all clips that overlaps its
ground truth least, until the mean IoU over clips reaches the goal. Every way of merging has an annotator of its own.
"""

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from seqtrack_lit.boxes import difference, moved
from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.evaluation.ope import iou
from seqtrack_lit.tracking.corrected import smoothed
from seqtrack_lit.tracking.long_term import LongTermTracker, load_tracker
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.weights import SMALL

Boxes = Float64[np.ndarray, "N 4"]
Track = tuple[Boxes, Float64[np.ndarray, "N"]]
Merge = Callable[[Track, Track], Boxes]


class Runs:
    """Tracks of a clip from any frame in either direction, kept on disk."""

    def __init__(self, video: Video, cache: Path, tracker: SeqTrackTracker | LongTermTracker) -> None:
        self.video, self.cache, self.tracker = video, cache, tracker

    def __call__(self, start: int, step: int, template: int | None = None) -> Track:
        """Frames start, start + step ... to the clip's end on that side, in order of time.

        The template is the box of frame `template` (None: start).
        """
        template = start if template is None else template
        path = self.cache / f"{self.video.name}_{start}_{step}{f'_{template}' if template != start else ''}.npz"
        if not path.is_file():
            frames = range(start, len(self.video) if step > 0 else -1, step)
            boxes, confidences = [self.video.boxes[start]], [1.0]
            self.tracker.init(self.video.frames[template], self.video.boxes[template])
            if template != start:
                plain = self.tracker.tracker if isinstance(self.tracker, LongTermTracker) else self.tracker
                plain.box = tuple(self.video.boxes[start].tolist())
            for index in frames[1:]:
                estimate = self.tracker.update(self.video.frames[index])
                boxes.append(estimate.box_xywh)
                confidences.append(estimate.confidence)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, boxes=np.array(boxes)[::step], confidences=np.array(confidences)[::step])
        kept = np.load(path)
        return kept["boxes"], kept["confidences"]


def _mix(a: Boxes, b: Boxes, share: Float64[np.ndarray, "N"]) -> Boxes:
    """Weighted means of corners."""
    return a + (b - a) * share[:, None]


def blend(forward: Track, backward: Track) -> Boxes:
    """Weighted by distance."""
    return _mix(forward[0], backward[0], np.linspace(0, 1, len(forward[0])))


def cut(forward: Track, backward: Track) -> int:
    """First frame of the backward track: where both together are surest, and agree where they meet."""
    a, b = forward[1], backward[1]
    sums = np.concatenate([[0.0], np.cumsum(a)])[:-1] + np.cumsum(b[::-1])[::-1]
    agree = iou(forward[0], backward[0])
    return int(np.argmax(sums[1:] + agree[1:])) + 1


def switch(forward: Track, backward: Track) -> Boxes:
    """One, then the other."""
    at = cut(forward, backward)
    return np.concatenate([forward[0][:at], backward[0][at:]])


def agreeing(forward: Track, backward: Track) -> Boxes:
    """Blended by distance where both agree; elsewhere the one on the side of the cut."""
    same = iou(forward[0], backward[0]) > 0.5
    return np.where(same[:, None], blend(forward, backward), switch(forward, backward))


def bent(forward: Track, backward: Track) -> Boxes:
    """As `agreeing`, each track bent so that it ends at the other correction, where it still overlaps it."""
    share = np.linspace(0, 1, len(forward[0]))[:, None]

    def bend(track: Boxes, end: Boxes, share: Float64[np.ndarray, "N 1"], last: int) -> Boxes:
        if iou(track[last][None], end[None])[0] < 0.3:
            return track
        return moved(track, share * difference(track[last], end))

    a = bend(forward[0], backward[0][-1], share, -1), forward[1]
    b = bend(backward[0], forward[0][0], 1 - share, 0), backward[1]
    return agreeing(a, b)


MERGES: dict[str, Merge] = {
    "forward only": lambda forward, backward: np.concatenate([forward[0][:-1], backward[0][-1:]]),
    "switch": switch,
    "blend": blend,
    "agreeing": agreeing,
    "bent": bent,
}


def merged(runs: Runs, anchors: list[int], merge: Merge, *, first: bool, rough: bool) -> Boxes:
    """The whole clip from its corrections.

    Args:
        runs: of the clip.
        anchors: frames with a box by hand, rising.
        merge: of two tracks between two of them.
        first: the template stays that of the first box.
        rough: not smoothed.
    """
    template = anchors[0] if first else None
    count = len(runs.video)
    boxes = np.empty((count, 4))
    boxes[: anchors[0] + 1] = runs(anchors[0], -1, template)[0]
    boxes[anchors[-1] :] = runs(anchors[-1], 1, template)[0]
    for a, b in pairwise(anchors):
        forward, backward = runs(a, 1, template), runs(b, -1, template)
        boxes[a : b + 1] = merge(
            (forward[0][: b - a + 1], forward[1][: b - a + 1]), (backward[0][a : b + 1], backward[1][a : b + 1])
        )
    return boxes if rough else smoothed(boxes, anchors)


def _passages(overlaps: Float64[np.ndarray, "N"], length: int) -> Float64[np.ndarray, "N"]:
    """The mean overlap of the frames around each one."""
    counts = np.convolve(np.ones(len(overlaps)), np.ones(length), mode="same")
    return np.convolve(overlaps, np.ones(length), mode="same") / counts


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("clips", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("runs/corrections"))
    parser.add_argument("--goal", type=float, default=0.85)
    parser.add_argument("--most", type=int, default=20)
    parser.add_argument("--merges", nargs="*", default=list(MERGES))
    parser.add_argument("--first", action="store_true", help="keep the template of the first box")
    parser.add_argument("--as-trained", action="store_true", help="tracker.expectation and tracker.offset left out")
    parser.add_argument("--plain", action="store_true", help="a tracker that is never lost; the command's is")
    parser.add_argument("--rough", action="store_true", help="the merged track as it is, not smoothed")
    parser.add_argument("--passage", type=int, default=1, help="frames over which the annotator judges")
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"expectation": 0, "offset": 0.0} if given.as_trained else {}
    tracker = load_tracker(device="cpu", long_term=False if given.plain else None, **settings)
    index, cache = folder(given.clips), given.cache / f"{SMALL.stat().st_mtime_ns}_{given.plain}_{given.as_trained}"
    clips = [Runs(index[i], cache, tracker) for i in range(len(index))]
    frames = sum(len(one.video) for one in clips)
    print(f"{len(clips)} clips, {frames} frames")
    for name in given.merges:
        anchors = [[0] for _ in clips]
        history = []
        ways = {"merge": MERGES[name], "first": given.first, "rough": given.rough}
        overlaps = [iou(merged(one, at, **ways), one.video.boxes) for one, at in zip(clips, anchors, strict=True)]
        for _ in range(given.most + 1):
            history.append(float(np.mean([one.mean() for one in overlaps])))
            judged = [_passages(one, given.passage) for one in overlaps]
            which = int(np.argmin([one.min() for one in judged]))
            anchors[which] = sorted({*anchors[which], int(judged[which].argmin())})
            overlaps[which] = iou(merged(clips[which], anchors[which], **ways), clips[which].video.boxes)
        reached = next((k for k, value in enumerate(history) if value >= given.goal), None)
        print(f"{name:16} goal after {reached}; " + " ".join(f"{value:.3f}" for value in history), flush=True)


if __name__ == "__main__":
    main()
