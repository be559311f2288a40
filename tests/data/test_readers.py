"""Every training set is read back exactly from its layout; every odd thing is handled or named."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.fixtures import GroundTruth, Made, make_lasot, write_image

from seqtrack_lit.data.sets import benchmarks
from seqtrack_lit.data.sets import training as readers
from seqtrack_lit.data.video.index import SequenceIndex


@pytest.fixture(scope="module")
def make_lasot_once(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("lasot")
    return Made(root, make_lasot(root, ("airplane-1", "basketball-1")))


def assert_reads(index: SequenceIndex, truth: dict[str, GroundTruth], *, every: int = 1) -> None:
    assert sorted(index.names) == sorted(truth)
    for sequence in index:
        boxes, _, shades = truth[sequence.name]
        np.testing.assert_array_equal(sequence.boxes, boxes)
        assert len(sequence) == len(shades)
        for number in range(0, len(shades), every):
            frame = sequence.frames[number]
            assert frame.shape == (48, 64, 3)
            assert abs(int(frame[0, 0, 0]) - shades[number]) <= 4  # the next frame differs by 10


def good(boxes: np.ndarray) -> np.ndarray:
    return np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1)


def test_lasot(make_dataset: Callable[..., Made]) -> None:
    root, truth = make_dataset("lasot")
    index = readers.lasot(root, complete=False)
    test_videos = ("airplane-1", "monkey-17")
    assert_reads(index, {name: value for name, value in truth.items() if name not in test_videos})
    for sequence in index:
        np.testing.assert_array_equal(sequence.visible, truth[sequence.name].visible & good(sequence.boxes))
        assert sequence.meta["object_class"] in ("airplane", "bicycle", "monkey")


@pytest.mark.parametrize(("exclude", "left"), [(True, [1, 2, 9335]), (False, [1, 2, 4, 9335])])
def test_got10k_train(make_dataset: Callable[..., Made], exclude: bool, left: list[int]) -> None:
    root, truth = make_dataset("got10k")
    index = readers.got10k(root, exclude_vot=exclude)
    assert index.names == [f"GOT-10k_Train_{number:06d}" for number in left]
    assert_reads(index, {name: truth[name] for name in index.names})
    for sequence in index:
        np.testing.assert_array_equal(sequence.visible, truth[sequence.name].visible)
        assert sequence.meta["object_class"] == "sea_snake"
        assert sequence.meta["resolution"] == (64, 48)
        assert sequence.meta["frame_rate"] == 10
        assert sequence.meta["cover"].tolist()[:5] == [8, 8, 8, 0, 0]


def test_folder(make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    root, truth = make_dataset("folder")
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        index = readers.folder(root, cache=cache)
        assert_reads(index, truth)
        for sequence in index:
            np.testing.assert_array_equal(sequence.visible, truth[sequence.name].visible)


def test_trackingnet(make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    root, truth = make_dataset("trackingnet")
    index = readers.trackingnet(root, parts=[0, 3], cache=tmp_path / "index")
    assert_reads(index, {name: value for name, value in truth.items() if name.startswith("vid")})
    for sequence in index:
        assert np.flatnonzero(~sequence.visible).tolist() == [7]
    assert readers.trackingnet(root, parts=[3]).names == ["vid3-0_0", "vid3-1_0"]
    extra = root / "TRAIN_3" / "frames" / "vid3-0_0" / "24.jpg"
    write_image(extra, np.zeros((9, 9, 3), np.uint8))
    with pytest.warns(UserWarning, match=r"trackingnet: 1 of 2 videos .* left out, the first is .*vid3-0_0 .*24 boxes"):
        assert readers.trackingnet(root, parts=[3]).names == ["vid3-1_0"]
    with pytest.raises(FileNotFoundError, match=r"trackingnet: no .*TRAIN_1.*say which: parts="):
        readers.trackingnet(root)
    for parts in ([12], [0, 0], list[int]()):
        with pytest.raises(ValueError, match="expected a list out of 0 to 11, each once"):
            readers.trackingnet(root, parts=parts)
    (root / "TRAIN_0" / "anno" / "._vid0-0_0.txt").write_bytes(b"\0\5")  # as macOS leaves behind
    assert readers.trackingnet(root, parts=[0]).names == ["vid0-0_0", "vid0-1_0"]


def test_coco(make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    root, truth = make_dataset("coco")
    index = readers.coco(root, cache=tmp_path / "index")
    assert_reads(index, truth)
    assert index.repeats_image
    assert index.lengths.tolist() == [1] * 9  # five images with two boxes, of which one is a crowd
    for sequence in index:
        np.testing.assert_array_equal(sequence.visible, truth[sequence.name].visible)
        assert sequence.meta["object_class"] == ("toothbrush" if sequence.name.endswith("1") else "person")
    (root / "images" / "train2017").rename(root / "train2017")  # as the zip unpacks
    assert_reads(readers.coco(root), truth)


def test_coco_broken(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("coco")
    file = root / "annotations" / "instances_train2017.json"
    content = file.read_text()
    for broken, message in (
        (content[: len(content) // 2], "is no COCO annotation file"),
        (content.replace('"annotations"', '"notes"'), "KeyError: 'annotations'"),
        (content.replace('"image_id": 9,', '"image_id": 8,'), "KeyError: 8"),
        (content.replace('"bbox": [', '"bbox": [1, ', 1), "annotation 0: bbox"),
        (content.replace('"id": 140, "file_name"', '"id": 9, "file_name"'), "two images have the same id"),
        (content.replace('"file_name": "000000000009.jpg"', '"file_name": null'), ""),
        (content.replace('"file_name": "000000000009.jpg"', '"file_name": "../9.jpg"'), "file_name is '../9.jpg'"),
        ("[" * 100_000, "RecursionError"),
    ):
        file.write_text(broken)
        with pytest.raises(ValueError, match=r"instances_train2017\.json is no COCO annotation file") as error:
            readers.coco(root)
        assert message in str(error.value)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"coco: no .*instances_train2017\.json; docs/datasets\.md"):
        readers.coco(root)


@pytest.mark.parametrize("name", ["../val", "a/b", "..", "a\x1b[31m"])
def test_names_in_a_list_stay_in_their_folder(make_dataset: Callable[..., Made], name: str) -> None:
    root, _ = make_dataset("got10k")
    with (root / "train" / "list.txt").open("a") as file:
        file.write(f"{name}\n")
    with pytest.raises(ValueError, match=r"list\.txt: a name is .*, which cannot name a file or folder"):
        readers.got10k(root)


def test_two_images_of_one_name_are_asked_about(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("folder", names=("cat",))
    (root / "cat" / "0003.png").write_bytes((root / "cat" / "0003.jpg").read_bytes())
    with pytest.raises(ValueError, match=r"cat: (0003\.jpg and 0003\.png|0003\.png and 0003\.jpg) have one name"):
        readers.folder(root)


def spoil(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().split("\n")[:-1])) + "\n")


def put(row: int, text: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[:row], text, *lines[row + 1 :]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], "has 23 rows, but {cat} has 24 frames (no box for frame 24)"),
        (lambda lines: [*lines, "1,2,3,4"], "has 25 rows, but {cat} has 24 frames (line 25 belongs to no frame)"),
        (lambda lines: lines[:1], "has 1 rows, but {cat} has 24 frames"),
        (put(4, ""), "line 5"),
        (put(4, "1,2,3"), "line 5: 3 numbers"),
        (put(4, "1,2,-3,4"), "line 5: box 1,2,-3,4 has no area"),
        (put(4, "1,2,3,0"), "line 5: box 1,2,3,0 has no area"),
        (put(4, "1,2,nan,4"), "line 5: box 1,2,nan,4 has no area"),
        (put(4, "1,2,inf,4"), "line 5: box 1,2,inf,4 lies beyond any picture"),
        (lambda lines: [*lines, *lines], "has 48 rows, but {cat} has 24 frames"),
        (put(4, "a,b,c,d"), "line 5: 'a' is not a number"),
    ],
)
def test_own_groundtruth_broken(
    make_dataset: Callable[..., Made], change: Callable[[list[str]], list[str]], message: str
) -> None:
    root, _ = make_dataset("folder", names=("cat",))
    spoil(root / "cat" / "groundtruth.txt", change)
    with pytest.raises(ValueError, match=r"groundtruth\.txt") as error:
        readers.folder(root)
    assert message.format(cat=root / "cat") in str(error.value)


def test_own_folder_broken(make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no videos; expected a folder for each"):
        readers.folder(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"folder: no folder .*nowhere; expected a folder for each video"):
        readers.folder(tmp_path / "nowhere")
    root, _ = make_dataset("folder")
    (root / "cat" / "groundtruth.txt").rename(root / "kept.txt")
    with pytest.raises(FileNotFoundError, match=r"cat has no groundtruth.txt \(1 of 4 folders have none\)"):
        readers.folder(root)
    (root / "kept.txt").rename(root / "cat" / "groundtruth.txt")
    (root / "images below" / "absence.label").write_text("0\n1\n")
    with pytest.raises(ValueError, match=r"absence\.label: 2 flags, but 24 boxes"):
        readers.folder(root)
    (root / "clip" / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected images in it .* or one video file .*; found: clip/clip.mp4, clip"):
        readers.folder(root)
    (root / "clip" / "1.png").unlink()
    for file in (root / "größer hund").glob("*.png"):
        file.unlink()
    with pytest.raises(ValueError, match=r"größer hund: expected images .*; found: none"):
        readers.folder(root)


def test_one_frame_and_one_pixel(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("folder", names=("cat",), count=1)
    (root / "cat" / "groundtruth.txt").write_text("3,4,1,1\n")
    index = readers.folder(root / "cat", tracking=True)  # a single video's folder works, too
    assert index[0].boxes.tolist() == [[3, 4, 1, 1]]
    assert len(index[0]) == 1


def test_frames_of_changing_size(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("folder", names=("cat",))
    write_image(root / "cat" / "0003.jpg", np.zeros((20, 30, 3), np.uint8))
    frames = readers.folder(root)[0].frames
    assert [frames[k].shape for k in (1, 2, 3)] == [(48, 64, 3), (20, 30, 3), (48, 64, 3)]


def test_missing_frame_of_a_training_video_is_named_when_read(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("lasot")
    (root / "airplane" / "airplane-2" / "img" / "00000009.jpg").unlink()
    frames = readers.lasot(root, complete=False).select(["airplane-2"])[0].frames
    with pytest.raises(ValueError, match=r"cannot read image .*airplane-2/img/00000009\.jpg"):
        frames[8]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("train/list.txt", lambda _: [], "list.txt is empty"),
        ("train/list.txt", lambda lines: [*lines, "GOT-10k_Train_000777"], "GOT-10k_Train_000777"),
        ("train/GOT-10k_Train_000001/cover.label", put(2, "9"), "flag 3: '9', expected a whole number from 0 to 8"),
        ("train/GOT-10k_Train_000001/absence.label", lambda lines: lines[:-2], "22 flags, but 24 boxes"),
        ("train/GOT-10k_Train_000001/meta_info.ini", lambda _: ["[METAINFO]"], "expected (width, height)"),
        ("train/GOT-10k_Train_000001/groundtruth.txt", put(2, "1,2,3"), "line 3: 3 numbers"),
    ],
)
def test_got10k_broken(
    make_dataset: Callable[..., Made], file: str, change: Callable[[list[str]], list[str]], message: str
) -> None:
    root, _ = make_dataset("got10k")
    spoil(root / file, change)
    with pytest.raises((ValueError, FileNotFoundError), match=r"list\.txt|000777|000001") as error:
        readers.got10k(root)
    assert message in str(error.value)


def test_got10k_val_and_unknown_splits(make_dataset: Callable[..., Made]) -> None:
    root, truth = make_dataset("got10k")
    index = readers.got10k(root, split="val")
    assert_reads(index, {name: truth[name] for name in ("GOT-10k_Val_000001", "GOT-10k_Val_000002")}, every=7)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_set_is_an_error_or_the_right_boxes(make_lasot_once: Made, data: st.DataObject) -> None:
    """One line of one file is lost, doubled, emptied or cut: never boxes beside other frames than their own."""
    root, truth = make_lasot_once
    place = root / "airplane" / "airplane-1"
    file = place / data.draw(st.sampled_from(["groundtruth.txt", "full_occlusion.txt", "out_of_view.txt"]))
    content = file.read_text()
    separator = "\n" if file.name == "groundtruth.txt" else ","
    parts = content.rstrip("\n").split(separator)
    row = data.draw(st.integers(0, len(parts) - 1))
    damage = data.draw(st.sampled_from(["lose", "double", "empty", "cut", "swap separator"]))
    changed = {
        "lose": parts[:row] + parts[row + 1 :],
        "double": [*parts[: row + 1], *parts[row:]],
        "empty": [*parts[:row], "", *parts[row + 1 :]],
        "cut": [*parts[:row], parts[row][: max(1, len(parts[row]) // 2)], *parts[row + 1 :]],
        "swap separator": [*parts[:row], parts[row].replace(",", "\t"), *parts[row + 1 :]],
    }[damage]
    file.write_text(separator.join(changed))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fewer boxes than images at the end is said aloud
            index = benchmarks.lasot(root, complete=False)
    except (ValueError, FileNotFoundError) as error:
        assert str(place) in str(error)  # noqa: PT017 - an error is allowed, not demanded
    else:
        sequence = index.select(["airplane-1"])[0]
        np.testing.assert_array_equal(sequence.boxes, truth["airplane-1"].boxes[: len(sequence)])
    finally:
        file.write_text(content)
