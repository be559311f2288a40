"""The four training sets and three test sets in their published layouts, as long as real videos are.

Everything is below one folder, as `paths.data` expects. Frames repeat after 24 and are hard links, so that length
costs nothing. Targets are covered, absent, out of view and occluded beyond frame 100, too, where validation ends.
"""

from pathlib import Path

import numpy as np
from tests.data.fixtures import META, H, W, boxes_for, make_coco, numbered, rows, write

GOT10K = {  # name: frames
    "train": {"GOT-10k_Train_000001": 60, "GOT-10k_Train_000002": 110, "GOT-10k_Train_009335": 180},
    "val": {"GOT-10k_Val_000001": 130, "GOT-10k_Val_000002": 180},
    "test": {"GOT-10k_Test_000001": 60, "GOT-10k_Test_000002": 105},
}
LASOT = {"airplane-2": 320, "bicycle-1": 900, "airplane-1": 330}  # two of training, one of testing
TRACKINGNET = {"TRAIN_0": {"vid0-0_0": 480}, "TRAIN_3": {"vid3-0_0": 440}, "TEST": {"-Dz7OIf54b0_0": 210}}
TRAIN = {"coco": 9, "got10k": 3, "lasot": 2, "trackingnet": 2}  # targets or videos of each set


def make_sets(root: Path) -> None:
    """All sets below one folder."""
    make_coco(root / "coco")
    for split, videos in GOT10K.items():
        write(root / "got10k" / split / "list.txt", "\n".join(videos) + "\n")
        for name, count in videos.items():
            got10k_video(root / "got10k" / split / name, count, test=split == "test")
    for seed, (name, count) in enumerate(LASOT.items()):
        lasot_video(root / "lasot" / name.rpartition("-")[0] / name, count, seed)
    for part, videos in TRACKINGNET.items():
        for seed, (name, count) in enumerate(videos.items()):
            boxes = boxes_for(count, seed, decimals=2)
            numbered(root / "trackingnet" / part / "frames" / name, 0, count, 1, boxes=boxes)
            write(root / "trackingnet" / part / "anno" / f"{name}.txt", rows(boxes[:1] if part == "TEST" else boxes))


def got10k_video(place: Path, count: int, *, test: bool = False) -> None:
    """Ten frames without a target and twenty covered ones in the middle and at the end."""
    boxes = boxes_for(count, count, decimals=4)
    numbered(place, 1, count, 8, boxes=boxes)
    write(place / "groundtruth.txt", rows(boxes[:1] if test else boxes, form=".4f"))
    if test:
        return
    absence, cover = np.zeros(count, int), np.full(count, 8)
    for start in (count // 2, count - 20):
        absence[start : start + 5], cover[start : start + 5] = 1, 0
        cover[start + 5 : start + 15] = np.arange(10) % 8
    for label, values in (("absence", absence), ("cover", cover), ("cut_by_image", np.zeros(count, int))):
        write(place / f"{label}.label", "".join(f"{value}\n" for value in values))
    write(place / "meta_info.ini", META.format(n=count, swap=f"resolution: ({W}, {H})"))


def lasot_video(place: Path, count: int, seed: int) -> None:
    """Occluded for thirty frames, then out of view for twenty, whose boxes are zeros."""
    boxes, occluded, outside = boxes_for(count, seed), np.zeros(count, int), np.zeros(count, int)
    occluded[90:120], outside[200:220] = 1, 1
    boxes[200:220] = 0
    numbered(place / "img", 1, count, 8, boxes=boxes)
    write(place / "groundtruth.txt", rows(boxes))
    write(place / "full_occlusion.txt", ",".join(map(str, occluded)))
    write(place / "out_of_view.txt", ",".join(map(str, outside)))
    write(place / "nlp.txt", "a grey thing")
