"""Training sets: plain functions from a folder to a `SequenceIndex`. No image is opened.

A frame is visible where no flag marks it absent and its box has an area (official: lib/train/dataset/*.py). Boxes stay
as published; absent targets keep what was written. docs/datasets.md shows each layout.

All raise FileNotFoundError where a file or a video is missing, and ValueError where a file cannot be understood, with
file and line.
"""

import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64

from seqtrack_lit.checks import path_part, shown
from seqtrack_lit.data.sets.annotations import has_area, read_boxes, read_flags, read_meta, read_text
from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.data.sets.index_builder import IndexBuilder, cached, read_set
from seqtrack_lit.data.sets.layout import HELP, Problems, existing_root, table
from seqtrack_lit.data.video.index import SequenceIndex

__all__ = ["coco", "folder", "got10k", "lasot", "trackingnet"]
_LASOT_FLAGS = ("full_occlusion.txt", "out_of_view.txt")
GOT10K_FILES = ("groundtruth.txt", "meta_info.ini", "absence.label", "cover.label")

_LARGEST_COCO = 2_000_000_000  # bytes of its JSON


def coco(
    root: str | Path, *, split: str = "train2017", cache: str | Path | None = None, problems: Problems | None = None
) -> SequenceIndex:
    """COCO: every annotation that is no crowd is a "video" of one image.

    Official code also tests width and height > 50 for visibility, but never uses the result for images.

    Args:
        root: holds annotations/instances_<split>.json and images/<split>/ (or <split>/, as the zip unpacks).
        split: of the images.
        cache: folder for the index; None reads the annotations at every call.
        problems: where to note what is wrong instead of raising.
    """
    base = existing_root("coco", root, f"annotations/instances_{split}.json and images/{split}/")
    file = base / "annotations" / f"instances_{split}.json"
    images = next((path for path in (base / "images" / split, base / split) if path.is_dir()), None)
    if not file.is_file() or images is None:
        missing = file if not file.is_file() else base / "images" / split
        raise FileNotFoundError(f"coco: no {missing}; {HELP}")
    place = images.relative_to(base).as_posix()
    return cached(
        f"coco-{split}-{place.replace('/', '_')}", base, [file], lambda: _coco(base, file, place), cache, problems
    )


def _coco(root: Path, file: Path, folder: str) -> IndexBuilder:
    try:
        if file.stat().st_size > _LARGEST_COCO:
            raise ValueError(f"larger than {_LARGEST_COCO / 1e9:g} GB, four times the instances of train2017")
        with file.open(encoding="utf-8-sig") as stream:
            # Polygons are nine tenths of the file and never needed: dropped while parsing.
            content = json.load(stream, object_hook=_without_polygons)
        images = {item["id"]: item for item in content["images"]}
        if len(images) < len(content["images"]):
            raise ValueError("two images have the same id")
        for item in content["images"]:
            path_part("file_name", item["file_name"])
        classes = {item["id"]: item["name"] for item in content["categories"]}
        targets = [item for item in content["annotations"] if not item.get("iscrowd", 0)]
        for item in targets:
            if len(item["bbox"]) != 4 or not all(map(math.isfinite, item["bbox"])):
                raise ValueError(f"annotation {item['id']}: bbox {item['bbox']}, expected [x,y,w,h]")
        shown = [images[item["image_id"]] for item in targets]
        boxes = np.array([item["bbox"] for item in targets], np.float64).reshape(-1, 4)
        builder = IndexBuilder("coco", root, repeats_image=True)
        builder.add_images(
            [f"{item['image_id']}-{item['id']}" for item in targets],
            boxes,
            has_area(boxes),
            folder=folder,
            files=[image["file_name"] for image in shown],
            object_classes=[classes[item["category_id"]] for item in targets],
            resolutions=np.array([(image["width"], image["height"]) for image in shown]).reshape(-1, 2),
        )
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is no COCO annotation file ({type(error).__name__}: {error}); download it again"
        ) from error
    return builder


def _without_polygons(item: dict[str, Any]) -> dict[str, Any]:
    item.pop("segmentation", None)
    return item


