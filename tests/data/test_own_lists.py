"""Own videos listed in one CSV or COCO-video JSON: read right, or refused with file and line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.fixtures import Made, image, write_video

from seqtrack_lit.data.sets import training as readers

CSV = "video,frame,x,y,w,h\n"


def test_csv(make_dataset: Callable[..., Made]) -> None:
    root, truth = make_dataset("folder", names=("cat", "dog"))
    (root / "dog" / "clip.mp4").unlink(missing_ok=True)
    boxes = truth["cat"].boxes
    rows = [f"cat,{k},{','.join(map(str, boxes[k]))}\n" for k in (7, 3, 4)] + ["dog, 0, 1, 2, 3, 4\n"]
    (root / "all.csv").write_text(CSV + "".join(rows))
    index = readers.folder(root, annotations="all.csv")
    assert index.names == ["cat", "dog"]
    cat = index[0]
    np.testing.assert_array_equal(cat.boxes, np.array([boxes[3], boxes[4], [0] * 4, [0] * 4, boxes[7]]))
    assert cat.visible.tolist() == [True, True, False, False, True]
    for k in range(5):  # the video begins where its boxes begin
        assert abs(int(cat.frames[k][0, 0, 0]) - truth["cat"].shades[3 + k]) <= 4


def test_csv_of_video_files(make_dataset: Callable[..., Made]) -> None:
    root, truth = make_dataset("folder", names=("a", "b", "c", "clip"))
    (root / "all.csv").write_text(CSV + "clip/clip.mp4,5,1,2,3,4\nclip/clip.mp4,9,1,2,3,4\n")
    sequence = readers.folder(root, annotations="all.csv")[0]
    assert sequence.name == "clip_clip"
    assert len(sequence) == 5
    for k in (4, 0, 2):
        assert abs(int(sequence.frames[k][0, 0, 0]) - truth["clip"].shades[5 + k]) <= 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,x,y\n", "line 1: expected the columns video,frame,x,y,w,h"),
        (CSV + "cat,0,1,2,3,4\ncat,0,1,2,3,4\n", "line 3: frame 0 of cat again (first on line 2)"),
        (CSV + "cat,24,1,2,3,4\n", "line 2: frame 24 of cat, which has frames 0 to 23"),
        (CSV + "cat,-1,1,2,3,4\n", "line 2: frame -1 of cat"),
        (CSV + "cat,0,1,2,3\n", "line 2: not numbers"),
        (CSV + "cat,0,1,2,three,4\n", "line 2: not numbers"),
        (CSV + "cat,3,1,2,3,4\ncat,4,1,2,-3,4\n", "line 3: box 1,2,-3,4 has no area"),
        (CSV + "fox,0,1,2,3,4\n", "video 'fox': there is no"),
        (CSV + "cat,0,1,5,2,3,4\n", "line 2: more values than columns; decimals"),
        ("video,frame,x,y,w,h,x\ncat,0,1,2,3,4,9\n", "expected the columns video,frame,x,y,w,h, each once"),
        (CSV + "/cat,0,1,2,3,4\n", "video '/cat', expected a name inside"),
        (CSV + "cat/../../folder/cat,0,1,2,3,4\n", "video 'cat/../../folder/cat', expected a name inside"),
        (CSV + "cat,0,1e9,1e9,3,4\n", "line 2: box 1e+09,1e+09,3,4 lies beyond any picture"),
        (CSV + f"{'d' * 300},0,1,2,3,4\n", "File name too long"),
        (CSV + "c\x1b[31mat,0,1,2,3,4\n", r"video 'c\x1b[31mat'"),
        (CSV + "../folder/cat,0,1,2,3,4\n", "video '../folder/cat', expected"),
        (CSV + ",0,1,2,3,4\n", "video '', expected"),
        (CSV + "cat/groundtruth.txt,0,1,2,3,4\n", "groundtruth.txt: expected a folder or a video file (.mp4"),
        (CSV + "cat,0,1,2,3,4\ncat/,0,1,2,3,4\n", "two videos have the same name"),
        (CSV, "no sequences"),
    ],
)
def test_csv_broken(make_dataset: Callable[..., Made], text: str, message: str) -> None:
    root, _ = make_dataset("folder", names=("cat",))
    (root / "all.csv").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        readers.folder(root, annotations="all.csv")
    assert message in str(error.value)
    assert message.startswith(("no sequences", "groundtruth.txt")) or "all.csv" in str(error.value)


def test_csv_names(make_dataset: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    root, _ = make_dataset("folder", names=("v.1", "v.2"))
    (root / "all.csv").write_text(CSV + "v.1,0,1,2,3,4\nv.2,0,1,2,3,4\n")
    assert readers.folder(root, annotations="all.csv").names == ["v.1", "v.2"]
    (root / "v.1" / "all.csv").write_text(CSV + ".,0,1,2,3,4\n")
    monkeypatch.chdir(root / "v.1")
    assert readers.folder(".", annotations="all.csv").names == readers.folder(".").names == ["v.1"]


def test_own_index_is_made_again_when_frames_change(make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    root, truth = make_dataset("folder", names=("cat", "a", "b", "clip"))
    (root / "back").symlink_to(root)  # a loop of links is no trap
    (root / "all.csv").write_text(CSV + "cat,0,1,2,3,4\n")
    cache = tmp_path / "cache"

    def shade() -> int:
        return int(readers.folder(root, annotations="all.csv", cache=cache)[0].frames[0][0, 0, 0])

    assert abs(shade() - truth["cat"].shades[0]) <= 4
    (root / "cat" / "0001.jpg").unlink()
    assert abs(shade() - truth["cat"].shades[1]) <= 4
    clip = root / "clip"
    assert len(readers.folder(clip, cache=cache)[0]) == 24
    write_video(clip / "clip.mp4", [image(k) for k in range(12)])
    with pytest.raises(ValueError, match=r"has 24 rows, but .* has 12 frames"):
        readers.folder(clip, cache=cache)


def coco_video() -> dict[str, Any]:
    """Two targets in one video of 6 frames, the second from frame 2 on with a gap."""
    return {
        "videos": [{"id": 1, "name": "street"}],
        "categories": [{"id": 3, "name": "dog"}],
        "images": [
            {"id": 10 + k, "video_id": 1, "frame_id": k, "file_name": f"cat/{k + 1:04d}.jpg", "width": 64, "height": 48}
            for k in reversed(range(6))
        ],
        "annotations": [
            {"id": 100 * t + k, "image_id": 10 + k, "instance_id": t, "category_id": 3, "bbox": [k, t, 5, 6]}
            for t, frames in ((7, range(6)), (8, (2, 3, 5)))
            for k in frames
        ],
    }


def test_coco_video(make_dataset: Callable[..., Made]) -> None:
    root, truth = make_dataset("folder", names=("cat",))
    (root / "all.json").write_text(json.dumps(coco_video()))
    first, second = readers.folder(root, annotations="all.json")
    assert (first.name, second.name) == ("street_7", "street_8")
    assert first.boxes.tolist() == [[k, 7, 5, 6] for k in range(6)]
    assert second.boxes.tolist() == [[2, 8, 5, 6], [3, 8, 5, 6], [0, 0, 0, 0], [5, 8, 5, 6]]
    assert second.visible.tolist() == [True, True, False, True]
    assert second.meta["object_class"] == "dog"
    for k in range(4):
        assert abs(int(second.frames[k][0, 0, 0]) - truth["cat"].shades[2 + k]) <= 4


def test_coco_video_leaves_crowds_out(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("folder", names=("cat",))
    (root / "all.json").write_text(json.dumps(change(coco_video(), "annotations", 2, iscrowd=1)))
    first = readers.folder(root, annotations="all.json")[0]
    assert first.visible.tolist() == [True, True, False, True, True, True]


def change(content: dict[str, Any], key: str, position: int, **values: object) -> dict[str, Any]:
    content[key][position].update(values)
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": []}, "KeyError: 'videos'"),
        (change(coco_video(), "annotations", 0, image_id=99), "KeyError: 99"),
        (change(coco_video(), "annotations", 1, image_id=10), "annotation 701: a second box of this target"),
        (change(coco_video(), "annotations", 1, bbox=[1, 2, 3]), "annotation 701: bbox [1, 2, 3]"),
        (change(coco_video(), "annotations", 1, bbox=[1, 2, -3, 4]), "annotation 701: box 1,2,-3,4 has no area"),
        (change(coco_video(), "annotations", 1, bbox=[64, 2, 3, 4]), "annotation 701: box [64.0, 2.0, 3.0, 4.0] lies"),
        (change(coco_video(), "annotations", 1, bbox=[None, 2, 3, 4]), "annotation 701: bbox [None, 2, 3, 4]"),
        (change(coco_video(), "annotations", 0, category_id=[3]), "unhashable"),
        (
            change(coco_video(), "images", 0, frame_id=4),
            "frame_id 4, width, height (64, 48); expected whole numbers, a",
        ),
        (change(coco_video(), "images", 0, frame_id="5"), "image 15: frame_id '5'"),
        (change(coco_video(), "images", 0, width="64"), "width, height ('64', 48)"),
        (change(coco_video(), "images", 0, file_name=5), "not int"),
        (change(coco_video(), "images", 0, file_name="cat/x.jpg"), "file_name 'cat/x.jpg': there is no"),
        (change(coco_video(), "images", 0, file_name="../x.jpg"), "file_name '../x.jpg', expected a name inside"),
        (change(coco_video(), "images", 0, file_name="/etc/passwd"), "file_name '/etc/passwd', expected a name inside"),
        (change(coco_video(), "annotations", 1, bbox=[10**400, 2, 3, 4]), "expected [x,y,w,h] in pixels"),
        (change(coco_video(), "videos", 0, name="a\x1b[2J"), r"the name of a target is 'a\x1b[2J_"),
        (change(coco_video(), "videos", 0, name="n" * 250), "it is longer than 200 bytes"),
        (change(coco_video(), "images", 0, id=14), "two images have the same id"),
        ({**coco_video(), "videos": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "two videos have the same id"),
        (change(coco_video(), "annotations", 0, instance_id="7"), "two targets have the same name"),
    ],
)
def test_coco_video_broken(make_dataset: Callable[..., Made], content: dict[str, Any], message: str) -> None:
    root, _ = make_dataset("folder", names=("cat",))
    (root / "all.json").write_text(json.dumps(content))
    with pytest.raises((ValueError, FileNotFoundError), match=r"all\.json") as error:
        readers.folder(root, annotations="all.json")
    assert message in str(error.value)
