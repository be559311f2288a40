"""What other ways to read the box do to mean IoU: `python experiments/small/variants.py VIDEOS [VIDEOS ...]`.

Each VIDEOS is a folder of videos as `benchmark=folder` reads it. Nothing of this is part of the tracker.
"""

import copy
import sys
from typing import Any

import numpy as np
import torch

from seqtrack_lit.boxes import iou
from seqtrack_lit.crops import Image
from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker, load_seqtrack
from seqtrack_lit.tracking.tracker import Estimate, run_tracker


class Variant(SeqTrackTracker):
    """The shipped tracker, its box read in another way.

    Args:
        expect: bins on each side of the likeliest one whose mean is taken; 0: the likeliest.
        mixed: share of the Hann window; the rest is 1.
        damping: share of the previous size in the logarithm of the new one.
        templates: 2: a second one, renewed where the likelihood allows it.
        settings: of SeqTrackTracker.
    """

    def __init__(
        self, *, expect: int = 0, mixed: float = 1.0, damping: float = 0.0, templates: int = 1, **settings: Any
    ) -> None:
        plain = load_seqtrack(device="cpu")
        model = copy.deepcopy(plain.model)
        model.encoder.templates = templates
        super().__init__(model, **{**plain.stored, **settings})
        self.expect, self.damping = expect, damping
        self.hann_window = 1 - mixed + mixed * self.hann_window

    def update(self, image: Image) -> Estimate:
        """The box in the next frame."""
        before = np.array(self.box[2:])
        crop, found = self.predict(image, distributions=True)
        box = found.boxes[0]
        if self.expect:
            bins = torch.arange(found.distributions.shape[-1], dtype=torch.float64)
            near = (bins - found.tokens[0][:, None]).abs() <= self.expect
            weights = found.distributions[0].double() * near
            box = ((weights * bins).sum(1) / weights.sum(1) / (len(bins) - 1)).float()
        estimate = self.advance(image, crop, box, found.likelihoods[0])
        if self.damping:
            x, y, w, h = self.box
            size = np.exp(self.damping * np.log(before) + (1 - self.damping) * np.log([w, h]))
            self.box = (*(np.array([x + w / 2, y + h / 2]) - size / 2).tolist(), *size.tolist())
        return Estimate(np.array(self.box), estimate.confidence)


VARIANTS: dict[str, dict[str, Any]] = {
    "as it ships": {},
    "expectation over 20 bins on each side": {"expect": 20},
    "window mixed .4 with 1": {"mixed": 0.4},
    "size damped by .3": {"damping": 0.3},
    "second template, likelihood > .11, every 10 frames": {
        "templates": 2, "update": "likelihood", "update_interval": 10, "update_threshold": 0.11,
    },
}  # fmt: skip


def main() -> None:
    """Print a line for each variant."""
    torch.set_num_threads(1)
    sets = [folder(root) for root in sys.argv[1:]]
    for name, how in VARIANTS.items():
        means, tracker = [], Variant(**how)
        for videos in sets:
            overlaps = []
            for index in range(len(videos)):
                video = videos[index]
                track = run_tracker(tracker, video)
                found = iou(torch.from_numpy(track.boxes), torch.from_numpy(video.boxes)).numpy()
                overlaps.append(found[1:][video.visible[1:]].mean())
            means.append(f"{np.mean(overlaps):.3f}")
        print(f"| {name} | " + " | ".join(means) + " |", flush=True)


if __name__ == "__main__":
    main()
