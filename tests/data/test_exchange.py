"""Boxes in files of other programs: what is written is read back; hostile and wrong files are refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.data.fixtures import write_image

from seqtrack_lit.data.sets.exchange import EXPORTS, Clip, TargetBoxes, export, read_boxes_of_targets
from seqtrack_lit.data.sets.folder import folder

CLIP = Clip("a clip & <co>", 320, 240, range(4, 24, 2))


def targets() -> list[TargetBoxes]:
    """Two targets, the second absent in the middle; boxes reach out of the picture."""
    rng = np.random.default_rng(0)
    frames = [np.arange(4, 24, 2), np.array([6, 8, 14, 16])]
    return [
        TargetBoxes(
            label,
            of,
            np.concatenate([rng.uniform(-9, 150, (len(of), 2)), rng.uniform(12, 99, (len(of), 2))], 1).round(4),
            rng.uniform(0, 1, len(of)).round(6),
        )
        for label, of in zip(['a "dog" & <b>', "Vögel"], frames, strict=True)
    ]


@pytest.mark.parametrize("kind", list(EXPORTS))
def test_what_is_written_is_read(kind: str, tmp_path: Path) -> None:
    path = export(kind, tmp_path / "clip_tracked", targets(), CLIP)
    assert path.name == f"clip_tracked{EXPORTS[kind]}"
    found = read_boxes_of_targets(path, CLIP)
    for one, expected in zip(found, targets(), strict=True):
        assert one.label == ("target" if kind == "mot" else expected.label)
        np.testing.assert_array_equal(one.frames, expected.frames)
        np.testing.assert_allclose(one.boxes, expected.boxes, rtol=0, atol=2e-4)
        if kind in ("mot", "coco"):
            np.testing.assert_allclose(one.confidences, expected.confidences, atol=1e-6)


def test_the_files_are_what_the_programs_expect(tmp_path: Path) -> None:
    one = TargetBoxes("dog", np.array([0, 2]), np.array([[10.0, 20, 32, 48], [0, 0, 160, 120]]), np.array([1.0, 0.5]))
    clip = Clip("c", 320, 240, range(4))
    text = export("mot", tmp_path / "a", [one], clip).read_text()
    assert text.splitlines() == [
        "1,1,10.0000,20.0000,32.0000,48.0000,1,-1,-1,-1",
        "3,1,0.0000,0.0000,160.0000,120.0000,0.5,-1,-1,-1",
    ]
    yolo = export("yolo", tmp_path / "a", [one], clip)
    assert (yolo / "labels" / "c_000003.txt").read_text() == "0 0.25000000 0.25000000 0.50000000 0.50000000\n"
    assert (yolo / "labels" / "c_000002.txt").read_text() == ""
    assert 'names:\n  0: "dog"\n' in (yolo / "data.yaml").read_text()
    outside = [line for line in export("cvat", tmp_path / "a", [one], clip).read_text().splitlines() if "<box" in line]
    assert [line.split('"')[1::2][:3] for line in outside] == [
        ["0", "1", "0"], ["1", "1", "1"], ["2", "1", "0"], ["3", "1", "1"],
    ]  # fmt: skip
    assert 'xtl="10.0000" ytl="20.0000" xbr="42.0000" ybr="68.0000"' in outside[0]


def test_coco_is_read_as_a_data_set(tmp_path: Path) -> None:
    """Who corrected a clip can train on it: `data/train=folder` with annotations=..._coco.json."""
    clip = Clip("c", 64, 48, range(3))
    for frame in clip.frames:
        write_image(tmp_path / "c" / f"{frame:08d}.jpg", np.zeros((48, 64, 3), np.uint8))
    boxes = np.array([[1.0, 2, 30, 20], [3, 2, 30, 20], [5, 2, 30, 20]])
    export("coco", tmp_path / "c", [TargetBoxes("dog", np.arange(3), boxes, np.ones(3))], clip)
    video = folder(tmp_path, annotations="c_coco.json")[0]
    np.testing.assert_array_equal(video.boxes, boxes)
    assert video.meta["object_class"] == "dog"


@pytest.mark.parametrize("text", ["4,0,1,2,30,40\n6,1,5,6,70,80\n", "frame,target,x,y,w,h,confidence,lost\n"
                                  "4,0,1,2,30,40,.5,0\n\n6, 1, 5, 6, 70, 80, .5, 1\n",
                                  "frame;target;x;y;w;h\r\n4;0;1,0;2;30;40\r\n6;1;5,0;6;70;80,00\r\n"])  # fmt: skip
def test_lines_by_hand(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    first, second = read_boxes_of_targets(tmp_path / "a.csv", CLIP)
    assert (first.frames.tolist(), second.boxes.tolist()) == ([4], [[5.0, 6, 70, 80]])


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb">' + "".join(
    f'<!ENTITY b{i} "{f"&b{i - 1 if i > 1 else chr(0)};".replace(chr(0), "") * 10}">' for i in range(1, 12)
) + "]><annotations>&b11;</annotations>"  # fmt: skip
READ = '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><annotations><track label="&f;"/></annotations>'
BOX = '<annotations><track id="0" label="a"><box frame="4" {}/></track></annotations>'
COCO = {"videos": [], "categories": [], "images": [{"id": 1, "video_id": 1, "frame_id": 4}]}
WRONG = {
    "an XML bomb": ("a.xml", BOMB, "an XML document type"),
    "an XML that reads files": ("a.xml", READ, "an XML document type"),
    "no XML": ("a.xml", "<annotations><track", "no XML"),
    "an XML of something else": ("a.xml", "<html></html>", "holds no <track> with a <box>"),
    "a track without numbers": ("a.xml", BOX.format('xtl="1"'), "track 0, frame '4': expected numbers"),
    "endless corners": ("a.xml", BOX.format('xtl="nan" ytl="1" xbr="9" ybr="9"'), "has no area"),
    "a million digits": ("a.csv", "4,0,1,2,3," + "9" * 1_000_000, "a number beyond any video"),
    "no number": ("a.csv", "4,0,1,2,3,x", "line 1: '4,0,1,2,3,x': expected numbers"),
    "half a frame": ("a.csv", "4.5,0,1,2,3,4", "the first two whole"),
    "too few": ("a.csv", "frame,target\n4,0,1,2", "line 2: '4,0,1,2': expected at least 6 numbers"),
    "not tracked": ("a.csv", "5,0,1,2,3,4", "line 1: frame 5, of frames 4 to 22 in steps of 2 that are tracked"),
    "twice": ("a.csv", "4,0,1,2,3,4\n4,0,1,2,3,4", "line 2: frame 4 of target 0 again, first line 1"),
    "a gap": ("a.csv", "4,1,1,2,3,4", "targets [1]; expected 0, 1, 2"),
    "corners": ("a.csv", "4,0,200,100,300,200", "seems to be two corners"),
    "fractions": ("a.csv", "4,0,.2,.1,.3,.2", "seems to be fractions of the picture"),
    "outside": ("a.csv", "4,0,400,1,9,9", "lies outside of the 320 x 240 pixels"),
    "no area": ("a.csv", "4,0,40,1,0,9", "has no area"),
    "many targets": ("a.txt", "".join(f"5,{i},1,2,30,40,1,-1,-1,-1\n" for i in range(300)), "more than 255 targets"),
    "nothing": ("a.csv", "frame,target,x,y,w,h\n", "holds no box"),
    "no JSON": ("a.json", "{", "a.json"),
    "JSON of something else": ("a.json", "[]", "a.json"),
    "an image that is not there": (
        "a.json",
        json.dumps({**COCO, "annotations": [{"image_id": 2, "track_id": 1, "bbox": [1, 2, 30, 40]}]}),
        "annotations.0: expected image_id of an image",
    ),
    "text as box": (
        "a.json",
        json.dumps({**COCO, "annotations": [{"image_id": 1, "track_id": 1, "bbox": ["1", 2, 3, 4]}]}),
        "annotations.0.bbox.0",
    ),
    "unknown": ("a.docx", "", "expected .csv (frame,target,x,y,w,h), .txt (MOT)"),
}  # fmt: skip


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("name", "text", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_is_refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError) as caught:
        read_boxes_of_targets(tmp_path / name, CLIP)
    assert message in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 700


def test_a_folder_of_yolo_follows_no_links_and_names_lines(tmp_path: Path) -> None:
    labels = export("yolo", tmp_path / "a", targets(), CLIP) / "labels"
    secret = tmp_path / "secret_000007.txt"
    secret.write_text("not for others")
    (labels / "x_000007.txt").symlink_to(secret)
    assert len(read_boxes_of_targets(labels.parent, CLIP)) == 2
    (labels / "x_000007.txt").unlink()
    (labels / "x_000007.txt").write_text("0 .5 .5 .1\n")
    with pytest.raises(ValueError, match=r"x_000007.txt, line 1: '0 \.5 \.5 \.1': expected class, cx, cy, w, h"):
        read_boxes_of_targets(labels.parent, CLIP)
    (labels / "x_000007.txt").write_text("0 .5 .5 .1 9e99\n")
    with pytest.raises(ValueError, match="expected a class and fractions"):
        read_boxes_of_targets(labels.parent, CLIP)
