"""The table of this page: trackers by generated test videos and real clips, one command from videos to numbers.

    python experiments/small/table.py --pool data/pictures --videos data/picture_videos --real CLIPS \
        --nano NANOTRACK --toy runs/quickstart/checkpoints/best.ckpt

Videos of the pool's test part are written where they are missing, `seqtrack-evaluate` tracks what has no result (the
same command goes on where it stopped), table.md and table.json go into --runs, reliability.png and failures_*.jpg
beside this file.
"""

import argparse
import json
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from calibrate import calibration_error

from seqtrack_lit.boxes import iou
from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.data.synthetic.pictures.pool import PicturePool
from seqtrack_lit.data.synthetic.pictures.videos import write_videos
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.evaluation.results import list_done, read_result
from seqtrack_lit.evaluation.scores import ground_truth, score_sequences
from seqtrack_lit.files import write_atomic
from seqtrack_lit.pictures import COLORS, TRUTH, draw_boxes
from seqtrack_lit.tracking.baselines import make_baseline
from seqtrack_lit.tracking.long_term import load_tracker
from seqtrack_lit.tracking.tracker import Tracker

KINDS = ("easy", "hard", "long")
LABELS = {  # of rows, by the name of the results folder
    "static": "static box",
    "kcf": "KCF",
    "csrt": "CSRT",
    "nano": "NanoTrackV2",
    "toy": "quickstart",
    "seqtrack_small": "small",
    "seqtrack_small_long_term": "small, long-term",
}
LOST, RIGHT = 0.2, 0.5  # IoU below which a target is lost, from which a box is right
SOON, FRAMES = 30, 40  # frames: in which a target should be found again; timed
HERE = Path(__file__).parent


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive has a higher score than a negative; ties count one half."""
    if positive.all() or not positive.any():
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[place]
    most = positive.sum()
    return float((ranks[positive].sum() - most * (most + 1) / 2) / (most * (len(scores) - most)))


def read(root: Path) -> list[Video]:
    """All videos of a folder."""
    videos = folder(root)
    return [videos[index] for index in range(len(videos))]


def measure(results: Path, videos: list[Video]) -> dict[str, object]:
    """Every number of a tracker on a set of videos."""
    truths, boxes = [], {}
    overlaps, confidences, per_video, back = [], [], {}, []
    for video in videos:
        result = read_result(results, video.name)
        truths.append(ground_truth(video.name, video.boxes, video.visible, video.meta, benchmark="folder"))
        boxes[video.name] = result.boxes
        found = iou(torch.from_numpy(result.boxes), torch.from_numpy(video.boxes)).numpy() * video.visible
        per_video[video.name] = float(found[1:][video.visible[1:]].mean())
        overlaps.append(found[1:])
        confidences.append(result.confidences[1:])
        away = ~video.visible
        returns = [t for t in range(5, len(away)) if away[t - 5 : t].all() and not away[t]]
        back += [bool((found[t : t + SOON] >= RIGHT).any()) for t in returns]
    overlap, confidence = np.concatenate(overlaps), np.concatenate(confidences)
    return {
        "IoU": float(np.mean(list(per_video.values()))),
        "AUC": score_sequences(truths, boxes).values["AUC"],
        "AUROC of lost": auroc(confidence, overlap >= LOST),
        "calibration error": calibration_error(confidence, overlap >= RIGHT),
        "absences": len(back),
        "found again": float(np.mean(back)) if back else float("nan"),
        "frames": len(overlap),
        "lost frames": int((overlap < LOST).sum()),
        "per video": per_video,
        "reliability": [[float(c), bool(o >= RIGHT)] for c, o in zip(confidence, overlap, strict=True)],
    }


def runs(nano: Path | None, toy: Path | None) -> list[tuple[tuple[str, ...], list[str]]]:
    """Names of trackers, and what `seqtrack-evaluate` runs them by."""
    found: list[tuple[tuple[str, ...], list[str]]] = [(("static", "kcf", "csrt"), ["baseline=[static,kcf,csrt]"])]
    if nano is not None:
        found.append((("nano",), ["baseline=nano", f"baseline_files={nano}"]))
    if toy is not None:
        found.append((("toy",), [f"checkpoint={toy}", "tracker.name=toy"]))
    small = ("seqtrack_small",), ["checkpoint=small"]
    return [*found, small, (("seqtrack_small_long_term",), ["checkpoint=small", "long_term=true"])]


def milliseconds(video: Video, nano: Path | None, toy: Path | None) -> dict[str, dict[str, float]]:
    """Processor time a frame, one thread: medians over the frames, each of which all trackers take in turn."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    made: dict[tuple[str, str], Tracker] = {
        (name, "float32"): make_baseline(name) for name in ("static", "kcf", "csrt")
    }
    if nano is not None:
        made["nano", "float32"] = make_baseline("nano", files=nano)
    for dtype in ("float32", "bfloat16"):
        if toy is not None:
            made["toy", dtype] = load_tracker(toy, device="cpu", dtype=dtype)
        made["seqtrack_small", dtype] = load_tracker(device="cpu", dtype=dtype, long_term=False)
        made["seqtrack_small_long_term", dtype] = load_tracker(device="cpu", dtype=dtype)
    spent: dict[tuple[str, str], list[float]] = {key: [] for key in made}
    for tracker in made.values():
        tracker.init(video.frames[0], video.boxes[0].copy())
    for t in range(1, min(FRAMES, len(video))):
        image = video.frames[t]
        for key, tracker in made.items():
            begun = time.process_time()
            tracker.update(image)
            spent[key].append(time.process_time() - begun)
    found: dict[str, dict[str, float]] = {}
    for (name, dtype), times in spent.items():
        found.setdefault(name, {})[dtype] = 1000 * float(np.median(times))
    return found


