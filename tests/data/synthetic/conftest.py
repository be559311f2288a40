"""A small pool of drawn pictures."""

import csv

import cv2
import numpy as np
import pytest

from seqtrack_lit.data.synthetic.pictures.collect.build import COLUMNS


def write_pool(root, *, backgrounds=24, objects=24):
    rng = np.random.default_rng(0)
    rows = []

    def add(name, picture, tier, kind):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture)
        rows.append([name, "package", f"share/{name}", "CC0" if tier == "A" else "GPL-2", tier, kind, 0, 0, "1"])

    for i in range(backgrounds):
        low = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        add(f"backgrounds/hill{'abcdefghijklmnopqrstuvwx'[i]}.png", cv2.resize(low, (240, 180)), "A", "background")
    for i in range(objects):
        picture = np.zeros((60, 80, 4), np.uint8)
        cv2.ellipse(picture, (40, 30), (39, 29), 0, 0, 360, [*rng.integers(0, 255, 3).tolist(), 255], -1)
        add(f"objects/egg{'abcdefghijklmnopqrstuvwx'[i]}.png", picture, "AC"[i % 2], "photo")
    frames = []
    for video in ("walk", "ride", "swim", "jump"):
        for t in range(3):
            picture = cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), (240, 180))
            picture[60:100, 80 + 10 * t : 130 + 10 * t] = 255
            name = f"frames/{video}/{t}.png"
            add(name, picture, "A", "frame")
            frames.append([video, name, 80 + 10 * t, 60, 50, 40])
    tables = {"pool.csv": [COLUMNS, *rows], "tracks.csv": [("track", "picture", "x", "y", "w", "h"), *frames]}
    (root / "cutouts").mkdir()
    cv2.imwrite(str(root / "cutouts/walk.png"), np.dstack([np.full((40, 50, 3), 255), np.tri(40, 50) * 255]))
    tables["cutouts.csv"] = [("file", "picture", "x", "y", "w", "h"), ["cutouts/walk.png", *frames[0][1:]]]
    for name, table in tables.items():
        with (root / name).open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)
    return root


@pytest.fixture(scope="session")
def pool_folder(tmp_path_factory):
    return write_pool(tmp_path_factory.mktemp("pictures"))
