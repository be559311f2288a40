"""Readers of data: annotations, lists, pictures, video files, indices."""

import json
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tests.campaign.harness import Reader
from tests.data import fixtures

from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.data.sets.training import coco, got10k
from seqtrack_lit.data.video.file import VideoFrames
from seqtrack_lit.data.video.frames import read_image
from seqtrack_lit.data.video.index import SequenceIndex, open_index

FRAMES = 6


def described(index: SequenceIndex) -> object:
    """What an index says of its videos; the frames are not opened."""
    videos = [index[i] for i in range(len(index))]
    return [[v.name, len(v), v.boxes, v.visible, sorted(map(str, v.meta))] for v in videos]


def possible(value: object) -> bool:
    """Names that stay in their folder."""
    assert isinstance(value, list)
    return all("/" not in video[0] and video[0] != ".." for video in value)


def own(place: Path) -> None:
    fixtures.make_folder(place, names=("cat",), count=FRAMES)


def own_with(name: str, content: Callable[[np.ndarray], str]) -> Callable[[Path], None]:
    def make(place: Path) -> None:
        truth = fixtures.make_folder(place, names=("cat",), count=FRAMES)["cat"]
        (place / "cat" / "groundtruth.txt").unlink()
        (place / name).write_text(content(truth.boxes))

    return make


def as_csv(boxes: np.ndarray) -> str:
    rows = [f"cat,{i},{','.join(map(str, box))}" for i, box in enumerate(boxes.tolist())]
    return "\n".join(["video,frame,x,y,w,h", *rows, ""])


def as_coco_video(boxes: np.ndarray) -> str:
    sizes = {"width": fixtures.W, "height": fixtures.H}
    images = [
        {"id": i, "video_id": 1, "frame_id": i, "file_name": f"cat/{i + 1:04d}.jpg", **sizes} for i in range(FRAMES)
    ]
    boxed = [
        {"id": i, "image_id": i, "track_id": 1, "video_id": 1, "instance_id": 1, "category_id": 1, "bbox": box}
        for i, box in enumerate(boxes.tolist())
    ]
    return json.dumps(
        {
            "videos": [{"id": 1, "name": "cat", **sizes}],
            "images": images,
            "annotations": boxed,
            "categories": [{"id": 1, "name": "cat"}],
            "tracks": [{"id": 1, "video_id": 1, "category_id": 1}],
        }
    )


def small_got10k(place: Path) -> None:
    fixtures.make_got10k(place, numbers=(1, 2), count=FRAMES)


def small_lasot(place: Path) -> None:
    fixtures.make_lasot(place)


def picture(suffix: str) -> Callable[[Path], None]:
    def make(place: Path) -> None:
        rng = np.random.default_rng(0)
        fixtures.write_image(place / f"0001{suffix}", rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))

    return make


def an_image(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.size < 1e9


def film(place: Path) -> None:
    fixtures.write_video(place / "clip.mp4", [fixtures.image(i) for i in range(20)])


def frames(place: Path) -> object:
    """In order and at random."""
    film = VideoFrames(place / "clip.mp4")
    places = [*range(min(len(film), 100)), len(film) // 2, 0, len(film) - 1]
    return [np.asarray(film[i]) for i in places]


def images(value: object) -> bool:
    return isinstance(value, list) and all(an_image(one) for one in value)


def indexed(place: Path) -> None:
    own(place / "data")
    folder(place / "data", cache=place)
    [path] = place.glob("*.index*")
    path.rename(place / "own.index")


def giant_jpeg(place: Path) -> None:
    """A header of 65,000 x 65,000 pixels before the data of a small picture."""
    path = place / "0001.jpg"
    data = bytearray(path.read_bytes())
    at = data.find(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    path.write_bytes(data)


def giant_png(place: Path) -> None:
    """A few kilobytes that unpack to a picture of 30,000 x 30,000."""
    cv2.imwrite(str(place / "0001.png"), np.zeros((30_000, 30_000), np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1])


def annotated(name: str, kind: str, make: Callable[[Path], None], file: str, **more: object) -> Reader:
    read = partial(_folder, annotations=None if file.startswith("cat") else file)
    return Reader(name, file, make, read, kind, sane=possible, names=("cat", "inside"), **more)  # type: ignore[arg-type]


def _folder(place: Path, annotations: str | None) -> object:
    return described(folder(place, annotations=annotations, tracking=True))


def from_got10k(file: str, kind: str) -> Reader:
    name, names = Path(file).name, ("GOT-10k", "inside", "train")
    return Reader(
        f"GOT-10k's {name}", file, small_got10k, lambda place: described(got10k(place)), kind, possible, names=names
    )


def an_index(file: str, kind: str) -> Reader:
    """Which names its folder in its errors: it is made again as a whole."""

    def read(place: Path) -> object:
        return described(open_index(place / "own.index", place / "data"))

    return Reader(f"index: {file}", f"own.index/{file}", indexed, read, kind, exact=True, names=("own.index",))


READERS = [
    annotated("own groundtruth.txt", "numbers", own, "cat/groundtruth.txt"),
    annotated("own CSV", "numbers", own_with("boxes.csv", as_csv), "boxes.csv"),
    annotated("own COCO-video JSON", "json", own_with("boxes.json", as_coco_video), "boxes.json"),
    from_got10k("train/list.txt", "text"),
    from_got10k("train/GOT-10k_Train_000001/cover.label", "numbers"),
    from_got10k("train/GOT-10k_Train_000001/meta_info.ini", "text"),
    Reader(
        "COCO's JSON",
        "annotations/instances_train2017.json",
        lambda place: fixtures.make_coco(place) and None,
        lambda place: described(coco(place)),
        "json",
        sane=possible,
        names=("inside",),
    ),
    Reader(
        "JPEG",
        "0001.jpg",
        picture(".jpg"),
        lambda place: read_image(place / "0001.jpg"),
        "binary",
        sane=an_image,
        extra={"a header of 65,000 x 65,000": giant_jpeg},
    ),
    Reader(
        "PNG",
        "0001.png",
        picture(".png"),
        lambda place: read_image(place / "0001.png"),
        "binary",
        sane=an_image,
        extra={"a bomb": giant_png},
    ),
    Reader("video file", "clip.mp4", film, frames, "binary", sane=images),
    an_index("facts.json", "json"),
    an_index("boxes.npy", "binary"),
    an_index("rows.npy", "binary"),
    an_index("folders.npy", "binary"),
]
