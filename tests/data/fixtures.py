"""Tiny data sets in the exact layout of each publisher, odd ones included, for all tests.

In a test:  `made = make_dataset("lasot")`  ->  made.root (folder), made.truth[name] (boxes, visible, shades).
Each maker `make_<name>(root, ...)` can also be imported from `tests.data.fixtures`. `FOLDERS` says where below
`paths.data` the configurations look for each. Frames show a grey background of a shade that tells the frame number
(`shade_of`), and the target as a bright box.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

W, H = 64, 48
CYCLE = 24  # frames repeat after so many; further ones are hard links, which costs nothing


class GroundTruth(NamedTuple):
    boxes: np.ndarray  # as written
    visible: np.ndarray  # by the flags alone
    shades: list[int]  # of the frames, in order


class Made(NamedTuple):
    root: Path
    truth: dict[str, GroundTruth]


def shade_of(number: int) -> int:
    return 20 + 10 * (number % CYCLE)


def boxes_for(count: int, seed: int = 0, *, decimals: int = 0) -> np.ndarray:
    """A box drifting through the frame."""
    rng = np.random.default_rng(seed)
    steps = np.arange(count)[:, None]
    xy = np.array([10.0, 8.0]) + rng.uniform(0, 0.5, 2) * (steps % 40)
    wh = np.array([14.0, 12.0]) + 2 * np.sin(steps / 5 + rng.uniform(0, 6, 2))
    return np.round(np.concatenate([xy, wh], 1), decimals)


def image(number: int, box: np.ndarray | None = None) -> np.ndarray:
    picture = np.full((H, W, 3), shade_of(number), np.uint8)
    if box is not None and np.isfinite(box).all():
        x, y, w, h = (int(value) for value in box)
        picture[max(y, 4) : max(y + h, 0), max(x, 4) : max(x + w, 0)] = (200, 40, 90)
    return picture


def write_image(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, 98] if path.suffix == ".jpg" else []
    done, data = cv2.imencode(path.suffix, picture[..., ::-1], options)
    assert done
    path.write_bytes(data.tobytes())


def write_frames(
    folder: Path, names: Sequence[str], numbers: Iterable[int], boxes: np.ndarray | None = None
) -> list[int]:
    first: dict[int, Path] = {}
    shades = []
    for row, (name, number) in enumerate(zip(names, numbers, strict=True)):
        key = number % CYCLE
        path = folder / name
        if key in first and first[key].suffix == path.suffix:
            os.link(first[key], path)
        else:
            write_image(path, image(number, None if boxes is None else boxes[min(row, len(boxes) - 1)]))
            first[key] = path
        shades.append(shade_of(number))
    return shades


def numbered(
    folder: Path, first: int, count: int, digits: int, suffix: str = ".jpg", boxes: np.ndarray | None = None
) -> list[int]:
    numbers = range(first, first + count)
    return write_frames(folder, [f"{number:0{digits}d}{suffix}" for number in numbers], numbers, boxes)


def rows(boxes: np.ndarray, separator: str = ",", form: str = "g") -> str:
    return "".join(separator.join(format(value, form) for value in box) + "\n" for box in boxes)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def make_lasot(
    root: Path, names: Sequence[str] = ("airplane-1", "airplane-2", "bicycle-1", "monkey-17"), count: int = 24
) -> dict[str, GroundTruth]:
    """Flags on one line with commas; an absent frame with zeros, one with a stale box; monkey-17 has spare images."""
    truth = {}
    for seed, name in enumerate(names):
        place = root / name.rpartition("-")[0] / name
        boxes = boxes_for(count, seed)
        occluded, outside = np.zeros(count, int), np.zeros(count, int)
        occluded[5], outside[6] = 1, 1
        boxes[6] = 0
        shades = numbered(place / "img", 1, count + (3 if name == "monkey-17" else 0), 8, boxes=boxes)
        write(place / "groundtruth.txt", rows(boxes))
        write(place / "full_occlusion.txt", ",".join(map(str, occluded)))
        write(place / "out_of_view.txt", ",".join(map(str, outside)))
        write(place / "nlp.txt", "a grey thing")
        truth[name] = GroundTruth(boxes, (occluded + outside) == 0, shades[:count])
    return truth


def make_lasot_ext(root: Path) -> dict[str, GroundTruth]:
    return make_lasot(root, ("atv-1", "wingsuit-10"))


META = """[METAINFO]
url: https://youtu.be/x?v={n}
begin: 00:00:37
anno_fps: 10Hz
{swap}
object_class: sea_snake
motion_class: swimming
major_class: animal
root_class: animal
motion_adverb: slowly
"""


def make_got10k(root: Path, numbers: Sequence[int] = (1, 2, 4, 9335), count: int = 24) -> dict[str, GroundTruth]:
    """train (000004 is forbidden by VOT), val and test; meta_info.ini with its lines in two orders."""
    truth = {}
    for split, chosen in (("Train", numbers), ("Val", (1, 2)), ("Test", (1, 2))):
        names = [f"GOT-10k_{split}_{number:06d}" for number in chosen]
        write(root / split.lower() / "list.txt", "\n".join(names) + "\n")
        for seed, name in enumerate(names):
            place = root / split.lower() / name
            boxes = boxes_for(count, seed, decimals=4)
            shades = numbered(place, 1, count, 8, boxes=boxes)
            if split == "Test":
                write(place / "groundtruth.txt", rows(boxes[:1], form=".4f"))
                truth[name] = GroundTruth(boxes[:1], np.ones(1, bool), shades)
                continue
            absence, cover = np.zeros(count, int), np.full(count, 8)
            absence[3], cover[3], cover[4] = 1, 0, 0
            write(place / "groundtruth.txt", rows(boxes, form=".4f"))
            for label, values in (("absence", absence), ("cover", cover), ("cut_by_image", np.zeros(count, int))):
                write(place / f"{label}.label", "".join(f"{value}\n" for value in values))
            meta = META.format(n=seed, swap=f"resolution: ({W}, {H})")
            write(
                place / "meta_info.ini",
                meta if seed % 2 else "\n".join(["[METAINFO]", *reversed(meta.splitlines()[1:])]),
            )
            truth[name] = GroundTruth(boxes, (absence == 0) & (cover > 0), shades)
    return truth


def make_trackingnet(root: Path, parts: Sequence[int] = (0, 3), count: int = 24) -> dict[str, GroundTruth]:
    """Frames from 0 without padding (10.jpg after 9.jpg); the test set with the first box alone."""
    truth = {}
    videos = [(f"TRAIN_{part}", f"vid{part}-{k}_0") for part in parts for k in range(2)]
    videos += [("TEST", "-Dz7OIf54b0_0"), ("TEST", "YaXKZdSEwt4_0")]
    for seed, (part, name) in enumerate(videos):
        boxes = boxes_for(count, seed, decimals=2)
        shades = numbered(root / part / "frames" / name, 0, count, 1, boxes=boxes)
        known = boxes[:1] if part == "TEST" else boxes
        if part != "TEST":
            known[7] = 0
        write(root / part / "anno" / f"{name}.txt", rows(known))
        truth[name] = GroundTruth(known, np.ones(len(known), bool), shades)
    return truth


def make_coco(root: Path, images: int = 6, split: str = "train2017") -> dict[str, GroundTruth]:
    """Polygons, a crowd with run lengths, an id gap, an image without annotation, a box of zero width."""
    truth, content = {}, {"images": [], "annotations": [], "categories": []}
    content["categories"] = [
        {"id": 1, "name": "person", "supercategory": "person"},
        {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
    ]
    for k in range(images):
        key = 9 + 131 * k
        boxes = boxes_for(2, k, decimals=2)
        name = f"{key:012d}.jpg"
        write_image(root / "images" / split / name, image(k, boxes[0]))
        content["images"].append({"id": key, "file_name": name, "width": W, "height": H, "license": 1})
        if k == images - 1:
            continue
        for n, box in enumerate(boxes):
            item = {"id": 10 * k + n, "image_id": key, "category_id": (1, 90)[n], "bbox": box.tolist(), "area": 4.0}
            crowd = k == 1 and n == 1
            if k == 2 and n == 1:
                item["bbox"][2] = 0.0
            outline = {"counts": [3, 2], "size": [H, W]} if crowd else [[1.0, 2, 3, 4, 5, 6]]
            content["annotations"].append({**item, "iscrowd": int(crowd), "segmentation": outline})
            if not crowd:
                truth[f"{key}-{item['id']}"] = GroundTruth(
                    np.array([item["bbox"]]), np.array([item["bbox"][2] > 0]), [shade_of(k)]
                )
    write(root / "annotations" / f"instances_{split}.json", json.dumps(content))
    return truth


def make_tnl2k(root: Path, count: int = 24) -> dict[str, GroundTruth]:
    """Irregular image names, .jpg and .png in one folder, Thumbs.db beside them; zeros where absent; negative x."""
    truth = {}
    for seed, name in enumerate(("Assian_video_Z03_done", "BF5_Blade_video_01-Done", "INF_bike")):
        boxes = boxes_for(count, seed)
        boxes[0, 0], boxes[3] = -2, 0
        names = sorted([f"{k:05d}.png" if k % 3 else f"{k:05d}.jpg" for k in range(count)])
        if seed == 1:
            names = sorted(f"frame {k}_X.jpg" for k in range(count))  # frame 10 before frame 2
        shades = write_frames(root / name / "imgs", names, range(count), boxes)
        (root / name / "imgs" / "Thumbs.db").write_bytes(b"\0")
        write(root / name / "groundtruth.txt", rows(boxes))
        write(root / name / "language.txt", "the grey thing")
        truth[name] = GroundTruth(boxes, np.ones(count, bool), shades)
    return truth


def make_nfs(root: Path, count: int = 8, names: Sequence[str] = ("Gymnastics", "airboard_1")) -> dict[str, GroundTruth]:
    """Both layouts in one root: VATIC corners (240 rows in the folder of 30, too), and the repacked tab-separated xywh.

    The truth has three entries a sequence: <name>@30, <name>@240, <name>@pytracking. The first video has one row less
    than frames at 30 fps.
    """
    truth = {}
    for seed, name in enumerate(names):
        many = 8 * count - 7 - (8 if seed == 0 else 0)
        boxes = boxes_for(many, seed)
        lines = [
            f'0 {x:g} {y:g} {x + w:g} {y + h:g} {k + 1} {int(k == 16)} {int(k == 24)} {int(k % 2)} "{name}"\n'
            for k, (x, y, w, h) in enumerate(boxes)
        ]
        for fps in (30, 240):
            write(root / name / str(fps) / f"{name}.txt", "".join(lines))
        slow = numbered(root / name / "30" / name, 1, count, 5, boxes=boxes[::8])
        fast = numbered(root / name / "240" / name, 1, many, 5, boxes=boxes)
        truth[f"{name}@30"] = GroundTruth(boxes[::8], np.ones(len(boxes[::8]), bool), slow[: len(boxes[::8])])
        truth[f"{name}@240"] = GroundTruth(boxes, np.ones(many, bool), fast)
        packed = boxes_for(count, seed + 5, decimals=2)
        write(root / "anno" / f"nfs_{name}.txt", rows(packed, "\t"))
        shades = numbered(root / "sequences" / name, 1, count, 5, boxes=packed)
        truth[f"{name}@pytracking"] = GroundTruth(packed, np.ones(count, bool), shades)
    return truth


def make_uav123(root: Path) -> dict[str, GroundTruth]:
    """Two sequences cut out of one folder (frames 1-253 and 775-1477 of bird1), NaN where out of view."""
    truth = {}
    numbered(root / "data_seq/UAV123/bird1", 1, 1500, 6)
    for seed, (name, first, last) in enumerate((("bird1_1", 1, 253), ("bird1_2", 775, 1477))):
        boxes = boxes_for(last - first + 1, seed)
        boxes[9:12] = np.nan
        write(root / "anno/UAV123" / f"{name}.txt", rows(boxes).replace("nan", "NaN"))
        truth[name] = GroundTruth(
            boxes, np.ones(len(boxes), bool), [shade_of(number) for number in range(first, last + 1)]
        )
    return truth


def make_otb100(root: Path) -> dict[str, GroundTruth]:
    """Commas, tabs, blanks; Jogging_1/_2 in one folder; David from frame 300; Board with 5 digits; Tiger1 skips 5."""
    truth = {}
    cases = [
        ("Deer", "Deer", 1, 71, 4, "groundtruth_rect.txt", ",", 0),
        ("David", "David", 300, 770, 4, "groundtruth_rect.txt", "\t", 0),
        ("Jogging_1", "Jogging", 1, 307, 4, "groundtruth_rect.1.txt", "  ", 0),
        ("Jogging_2", "Jogging", 1, 307, 4, "groundtruth_rect.2.txt", ",\t", 0),
        ("Board", "Board", 1, 698, 5, "groundtruth_rect.txt", ",", 0),
        ("Tiger1", "Tiger1", 1, 354, 4, "groundtruth_rect.txt", " ", 5),
        ("KiteSurf", "KiteSurf", 1, 84, 4, "groundtruth_rect.txt", ",", 0),
    ]
    for seed, (name, folder, first, last, digits, file, separator, skip) in enumerate(cases):
        boxes = boxes_for(last - first + 1, seed)
        images = root / folder / ("jpg" if name == "KiteSurf" else "img")
        if not images.exists():
            numbered(images, 1, last, digits, ".png" if name == "KiteSurf" else ".jpg")
        write(root / folder / file, rows(boxes, separator))
        shades = [shade_of(number) for number in range(first + skip, last + 1)]
        truth[name] = GroundTruth(boxes[skip:], np.ones(len(boxes) - skip, bool), shades)
    return truth


def make_folder(
    root: Path, names: Sequence[str] = ("cat", "größer hund", "images below", "clip"), count: int = 24
) -> dict[str, GroundTruth]:
    """Own videos: numbered images; other names and a blank in the path; images in img/ with flags; a video file."""
    truth = {}
    for seed, name in enumerate(names):
        place, boxes, absent = root / name, boxes_for(count, seed, decimals=1), np.zeros(count, bool)
        if seed % 4 == 0:
            shades = numbered(place, 1, count, 4, boxes=boxes)
        elif seed % 4 == 1:
            shades = write_frames(place, [f"bild {k}.png" for k in range(count)], range(count), boxes)
            boxes[4], boxes[5] = 0, np.nan
            absent[4:6] = True
        elif seed % 4 == 2:
            shades = numbered(place / "img", 0, count, 5, ".png", boxes)
            absent[2] = True
            write(place / "absence.label", "".join(f"{int(value)}\n" for value in absent))
        else:
            shades = write_video(place / "clip.mp4", [image(k, boxes[k]) for k in range(count)])
        write(place / "groundtruth.txt", rows(boxes).replace("nan", "NaN"))
        truth[name] = GroundTruth(np.where(np.isnan(boxes), 0, boxes), ~absent, shades)
    return truth


def write_video(
    path: Path, pictures: Sequence[np.ndarray], *, codec: str = "libx264", pix_fmt: str = "yuv420p"
) -> list[int]:
    """H.264 with B-frames and a key frame every 7 pictures, so that seeking is put to the test."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if codec == "libx264":
            stream.options = {"g": "7", "bf": "2", "crf": "10", "threads": "1"}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")))
        container.mux(stream.encode())
    return [int(picture[0, 0, 0]) for picture in pictures]


MAKERS: dict[str, Callable[..., dict[str, GroundTruth]]] = {
    "coco": make_coco,
    "folder": make_folder,
    "got10k": make_got10k,
    "lasot": make_lasot,
    "lasot_ext": make_lasot_ext,
    "nfs": make_nfs,
    "otb100": make_otb100,
    "tnl2k": make_tnl2k,
    "trackingnet": make_trackingnet,
    "uav123": make_uav123,
}


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Made]:
    """`make_dataset(name, **options)` makes it in tmp_path/data/<name>, as `paths.data=tmp_path/data` expects."""

    def make(name: str, **options: object) -> Made:
        root = tmp_path / "data" / name
        return Made(root, MAKERS[name](root, **options))

    return make