def lasot(
    root: str | Path,
    *,
    split: Literal["train"] = "train",
    complete: bool = True,
    cache: str | Path | None = None,
    problems: Problems | None = None,
) -> SequenceIndex:
    """LaSOT's 1120 training videos (protocol II); the frames are counted by the annotation.

    Args:
        root: holds <class>/<class>-<k>/{img/,groundtruth.txt,full_occlusion.txt,out_of_view.txt}.
        split: "train"; the test videos are `benchmarks.lasot`.
        complete: False takes the videos that are there.
        cache: folder for the index; None reads the annotations at every call.
        problems: where to note what is wrong instead of raising.
    """
    base = existing_root("lasot", root, "folders <class>/<class>-<k>/ with img/, groundtruth.txt")
    if split != "train":
        raise ValueError(f"lasot split={split!r}: the training reader knows 'train'; the test set is a benchmark")
    wanted = {row["name"]: lasot_folder(row["name"]) for row in table("lasot") if row["split"] == split}
    parts = ("groundtruth.txt", *_LASOT_FLAGS)
    files = {name: [base / place / part for part in parts] for name, place in wanted.items()}

    def add_one(builder: IndexBuilder, name: str) -> None:
        boxes, shown = lasot_annotation(base / wanted[name])
        builder.add(
            name,
            boxes,
            shown & has_area(boxes),
            folder=f"{wanted[name]}/img",
            numbered=(1, 8, ".jpg"),
            object_class=name.rpartition("-")[0],
        )

    return read_set("lasot", base, files, add_one, (complete, cache, problems), key=f"lasot-{split}")


def lasot_folder(name: str) -> str:
    """Where a LaSOT video lies under the root: <class>/<class>-<k>."""
    return f"{name.rpartition('-')[0]}/{name}"


def lasot_annotation(place: Path) -> tuple[Float64[np.ndarray, "rows 4"], Bool[np.ndarray, "rows"]]:
    """Boxes of a LaSOT video and where neither flag file marks it absent.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file cannot be understood, or the flags do not fit the boxes.
    """
    boxes = read_boxes(place / "groundtruth.txt")
    absent = [read_flags(place / name, len(boxes)) == 1 for name in _LASOT_FLAGS]
    return boxes, ~(absent[0] | absent[1])


def got10k(
    root: str | Path,
    *,
    split: Literal["train", "val"] = "train",
    exclude_vot: bool = True,
    complete: bool = True,
    cache: str | Path | None = None,
    problems: Problems | None = None,
) -> SequenceIndex:
    """GOT-10k: 9335 training videos, or 8335 without those VOT forbids; or the 180 of validation.

    The forbidden videos are removed by name. The list files that pytracking and SeqTrack ship
    (got10k_vot_train_split.txt) are shifted by one and keep 765 of them, so they are not used.

    Args:
        root: holds train/, val/ with list.txt and GOT-10k_Train_000001/...
        split: "train" or "val".
        exclude_vot: leave out the 1000 training videos that VOT forbids; no effect on "val".
        complete: False takes the videos that are there.
        cache: folder for the index; None reads the annotations at every call.
        problems: where to note what is wrong instead of raising.
    """
    if split not in ("train", "val"):
        raise ValueError(f"got10k split={split!r}: expected 'train' or 'val' (the test set is a benchmark)")
    base = existing_root("got10k", Path(root) / split, "list.txt and a folder for each of its lines")
    names = got10k_names(base)
    if split == "train" and exclude_vot:
        forbidden = {row["name"] for row in table("got10k_vot_forbidden")}
        names = [name for name in names if name not in forbidden]
    files = {name: [base / name / part for part in GOT10K_FILES] for name in names}

    def add_one(builder: IndexBuilder, name: str) -> None:
        add_got10k(builder, name, training=True)

    key = f"got10k-{split}" + ("-novot" if split == "train" and exclude_vot else "")
    return read_set("got10k", base, files, add_one, (complete, cache, problems), key=key, inputs=[base / "list.txt"])


