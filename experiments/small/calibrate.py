"""What the confidences of a checkpoint mean: a logistic regression on generated videos of kept-back pictures.

    python experiments/small/calibrate.py --pool data/pictures --videos data/picture_videos

Tracks videos of the pool's validation part, prints the expected calibration error before and after, and writes
<checkpoint>.calibration.json, which `seqtrack-track` and `load_tracker` read. What was measured on a video is kept
beside its frames: the same command goes on where it stopped.
"""

import argparse
import io
import json
import zlib
from pathlib import Path

import numpy as np
import torch

from seqtrack_lit.boxes import iou
from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.data.synthetic.pictures.pool import PicturePool
from seqtrack_lit.data.synthetic.pictures.videos import write_videos
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.files import write_atomic
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker, load_seqtrack
from seqtrack_lit.weights import SMALL

COUNTS = {"long": 20, "hard": 12, "easy": 12}
LOST_BELOW, FOUND_ABOVE = 0.2, 0.9


def scores_of(tracker: SeqTrackTracker, video: Video, kept: Path) -> np.ndarray:
    """A row a frame: mean token probability, presence, IoU (0 where the target is away)."""
    if kept.is_file():
        return np.loadtxt(kept, delimiter=",")
    rows = []
    tracker.init(video.frames[0], video.boxes[0])
    for t in range(1, len(video)):
        image, crop = video.frames[t], tracker.search_crop()
        found = tracker.predict_in(image, [crop], window=True)
        box = tracker.advance(image, crop, found.boxes[0], found.likelihoods[0]).box_xywh
        overlap = float(iou(torch.from_numpy(box), torch.from_numpy(video.boxes[t]))) if video.visible[t] else 0.0
        rows.append([float(found.likelihoods.mean()), float(found.presence), overlap])
    text = io.StringIO()
    np.savetxt(text, rows, fmt="%.8g", delimiter=",")
    write_atomic(kept, text.getvalue())
    print(video.name, flush=True)
    return np.array(rows)


def fit(features: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Weights and bias of a logistic regression, by Newton's method with a very weak prior."""
    inputs, weights = np.c_[features, np.ones(len(features))], np.zeros(features.shape[1] + 1)
    for _ in range(50):
        p = 1 / (1 + np.exp(-inputs @ weights))
        hessian = (inputs * (p * (1 - p))[:, None]).T @ inputs + 1e-3 * np.eye(len(weights))
        weights += np.linalg.solve(hessian, inputs.T @ (right - p) - 1e-3 * weights)
    return weights


def calibration_error(confidences: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean distance of confidence and share of right boxes, in equal bins."""
    place = np.minimum((confidences * bins).astype(int), bins - 1)
    chosen = [place == i for i in range(bins) if (place == i).any()]
    return float(sum(abs(confidences[one].mean() - right[one].mean()) * one.mean() for one in chosen))


def main() -> None:
    """Track, fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--videos", type=Path, required=True, help="gets validation/<kind>/")
    parser.add_argument("--checkpoint", type=Path, default=SMALL)
    given = parser.parse_args()
    torch.set_num_threads(1)
    pool = PicturePool(given.pool, part="validation", only_free=False).read()
    tracker, rows = load_seqtrack(given.checkpoint, device="cpu", expectation=0, offset=0.0), []
    name = f"scores_{zlib.crc32(given.checkpoint.read_bytes()):08x}.csv"
    for kind, count in COUNTS.items():
        place = given.videos / "validation" / kind
        write_videos(place, pool, kind, count)
        for video in map(folder(place).__getitem__, range(count)):
            rows.append(scores_of(tracker, video, place / video.name / name))
    likelihood, presence, overlap = np.concatenate(rows).T
    presence, right = presence.clip(1e-6, 1 - 1e-6), overlap >= 0.5
    features = np.c_[np.log(likelihood), np.log(presence / (1 - presence))]
    weights = fit(features, right)
    probabilities = 1 / (1 + np.exp(-np.c_[features, np.ones(len(features))] @ weights))
    before, after = (calibration_error(confidences, right) for confidences in (likelihood, probabilities))
    print(f"{len(right)} frames, calibration error {before:.3f} -> {after:.3f}")
    names = ("likelihood", "presence", "bias", "lost_below", "found_above")
    saved = dict(zip(names, [*weights.round(3).tolist(), LOST_BELOW, FOUND_ABOVE], strict=True))
    write_atomic(given.checkpoint.with_suffix(".calibration.json"), json.dumps(saved, indent=1) + "\n")


if __name__ == "__main__":
    main()
