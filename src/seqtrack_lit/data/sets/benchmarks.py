"""Test sets: plain functions from a folder to videos with ground truth, in the publishers' order. No image is opened.

`visible` holds the flags only (LaSOT and LaSOText: not fully occluded and not out of view; GOT-10k: cover > 0); all
true elsewhere. What a frame without a good box counts is the scoring convention's matter, so boxes stay as published.
Every frame is checked to exist, and every first box to have an area. `complete=False` takes the sequences that are
there, for a look at a part; its scores are not the benchmark's. docs/datasets.md shows each layout.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64

from seqtrack_lit.data.sets.annotations import read_boxes, read_vatic
from seqtrack_lit.data.sets.folder import folder as _folder
from seqtrack_lit.data.sets.index_builder import IndexBuilder, Options, read_set
from seqtrack_lit.data.sets.layout import (
    HELP,
    LASOT_ATTRIBUTES,
    OTB_ATTRIBUTES,
    TNL2K_ATTRIBUTES,
    UAV123_ATTRIBUTES,
    Problems,
    existing_root,
    images_in,
    numbering,
    require_first_box,
    require_numbered,
    require_rows,
    table,
)
from seqtrack_lit.data.sets.training import GOT10K_FILES, add_got10k, got10k_names, lasot_annotation, lasot_folder
from seqtrack_lit.data.video.index import SequenceIndex

Cache = str | Path | None


def lasot(
    root: str | Path, *, complete: bool = True, cache: Cache = None, problems: Problems | None = None
) -> SequenceIndex:
    """LaSOT, the 280 test videos; frames counted by the annotation (monkey-17 has more images than rows)."""
    rows = [row for row in table("lasot") if row["split"] == "test"]
    return _lasot("lasot", root, rows, complete, cache, problems)


def lasot_ext(
    root: str | Path, *, complete: bool = True, cache: Cache = None, problems: Problems | None = None
) -> SequenceIndex:
    """LaSOT's extension, 150 videos of 15 more classes."""
    return _lasot("lasot_ext", root, list(table("lasot_ext")), complete, cache, problems)


def _lasot(
    dataset: str, root: str | Path, rows: list[dict[str, str]], complete: bool, cache: Cache, problems: Problems | None
) -> SequenceIndex:
    base = existing_root(dataset, root, "folders <class>/<class>-<k>/ with img/, groundtruth.txt")
    attributes = {row["name"]: row["attributes"].split() for row in rows}
    parts = ("groundtruth.txt", "full_occlusion.txt", "out_of_view.txt", "img")
    files = {name: [base / lasot_folder(name) / part for part in parts] for name in attributes}

    def add_one(builder: IndexBuilder, name: str) -> None:
        file, *_, images = files[name]
        boxes, shown = lasot_annotation(file.parent)
        require_first_box(file, boxes)
        require_numbered(images, 1, 8, ".jpg", len(boxes), extra="ignore" if name == "monkey-17" else "warn")
        builder.add(
            name,
            boxes,
            shown,
            folder=f"{lasot_folder(name)}/img",
            numbered=(1, 8, ".jpg"),
            object_class=name.rpartition("-")[0],
            attributes=attributes[name],
        )

    key, options = f"{dataset}-test", (complete, cache, problems)
    return read_set(dataset, base, files, add_one, options, key=key, attribute_names=LASOT_ATTRIBUTES)


def trackingnet(
    root: str | Path, *, complete: bool = True, cache: Cache = None, problems: Problems | None = None
) -> SequenceIndex:
    """TrackingNet, the 511 test videos; only the first box is public, the server scores."""
    base = existing_root("trackingnet", Path(root) / "TEST", "anno/<video>.txt and frames/<video>/0.jpg ...")
    names = [row["name"] for row in table("trackingnet")]
    files = {name: (base / "anno" / f"{name}.txt", base / "frames" / name) for name in names}
    return _first_box_only("trackingnet", base, files, (complete, cache, problems))


def got10k_test(
    root: str | Path, *, complete: bool = True, cache: Cache = None, problems: Problems | None = None
) -> SequenceIndex:
    """GOT-10k, the 180 test videos; only the first box is public, the server scores."""
    base = existing_root("got10k_test", Path(root) / "test", "list.txt and a folder for each of its lines")
    files = {name: (base / name / "groundtruth.txt", base / name) for name in got10k_names(base)}
    return _first_box_only("got10k_test", base, files, (complete, cache, problems))