def plot(rows: dict[str, dict[str, dict[str, object]]], path: Path) -> None:
    """Share of right boxes by confidence, before and after calibration, on generated test videos and real clips."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    for axes, kinds, title in zip(figure.subplots(1, 2), (KINDS, ("real",)), ("generated", "real clips"), strict=True):
        axes.plot([0, 1], [0, 1], color="0.7")
        for name, label in (("seqtrack_small", "mean token probability"), ("seqtrack_small_long_term", "calibrated")):
            pairs = np.array([pair for kind in kinds if kind in rows[name] for pair in rows[name][kind]["reliability"]])
            place = np.minimum((pairs[:, 0] * 10).astype(int), 9)
            used = [place == i for i in range(10) if (place == i).sum() >= 10]
            points = np.array([pairs[one].mean(0) for one in used])
            axes.plot(*points.T, marker="o", label=f"{label}, error {calibration_error(*pairs.T):.3f}")
        axes.set(xlabel="confidence", ylabel="share of boxes with IoU >= 0.5", title=title)
        axes.legend(loc="lower right")
    figure.savefig(path, dpi=100)


def failures(results: Path, videos: list[Video], per_video: dict[str, float], path: Path) -> None:
    """Eight frames of each of the five worst videos: the target white, the tracker's box yellow."""
    lines, worst = [], sorted(per_video, key=per_video.__getitem__)[:5]
    for video in (video for video in videos if video.name in worst):
        boxes = read_result(results, video.name).boxes
        cells = []
        for t in np.linspace(1, len(video) - 1, 8).astype(int):
            shown = [video.boxes[t] if video.visible[t] else np.full(4, np.nan), boxes[t]]
            image = draw_boxes(video.frames[t], shown, colors=(TRUTH, COLORS[0]))
            cells.append(cv2.resize(image, (192, 144), interpolation=cv2.INTER_AREA))
        lines.append(np.hstack(cells))
    cv2.imwrite(str(path), np.vstack(lines)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def _cell(one: dict[str, object]) -> str:
    return " / ".join((f"{one['IoU']:.3f}", f"{one['AUC']:.1f}", f"{one['AUROC of lost']:.3f}")).replace("nan", "-")


def table(
    rows: dict[str, dict[str, dict[str, object]]], columns: list[str], speeds: dict[str, dict[str, float]]
) -> str:
    """Markdown: IoU / AUC and AUROC of lost by set, then what is found again, and time."""
    heads = [f"{kind}: IoU / AUC / AUROC" for kind in columns]
    lines = [
        "| tracker | " + " | ".join(heads) + " | found again | ms a frame, fp32 / bf16 |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for name, label in LABELS.items():
        sets = rows.get(name, {})
        cells = [_cell(sets[kind]) if kind in sets else "not run" for kind in columns]
        long = sets.get("long")
        again = "not run" if long is None else f"{100 * long['found again']:.0f} % of {long['absences']}"
        times = " / ".join(f"{value:.1f}" for value in speeds[name].values()) if name in speeds else "not run"
        lines.append(f"| {label} | " + " | ".join(cells) + f" | {again} | {times} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write and track what is missing, measure, show."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("pool", "videos", "real", "nano", "toy"):
        parser.add_argument(f"--{name}", type=Path, required=name in ("pool", "videos"))
    parser.add_argument("--count", type=int, nargs=3, default=[40, 40, 40], help="easy, hard and long videos")
    parser.add_argument("--runs", type=Path, default=Path("runs/small_table"))
    given = parser.parse_args()
    pool = PicturePool(given.pool, part="test", only_free=False).read()
    places = {kind: given.videos / "test" / kind for kind in KINDS} | ({"real": given.real} if given.real else {})
    for kind, count in zip(KINDS, given.count, strict=True):
        write_videos(places[kind], pool, kind, count)
    sets = {kind: read(place) for kind, place in places.items()}
    sets |= {kind: sets[kind][:count] for kind, count in zip(KINDS, given.count, strict=True)}
    rows: dict[str, dict[str, dict[str, object]]] = {}
    for names, how in runs(given.nano, given.toy):
        for kind, place in places.items():
            results = [given.runs / "results" / name / kind for name in names]
            lengths = {video.name: len(video) for video in sets[kind]}
            if any(len(list_done(one, lengths)) < len(lengths) for one in results):
                where = [f"benchmark.root={place}", f"benchmark.name={kind}", f"paths.runs={given.runs}", "device=cpu"]
                command = ["seqtrack-evaluate", "benchmark=folder", *where, f"paths.data={given.runs}/data"]
                subprocess.run([*command, "convention=mean_iou", "media=false", *how], check=True)
            for name, one in zip(names, results, strict=True):
                rows.setdefault(name, {})[kind] = measure(one, sets[kind])
    if not (given.runs / "speeds.json").is_file():
        found = milliseconds(sets["easy"][0], given.nano, given.toy)
        write_atomic(given.runs / "speeds.json", json.dumps(found, indent=1) + "\n")
    speeds = json.loads((given.runs / "speeds.json").read_text())
    plot(rows, HERE / "reliability.png")
    for kind in ("hard", "long"):
        name = "seqtrack_small_long_term"
        worst = rows[name][kind]["per video"]
        failures(given.runs / "results" / name / kind, sets[kind], worst, HERE / f"failures_{kind}.jpg")
    write_atomic(given.runs / "table.md", table(rows, list(places), speeds))
    for found in rows.values():
        for one in found.values():
            for key in ["reliability", *(key for key, value in one.items() if value != value)]:  # no NaN in JSON
                del one[key]
    write_atomic(given.runs / "table.json", json.dumps({"speeds": speeds, **rows}, indent=1) + "\n")
    print((given.runs / "table.md").read_text())


if __name__ == "__main__":
    main()
