"""What a cascade and 8-bit integers do to the small tracker: IoU and processor time on one thread.

    python experiments/faster/cascade.py VIDEOS [VIDEOS ...] --out FILE [--plot cascade.png]

Each VIDEOS is a folder of videos as `benchmark=folder` reads it. All trackers follow a video in turns, frame by frame,
so that other programs disturb all alike. A line a video is appended to FILE; videos of FILE are not tracked again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from seqtrack_lit.boxes import iou
from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker, load_seqtrack

THRESHOLDS = (1.0, 0.1, 0.07, 0.05)  # 1: no cascade
TRACKERS = {
    f"{dtype}, {'whole' if threshold == 1 else f'cascade {threshold}'}": {"dtype": dtype, "cascade": threshold}
    for dtype in ("float32", "int8")
    for threshold in THRESHOLDS
}


def follow(trackers: dict[str, SeqTrackTracker], video: Video) -> dict[str, Any]:
    """Of each tracker: mean IoU of the frames after the first, milliseconds of each frame, frames read whole."""
    boxes: dict[str, list[np.ndarray]] = {name: [] for name in trackers}
    spent: dict[str, list[float]] = {name: [] for name in trackers}
    whole = {name: count_whole(tracker) for name, tracker in trackers.items()}
    for t in range(len(video)):
        image = video.frames[t]
        for name, tracker in trackers.items():
            if t == 0:
                tracker.init(image, video.boxes[0])
                continue
            begun = time.process_time()
            boxes[name].append(tracker.update(image).box_xywh)
            spent[name].append(round(1000 * (time.process_time() - begun), 2))
    seen, truth = video.visible[1:], torch.from_numpy(video.boxes[1:])
    return {
        name: {
            "iou": float(iou(torch.from_numpy(np.array(boxes[name])), truth).numpy()[seen].mean()),
            "ms": spent[name],
            "whole": len(whole[name]),
        }
        for name in trackers
    }


def count_whole(tracker: SeqTrackTracker) -> list[int]:
    """A list that gets the number of every frame whose search region is read whole."""
    frames: list[int] = []

    def predict(*given: Any, **more: Any) -> Any:
        frames.append(tracker.frame)
        return SeqTrackTracker.predict(tracker, *given, **more)

    tracker.predict = predict  # type: ignore[method-assign]
    return frames


def table(lines: list[dict[str, Any]]) -> str:
    """A row a tracker and set: mean IoU, milliseconds, the first tracker's time over its own, frames read whole."""
    rows = ["| videos | tracker | mean IoU | ms, mean | ms, median | times as fast | read whole |", "|" + "---|" * 7]
    for kind in dict.fromkeys(line["set"] for line in lines):
        mine = [line["trackers"] for line in lines if line["set"] == kind]
        base = np.concatenate([one[next(iter(TRACKERS))]["ms"] for one in mine])
        for name in TRACKERS:
            ms = np.concatenate([one[name]["ms"] for one in mine])
            overlap, whole = np.mean([one[name]["iou"] for one in mine]), sum(one[name]["whole"] for one in mine)
            numbers = f"{overlap:.3f} | {ms.mean():.1f} | {np.median(ms):.1f} | {base.mean() / ms.mean():.2f}"
            rows.append(f"| {kind} ({len(mine)}) | {name} | {numbers} | {100 * whole / len(ms):.0f} % |")
    return "\n".join(rows)


def plot(lines: list[dict[str, Any]], path: Path) -> None:
    """Mean IoU by milliseconds a frame, a line a set and precision, a point a threshold."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for kind in dict.fromkeys(line["set"] for line in lines):
        mine = [line["trackers"] for line in lines if line["set"] == kind]
        for dtype in ("float32", "int8"):
            names = [name for name in TRACKERS if name.startswith(dtype)]
            x = [float(np.concatenate([one[name]["ms"] for one in mine]).mean()) for name in names]
            y = [float(np.mean([one[name]["iou"] for one in mine])) for name in names]
            axes.plot(x, y, marker="o", label=f"{kind}, {dtype}", linestyle="-" if dtype == "float32" else "--")
            for name, *point in zip(names, x, y, strict=True):
                label = name.split(", ")[1].removeprefix("cascade 0")
                axes.annotate(label, point, xytext=(3, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel="ms a frame, mean, one thread", ylabel="mean IoU")
    axes.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Track what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("runs/cascade.jsonl"))
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.is_file() else []
    trackers = {name: load_seqtrack(device="cpu", expectation=0, offset=0.0, **how) for name, how in TRACKERS.items()}
    for root in given.videos:
        done, videos = {line["video"] for line in lines if line["set"] == root.name}, folder(root)
        for video in (videos[i] for i in range(len(videos))):
            if video.name not in done:
                lines.append({"set": root.name, "video": video.name, "trackers": follow(trackers, video)})
                with given.out.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
                print(video.name, flush=True)
    print(table(lines))
    if given.plot is not None:
        plot(lines, given.plot)


if __name__ == "__main__":
    main()