def _first_box_only(dataset: str, base: Path, files: dict[str, tuple[Path, Path]], options: Options) -> SequenceIndex:
    def add_one(builder: IndexBuilder, name: str) -> None:
        file, frames = files[name]
        boxes = read_boxes(file)
        if len(boxes) != 1:
            raise ValueError(f"{file} has {len(boxes)} rows; expected the first box alone; unpack it again")
        require_first_box(file, boxes)
        images = images_in(frames)
        rule = numbering(images)
        if rule is None or rule[0] > 1:
            raise ValueError(
                f"{frames} holds {len(images)} images from {images[0]} to {images[-1]}; expected consecutive "
                "numbers from 0 or 1: a frame is missing, unpack it again"
            )
        folder = frames.relative_to(base).as_posix()
        builder.add(name, boxes, folder=folder, numbered=rule, frames=len(images))

    return read_set(dataset, base, files, add_one, options, key=f"{dataset}-test")


def got10k_val(
    root: str | Path, *, complete: bool = True, cache: Cache = None, problems: Problems | None = None
) -> SequenceIndex:
    """GOT-10k, the 180 validation videos, with cover and resolution for AO and SR."""
    base = existing_root("got10k_val", Path(root) / "val", "list.txt and a folder for each of its lines")
    files = {name: [base / name / part for part in (*GOT10K_FILES, "")] for name in got10k_names(base)}

    def add_one(builder: IndexBuilder, name: str) -> None:
        boxes = add_got10k(builder, name, training=False)
        require_first_box(files[name][0], boxes)
        require_numbered(base / name, 1, 8, ".jpg", len(boxes))

    return read_set("got10k_val", base, files, add_one, (complete, cache, problems), key="got10k-val-benchmark")


def tnl2k(
    root: str | Path, *, complete: bool = True, cache: Cache = None, problems: Problems | None = None
) -> SequenceIndex:
    """TNL2K, the 700 test videos; image names follow no rule and are sorted as text."""
    base = existing_root("tnl2k", root, "a folder for each sequence with imgs/ and groundtruth.txt")
    attributes = {row["name"]: row["attributes"].split() for row in table("tnl2k")}
    files = {name: (base / name / "groundtruth.txt", base / name / "imgs") for name in attributes}

    def add_one(builder: IndexBuilder, name: str) -> None:
        file, frames = files[name]
        boxes, images = read_boxes(file), sorted(images_in(frames))
        require_first_box(file, boxes)
        # Rows and images belong together by position alone, so one stray image would shift all boxes.
        require_rows(file, len(boxes), len(images), frames)
        builder.add(name, boxes, folder=f"{name}/imgs", files=images, attributes=attributes[name])

    return read_set("tnl2k", base, files, add_one, (complete, cache, problems), attribute_names=TNL2K_ATTRIBUTES)


def nfs(
    root: str | Path,
    *,
    fps: Literal[30, 240] = 30,
    annotation: Literal["official", "pytracking"] = "pytracking",
    complete: bool = True,
    cache: Cache = None,
    problems: Problems | None = None,
) -> SequenceIndex:
    """Need for Speed, 100 videos.

    Args:
        root: annotation="official": <seq>/{30,240}/<seq>/00001.jpg ... and <seq>/{30,240}/<seq>.txt (VATIC);
            "pytracking": sequences/<seq>/00001.jpg ... and anno/nfs_<seq>.txt, the repacked set of the paper's tables.
        fps: 30 or 240; the repacked set has 30 only.
        annotation: whose boxes.
        complete: False takes the sequences that are there.
        cache: folder for the index; None reads the annotations at every call.
        problems: where to note what is wrong instead of raising.
    """
    if (fps, annotation) not in ((30, "official"), (240, "official"), (30, "pytracking")):
        raise ValueError(f"nfs fps={fps}, annotation={annotation!r}: expected 30 or 240 official, or 30 pytracking")
    official = annotation == "official"
    layout = f"<seq>/{fps}/<seq>.txt and <seq>/{fps}/<seq>/" if official else "anno/nfs_<seq>.txt and sequences/<seq>/"
    base = existing_root("nfs", root, layout)
    files = {
        name: (base / name / str(fps) / f"{name}.txt", base / name / str(fps) / name)
        if official
        else (base / "anno" / f"nfs_{name}.txt", base / "sequences" / name)
        for name in (row["name"] for row in table("nfs"))
    }

    def add_one(builder: IndexBuilder, name: str) -> None:
        file, frames = files[name]
        count = len(images_in(frames))
        boxes = read_vatic(file) if official else read_boxes(file)
        if official:
            # The folder of 30 fps holds the annotation of 240 fps, of which every eighth row counts. The columns lost
            # and occluded are not used, and the last frame or row may be missing, all as in got10k/datasets/nfs.py.
            boxes = boxes[::8] if fps == 30 and len(boxes) > 4 * count else boxes
            if abs(len(boxes) - count) > 1:
                raise ValueError(
                    f"{file} has boxes for {len(boxes)} frames, but there are {count} images; unpack it again"
                )
            boxes = boxes[:count]
        require_first_box(file, boxes)
        require_numbered(frames, 1, 5, ".jpg", len(boxes), extra="ignore" if official else "warn")
        folder = frames.relative_to(base).as_posix()
        builder.add(name, boxes, folder=folder, numbered=(1, 5, ".jpg"), frame_rate=float(fps))

    dataset = f"nfs{fps}_official" if official else "nfs"
    return read_set(dataset, base, files, add_one, (complete, cache, problems))