def got10k_names(base: Path) -> list[str]:
    """The sequences of a split, from its list.txt.

    Raises:
        FileNotFoundError: no list.txt.
        ValueError: it is empty, or names a sequence twice.
    """
    file = base / "list.txt"
    if not file.is_file():
        raise FileNotFoundError(f"got10k: no {file}; {HELP}")
    names = read_text(file).split()
    if not names:
        raise ValueError(f"{file} is empty; expected one sequence name a line; unpack it again")
    if len(names) > 100_000:
        raise ValueError(f"{file} names {len(names):,} sequences, GOT-10k has 10,000; it is another file")
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise ValueError(f"{file} names {shown(twice)} twice; remove one of the lines")
    return [path_part(f"{file}: a name", name) for name in names]


def add_got10k(builder: IndexBuilder, name: str, *, training: bool) -> Float64[np.ndarray, "rows 4"]:
    """Add a GOT-10k video with labels to an index, and return its boxes.

    In training, frames without a good box are not visible.
    """
    place = builder.root / name
    boxes = read_boxes(place / "groundtruth.txt")
    absent = read_flags(place / "absence.label", len(boxes))
    cover = read_flags(place / "cover.label", len(boxes), largest=8)
    meta = read_meta(place / "meta_info.ini")
    shown = (absent == 0) & (cover > 0)
    size = re.fullmatch(r"\(?\s*([1-9][0-9]{0,5})\s*,\s*([1-9][0-9]{0,5})\s*\)?", meta.get("resolution", ""))
    if not size:
        text = meta.get("resolution")
        raise ValueError(f"{place / 'meta_info.ini'}: resolution: {text!r}, expected (width, height)")
    rate = re.match(r"[0-9]+(\.[0-9]+)?", meta.get("anno_fps", ""))
    builder.add(
        name,
        boxes,
        shown & has_area(boxes) if training else shown,
        folder=name,
        numbered=(1, 8, ".jpg"),
        cover=cover,
        object_class=meta.get("object_class"),
        resolution=(int(size[1]), int(size[2])),
        frame_rate=float(rate[0]) if rate else None,
    )
    return boxes


def trackingnet(
    root: str | Path,
    *,
    parts: Sequence[int] | None = None,
    cache: str | Path | None = None,
    problems: Problems | None = None,
) -> SequenceIndex:
    """TrackingNet's training videos: those with an annotation in TRAIN_<part>/anno/, 30,132 in all.

    Args:
        root: holds TRAIN_0 ... TRAIN_11, each with anno/<video>.txt and frames/<video>/0.jpg ...
        parts: which of 0..11; None for all twelve.
        cache: folder for the index; None reads the annotations at every call.
        problems: where to note what is wrong instead of raising.
    """
    chosen = range(12) if parts is None else parts
    if isinstance(chosen, int) or not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(12)):
        raise ValueError(f"trackingnet parts={parts!r}: expected a list out of 0 to 11, each once, as in [0,1]")
    base = existing_root("trackingnet", root, "TRAIN_0 ... TRAIN_11 with anno/ and frames/")
    files: dict[str, list[Path]] = {}
    for part in chosen:
        place = base / f"TRAIN_{part}" / "anno"
        if not place.is_dir():
            raise FileNotFoundError(f"trackingnet: no {place}; with fewer parts say which: parts=[0,1]; {HELP}")
        files |= {f"TRAIN_{part}/{file.stem}": [file] for file in sorted(place.glob("[!.]*.txt"))}
    lacking: list[str] = []

    def add_one(builder: IndexBuilder, name: str) -> None:
        boxes = read_boxes(files[name][0])
        part, _, video = name.partition("/")
        frames = f"{part}/frames/{video}"
        # No flag file shows a lost row, after which all boxes stand beside wrong frames.
        if (base / frames / f"{len(boxes)}.jpg").exists():
            more = f"{base / frames} with more images than its {len(boxes)} boxes"
            if problems is not None:
                raise ValueError(more)
            lacking.append(more)
            return
        builder.add(video, boxes, has_area(boxes), folder=frames, numbered=(0, 1, ".jpg"))

    key = f"trackingnet-{'all' if parts is None else '_'.join(map(str, chosen))}"
    index = read_set("trackingnet", base, files, add_one, (False, cache, problems), key=key)
    if lacking:
        warnings.warn(
            f"trackingnet: {len(lacking)} of {len(files)} videos have fewer boxes than images and are left out, the "
            f"first is {lacking[0]}; unpack the annotation again",
            stacklevel=2,
        )
    return index
