"""The check finds what is wrong, says where and what to do, and finds nothing in whole data."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.clips import COUNT, encode, remux
from tests.data.fixtures import Made, shade_of, write_image

from seqtrack_lit.data.sets import benchmarks
from seqtrack_lit.data.sets import training as readers
from seqtrack_lit.data.sets.layout import expected_frames
from seqtrack_lit.data.tools import check
from seqtrack_lit.data.tools.check import NOTES, REMEDIES, Report
from seqtrack_lit.data.video.file import VideoFrames

Change = Callable[[Path], object]


def write(name: str, text: str) -> Change:
    return lambda root: (root / name).write_text(text)


def delete(name: str) -> Change:
    return lambda root: (root / name).unlink()


def line(name: str, row: int, text: str | None) -> Change:
    """Line `row` of a file is `text` now, or gone."""

    def change(root: Path) -> None:
        lines = (root / name).read_text().splitlines()
        lines[row : row + 1] = [] if text is None else [text]
        (root / name).write_text("\n".join(lines) + "\n")

    return change


def all_rows(name: str, change: Callable[[np.ndarray], object]) -> Change:
    """Every box of a file is changed in place."""

    def spoil(root: Path) -> None:
        boxes = np.loadtxt(root / name, delimiter=",")
        change(boxes)
        np.savetxt(root / name, boxes, delimiter=",", fmt="%.6g")

    return spoil


def fractions(boxes: np.ndarray) -> None:
    boxes /= [64, 48, 64, 48]


def corners(boxes: np.ndarray) -> None:
    boxes[:] = [20, 10, 18, 12]
    boxes[:, 0] += np.arange(len(boxes))  # from the middle to the right edge of 64 x 48
    boxes[:, 2:] += boxes[:, :2]


def huge(boxes: np.ndarray) -> None:
    boxes[7, 2:] = [160, 140]


def cut(name: str) -> Change:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-40])


def small(name: str) -> Change:
    return lambda root: write_image(root / name, np.full((20, 30, 3), shade_of(1), np.uint8))


def run(read: Any, root: Path, **options: Any) -> Report:
    return check.check("it", partial(read, root), workers=1, **options)


CAT = "cat/groundtruth.txt"
VIDEO = "train/GOT-10k_Train_000001"
BOXES = f"{VIDEO}/groundtruth.txt"
TEST_FRAME = "test/GOT-10k_Test_000001/00000005.jpg"
WHOLE: list[tuple[str, Any, dict[str, Any]]] = [
    ("folder", readers.folder, {}),
    ("got10k", readers.got10k, {}),
    ("got10k", benchmarks.got10k_val, {}),
    ("got10k", benchmarks.got10k_test, {}),
    ("coco", readers.coco, {}),
    ("trackingnet", partial(readers.trackingnet, parts=[0, 3]), {}),
    ("uav123", partial(benchmarks.uav123, complete=False), {}),
]


@pytest.mark.parametrize(("name", "read", "options"), WHOLE)
@pytest.mark.parametrize("fast", [True, False])
def test_whole_data_have_no_problem(
    make_dataset: Callable[..., Made], name: str, read: Any, options: dict[str, Any], fast: bool
) -> None:
    report = run(read, make_dataset(name).root, fast=fast, strict=name == "folder", **options)
    assert report.problems == 0, report.text()
    assert report.sequences > 0
    assert report.frames > 0


# data set, reader, what is done to it, kind, sequence, text, whether it is found without images
BROKEN: list[tuple[str, Any, Change, str, str, str, bool]] = [
    ("folder", readers.folder, delete("cat/0003.jpg"), "annotation", "cat", "24 rows, but", True),
    ("folder", readers.folder, line(CAT, 4, None), "annotation", "cat", "23 rows, but", True),
    ("folder", readers.folder, line(CAT, 4, "1,2,-3,4"), "annotation", "cat", "line 5: box 1,2,-3,4 has no area", True),
    ("folder", readers.folder, line(CAT, 4, "99,2,3,4"), "outside", "cat", "frame 5: 99,2,3,4", False),
    ("folder", readers.folder, all_rows(CAT, fractions), "fractions", "cat", "frame 1: 0.", True),
    ("folder", readers.folder, all_rows(CAT, corners), "corners", "cat", ",22 in a picture of 64 x 48", False),
    ("folder", readers.folder, all_rows(CAT, huge), "huge", "cat", "frame 8: ", False),
    ("folder", readers.folder, cut("cat/0003.jpg"), "unreadable", "cat", "0003.jpg", False),
    ("folder", readers.folder, small("cat/0003.jpg"), "size", "cat", "64 x 48, from frame 3 on 30 x 20", False),
    ("folder", readers.folder, delete(CAT), "missing", "cat", "no ", True),
    ("got10k", readers.got10k, line(BOXES, 4, None), "annotation", "_000001", "24 flags", True),
    ("got10k", readers.got10k, write(f"{VIDEO}/cover.label", "x"), "annotation", "_000001", "cover.label", True),
    ("got10k", readers.got10k, delete(f"{VIDEO}/absence.label"), "missing", "_000001", "absence.label", True),
    ("got10k", readers.got10k, delete(BOXES), "missing", "_000001", "no ", True),
    ("got10k", readers.got10k, delete(f"{VIDEO}/00000009.jpg"), "missing", "_000001", "9.jpg, 1 of 24 frames", False),
    ("got10k", readers.got10k, cut(f"{VIDEO}/00000009.jpg"), "unreadable", "_000001", "00000009.jpg", False),
    ("got10k", readers.got10k, small(f"{VIDEO}/00000001.jpg"), "resolution", "_000001", "30 x 20, the annota", False),
    (
        "coco",
        readers.coco,
        small("images/train2017/000000000009.jpg"),
        "resolution",
        "9-0",
        "30 x 20, the annota",
        False,
    ),
    ("got10k", readers.got10k, line(BOXES, 4, "1,2,0,4"), "zero", "_000001", "frame 5", True),
    ("got10k", readers.got10k, line(BOXES, 4, "1,2,-3,4"), "negative", "_000001", "frame 5", True),
    ("got10k", readers.got10k, line(BOXES, 4, "nan,2,3,4"), "nan", "_000001", "frame 5", True),
    ("got10k", readers.got10k, line(BOXES, 4, "1,48,3,4"), "outside", "_000001", "frame 5", True),
    ("got10k", readers.got10k, write("train/list.txt", "GOT_1\n" * 2), "annotation", "it", "names 'GOT_1' twice", True),
    (
        "got10k",
        benchmarks.got10k_test,
        delete("test/GOT-10k_Test_000001/00000005.jpg"),
        "annotation",
        "_000001",
        "consecutive",
        True,
    ),
]


@pytest.mark.parametrize(
    ("name", "read", "change", "kind", "sequence", "text", "fast"),
    BROKEN,
    ids=[f"{case[0]}-{case[3]}-{number}" for number, case in enumerate(BROKEN)],
)
def test_what_is_broken_is_found(
    make_dataset: Callable[..., Made],
    name: str,
    read: Any,
    change: Change,
    kind: str,
    sequence: str,
    text: str,
    fast: bool,
) -> None:
    root, _ = make_dataset(name)
    own = name == "folder"
    change(root)
    report = run(read, root, fast=fast, strict=own)
    found = next((f for f in report.findings if f.kind == kind and f.sequence.endswith(sequence)), None)
    assert found is not None, report.text()
    assert text in found.text
    problem = own or kind not in NOTES
    assert report.problems == problem  # this one, and nothing else
    assert f"{'PROBLEM' if problem else 'note'}: {REMEDIES[kind][0]}" in report.text()
    assert (REMEDIES[kind][1] if problem else "none needed") in report.text()
    assert report.as_dict()["findings"]


def test_one_broken_video_does_not_hide_the_others(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("folder")
    line(CAT, 4, None)(root)
    (root / "größer hund" / "bild 3.png").write_bytes(b"")
    report = run(readers.folder, root, strict=True)
    assert [(finding.kind, finding.sequence) for finding in report.findings] == [
        ("annotation", "cat"),
        ("unreadable", "größer hund"),
    ]
    assert report.sequences == 3
    (root / "cat").rename(root / "c\x1b[31mat")
    report = run(readers.folder, root, strict=True)
    assert report.sequences == 3
    assert "the name of a video is 'c\\x1b[31mat', which cannot name a file" in report.findings[0].text


def test_notes_of_published_data_are_no_problems(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("uav123")
    report = run(partial(benchmarks.uav123, complete=False), root, every=100)
    assert {finding.kind for finding in report.findings} == {"nan"}
    assert report.problems == 0
    assert "note: boxes that are not a number: 2\n  first:  bird1_1: frame 10: nan,nan,nan,nan, 3 such" in report.text()


def test_counts_of_the_publisher(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("lasot")
    report = run(partial(readers.lasot), root)
    assert (report.sequences, report.expected_sequences, report.expected_frames) == (2, 1120, 2_831_982)
    kinds = [finding.kind for finding in report.findings]
    assert kinds.count("missing") == 1118
    assert kinds.count("frames") == 2  # these are tiny
    missing = next(finding for finding in report.findings if finding.kind == "missing")
    assert missing.text == f"no {root}/airplane/airplane-3/groundtruth.txt"  # the first missing of the list
    part = run(partial(readers.lasot, complete=False), root, fast=True)
    assert (part.expected_sequences, part.expected_frames) == (2, 8301 + 1580)
    assert run(readers.got10k, make_dataset("got10k").root, fast=True, count=9335).problems == 1


def test_extra_frames_and_duplicate_boxes(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("lasot")
    report = run(partial(benchmarks.lasot, complete=False), root)
    extra = [finding for finding in report.findings if finding.kind == "extra_frames"]
    assert [(finding.sequence, finding.text[:19]) for finding in extra] == [("monkey-17", "27 images, 24 boxes")]
    folder, _ = make_dataset("folder", names=("cat", "a", "b", "c", "dog"))
    (folder / "dog/groundtruth.txt").write_text((folder / CAT).read_text())
    assert ("duplicate_boxes", "dog") in [(f.kind, f.sequence) for f in run(readers.folder, folder, fast=True).findings]


def test_several_processes_and_progress(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("got10k")
    steps: list[tuple[int, int]] = []
    report = check.check("it", partial(readers.got10k, root), workers=2, step=lambda *at: steps.append(at))
    assert report.problems == 0
    assert steps == [(24, 72), (48, 72), (72, 72)]


def test_kinds() -> None:
    assert set(NOTES) < set(REMEDIES)
    assert sum(expected_frames("lasot").values()) == 3_517_342
    assert expected_frames("uav123") == {}


def test_a_video_cut_short_or_damaged_is_found(tmp_path: Path) -> None:
    for name in ("whole", "cut", "damaged"):
        (tmp_path / name).mkdir()
        path = encode(tmp_path / name / "a.mp4", "mpeg4", options={"movflags": "faststart"})
        data = bytearray(path.read_bytes())
        if name == "cut":
            del data[-2000:]
        elif name == "damaged":
            data[len(data) // 2 : len(data) // 2 + 60] = np.random.default_rng(0).bytes(60)
        path.write_bytes(data)
        (tmp_path / name / "groundtruth.txt").write_text("5,5,20,20\n" * len(VideoFrames(path)))
    findings = run(readers.folder, tmp_path, strict=True).findings
    assert {(found.kind, found.sequence) for found in findings if found.kind != "duplicate_boxes"} == {
        ("lost", "cut"), ("lost", "damaged"),
    }  # fmt: skip
    texts = [found.text for found in findings if found.kind == "lost"]
    assert any(str(tmp_path / "cut" / "a.mp4") in text and "its last 2,000 bytes" in text for text in texts)
    assert any(str(tmp_path / "damaged" / "a.mp4") in text and "came with errors" in text for text in texts)


def test_videos_are_read_out_of_order_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that gives another frame out of order, as one seek and trust in stamps did, is found."""
    whole = encode(tmp_path / "a.ts", "mpeg2")
    (tmp_path / "cat").mkdir()
    remux(whole, tmp_path / "cat" / "clip.mpg", lambda packets: packets[3:], container="mpeg")
    lost = COUNT - len(VideoFrames(tmp_path / "cat" / "clip.mpg"))
    (tmp_path / CAT).write_text("5,5,20,20\n" * (COUNT - lost))
    report = run(readers.folder, tmp_path, strict=True)
    assert [finding.kind for finding in report.findings] == ["lost"], report.text()
    assert "begins in the middle of a scene" in report.findings[0].text
    asked: list[int] = []

    def other(frames: VideoFrames, index: int) -> np.ndarray:
        asked.append(index)
        return reading(frames, index if asked.count(index) == 1 else (index + 1) % len(frames))

    reading = VideoFrames.__getitem__
    monkeypatch.setattr(VideoFrames, "__getitem__", other)
    monkeypatch.setitem(check._shared, "index", readers.folder(tmp_path))
    found = check._one_video(0, 1)
    assert [finding.kind for finding in found] == ["unreadable"] * 5 + ["lost"]
    assert "is another one when it is read out of order" in found[0].text