def uav123(
    root: str | Path, *, complete: bool = True, cache: Cache = None, problems: Problems | None = None
) -> SequenceIndex:
    """UAV123, 123 sequences cut out of 91 folders; NaN boxes where the target is out of view."""
    base = existing_root("uav123", root, "data_seq/UAV123/<folder>/000001.jpg ... and anno/UAV123/<seq>.txt")
    rows, folder = {row["name"]: row for row in table("uav123")}, base / "data_seq" / "UAV123"
    files = {name: (base / "anno" / "UAV123" / f"{name}.txt", folder / row["folder"]) for name, row in rows.items()}

    def add_one(builder: IndexBuilder, name: str) -> None:
        (file, frames), row = files[name], rows[name]
        first, last = int(row["first"]), int(row["last"])
        boxes = _exact_rows(file, read_boxes(file), last - first + 1)
        require_first_box(file, boxes)
        require_numbered(frames, first, 6, ".jpg", len(boxes), extra="ignore")
        place, attributes = frames.relative_to(base).as_posix(), row["attributes"].split()
        builder.add(name, boxes, folder=place, numbered=(first, 6, ".jpg"), attributes=attributes)

    return read_set("uav123", base, files, add_one, (complete, cache, problems), attribute_names=UAV123_ATTRIBUTES)


def otb100(
    root: str | Path, *, complete: bool = True, cache: Cache = None, problems: Problems | None = None
) -> SequenceIndex:
    """OTB100, 100 sequences in 98 folders; rows separated by commas, tabs or blanks."""
    base = existing_root("otb100", root, "<Seq>/img/0001.jpg ... and <Seq>/groundtruth_rect.txt")
    rows = {row["name"]: row for row in table("otb100")}
    folders = {name: row["folder"] for name, row in rows.items()}
    for name, place in folders.items():  # KiteSurf comes as img/*.jpg or as jpg/*.png
        if not (base / place).is_dir():
            folders[name] = place.replace("/img", "/jpg")
    files = {name: (base / row["annotation"], base / folders[name]) for name, row in rows.items()}

    def add_one(builder: IndexBuilder, name: str) -> None:
        (file, frames), row = files[name], rows[name]
        first, last, skip = int(row["first"]), int(row["last"]), int(row["skip"])
        boxes = _exact_rows(file, read_boxes(file), last - first + 1)[skip:]
        require_first_box(file, boxes, line=skip + 1)
        numbered = (first + skip, int(row["digits"]), Path(images_in(frames)[0]).suffix)
        require_numbered(frames, *numbered, len(boxes), extra="ignore")
        builder.add(name, boxes, folder=folders[name], numbered=numbered, attributes=row["attributes"].split())

    return read_set("otb100", base, files, add_one, (complete, cache, problems), attribute_names=OTB_ATTRIBUTES)


def _exact_rows(file: Path, boxes: Float64[np.ndarray, "rows 4"], rows: int) -> Float64[np.ndarray, "same 4"]:
    if len(boxes) != rows:
        raise ValueError(f"{file} has {len(boxes)} rows; this sequence has {rows}; {HELP}")
    return boxes


def folder(
    root: str | Path,
    *,
    annotations: str | None = None,
    name: str = "folder",
    cache: Cache = None,
    problems: Problems | None = None,
) -> SequenceIndex:
    """Your own videos; see `seqtrack_lit.data.sets.folder`."""
    return _folder(root, annotations=annotations, name=name, tracking=True, cache=cache, problems=problems)
