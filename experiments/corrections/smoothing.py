"""What smoothing a track does to mean IoU: `python experiments/corrections/smoothing.py VIDEOS [--stride N]`.

VIDEOS is a folder of videos as `benchmark=folder` reads it; each is tracked from its first box by a tracker that is
never lost.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.evaluation.ope import iou
from seqtrack_lit.tracking.corrected import smoothed
from seqtrack_lit.tracking.long_term import load_tracker
from seqtrack_lit.tracking.tracker import run_tracker


def main() -> None:
    """Print both means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--most", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    index, tracker = folder(given.videos), load_tracker(device="cpu", long_term=False)
    rows = []
    for number in range(min(given.most, len(index))):
        video, places = index[number], slice(None, None, given.stride)
        frames = [video.frames[place] for place in range(0, len(video), given.stride)]
        video = replace(video, frames=frames, boxes=video.boxes[places], visible=video.visible[places])
        boxes, seen = run_tracker(tracker, video).boxes, video.visible
        rows.append([iou(one, video.boxes)[seen].mean() for one in (boxes, smoothed(boxes, [0]))])
    rough, smooth = np.array(rows).T
    worse, better = (smooth < rough - 0.002).sum(), (smooth > rough + 0.002).sum()
    print(f"{len(rows)} videos: {rough.mean():.4f} -> {smooth.mean():.4f}; {worse} worse by .002, {better} better")


if __name__ == "__main__":
    main()
