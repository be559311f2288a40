"""What other ways to read the box do to mean IoU: `python experiments/small/variants.py VIDEOS [VIDEOS ...]`.

With --long instead: what the parts of tracking for long do to mean IoU and to AUROC of lost. Each VIDEOS is a folder of
videos as `benchmark=folder` reads it.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from table import LOST, auroc

from seqtrack_lit.boxes import iou
from seqtrack_lit.crops import Image
from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.data.video.index import SequenceIndex
from seqtrack_lit.tracking import long_term
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker, load_seqtrack
from seqtrack_lit.tracking.tracker import Estimate, Tracker, run_tracker


class Variant(SeqTrackTracker):
    """The shipped tracker, its box read in another way.

    Args:
        mixed: share of the Hann window; the rest is 1.
        damping: share of the previous size in the logarithm of the new one.
        templates: 2: a second one, renewed where the likelihood allows it.
        settings: of SeqTrackTracker.
    """

    def __init__(self, *, mixed: float = 1.0, damping: float = 0.0, templates: int = 1, **settings: Any) -> None:
        plain = load_seqtrack(device="cpu")
        model = copy.deepcopy(plain.model)
        model.encoder.templates = templates
        super().__init__(model, **{**plain.stored, **settings})
        self.damping = damping
        self.hann_window = 1 - mixed + mixed * self.hann_window

    def update(self, image: Image) -> Estimate:
        """The box in the next frame."""
        before, estimate = np.array(self.box[2:]), super().update(image)
        if self.damping:
            x, y, w, h = self.box
            size = np.exp(self.damping * np.log(before) + (1 - self.damping) * np.log([w, h]))
            self.box = (*(np.array([x + w / 2, y + h / 2]) - size / 2).tolist(), *size.tolist())
        return Estimate(np.array(self.box), estimate.confidence)


VARIANTS: dict[str, dict[str, Any]] = {
    "as it ships": {},
    "second template, likelihood > .11, every 10 frames": {
        "templates": 2, "update": "likelihood", "update_interval": 10, "update_threshold": 0.11,
    },
    "size damped by .3": {"damping": 0.3},
    "window mixed .4 with 1": {"mixed": 0.4},
    "nothing of the first box added": {"offset": 0.0},
    "the same, the likeliest bins alone": {"offset": 0.0, "expectation": 0},
}  # fmt: skip


LONG: dict[str, dict[str, float]] = {  # constants of tracking/long_term.py
    "as it ships": {},
    "look-alikes are not remembered": {"_KEPT": 0, "_EVERY": 10**9},
    "nor places in tiles confirmed": {"_KEPT": 0, "_EVERY": 10**9, "_ENOUGH": 0.0},
}


def score(tracker: Tracker, videos: SequenceIndex) -> tuple[float, float]:
    """Mean IoU over the visible frames of each video, and AUROC of lost by confidence."""
    means, overlaps, confidences = [], [], []
    for video in (videos[index] for index in range(len(videos))):
        track = run_tracker(tracker, video)
        found = iou(torch.from_numpy(track.boxes), torch.from_numpy(video.boxes)).numpy() * video.visible
        means.append(found[1:][video.visible[1:]].mean())
        overlaps.append(found[1:])
        confidences.append(track.confidences[1:])
    return float(np.mean(means)), auroc(np.concatenate(confidences), np.concatenate(overlaps) >= LOST)


def main() -> None:
    """Print a line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--long", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sets, shipped = (
        [folder(root) for root in given.videos],
        {key: vars(long_term)[key] for how in LONG.values() for key in how},
    )
    for name, how in (LONG if given.long else VARIANTS).items():
        vars(long_term).update({**shipped, **(how if given.long else {})})
        tracker = long_term.load_tracker(device="cpu") if given.long else Variant(**how)
        cells = ["{:.3f} / {:.3f}".format(*score(tracker, videos)) for videos in sets]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
