"""The reader of VOT2020's layout: boxes around regions, anchors, tags; files that are damaged."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.data.vot import make_vot, write

from seqtrack_lit.data.sets.layout import Problems, table
from seqtrack_lit.data.sets.vot import annotation, vot2020
from seqtrack_lit.data.video.regions import box_of, format_region


def test_boxes_anchors_and_tags(tmp_path: Path) -> None:
    truth = make_vot(tmp_path, sequences=2, frames=24)
    index = vot2020(tmp_path, complete=False)
    assert index.names == ["seq0", "seq1"]
    for place, name in enumerate(index.names):
        video, known = index[place], annotation(index.root, name)
        np.testing.assert_array_equal(video.boxes, [box_of(region) for region in truth[name]])
        assert not video.visible[5]
        assert video.visible.sum() == len(video) - 1
        assert [format_region(known.region(i)) for i in range(len(known))] == [format_region(r) for r in truth[name]]
        assert video.frames[0].shape == (72, 96, 3)
        assert (known.size, known.fps, video.meta["resolution"]) == ((96, 72), 30.0, (96, 72))
    known = annotation(index.root, "seq0")
    assert np.flatnonzero(known.anchors).tolist() == [0, 8, 16, 23]
    assert known.anchors[[0, 8, 16, 23]].tolist() == [1, 1, -1, -1]
    assert index[0].meta["attributes"] == ("camera_motion",)
    assert index[1].meta["attributes"] == ("camera_motion", "occlusion")
    assert np.flatnonzero(known.tags["camera_motion"]).tolist() == list(range(1, 24, 4))


def test_the_sequences_folder_itself_and_the_published_names(tmp_path: Path) -> None:
    make_vot(tmp_path, sequences=1)
    assert vot2020(tmp_path / "sequences", complete=False).names == ["seq0"]
    assert len(table("vot2020")) == len({row["name"] for row in table("vot2020")}) == 60
    with pytest.raises(FileNotFoundError, match="60 of 60 sequences are missing"):
        vot2020(tmp_path)


def test_short_files_count_as_zeros(tmp_path: Path) -> None:
    """As in the toolkit: the last frames have no ground truth, no anchor and no tag."""
    make_vot(tmp_path, sequences=1, frames=12)
    place = tmp_path / "sequences" / "seq0"
    for name, keep in (("groundtruth.txt", 10), ("anchor.value", 1), ("camera_motion.tag", 3)):
        file = place / name
        file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[:keep]))
    index = vot2020(tmp_path, complete=False)
    known = annotation(index.root, "seq0")
    assert len(known) == len(index[0]) == 12
    assert known.anchors.tolist() == [1] + 11 * [0]
    assert index[0].boxes[10:].tolist() == [[0, 0, 0, 0]] * 2
    assert np.flatnonzero(known.tags["camera_motion"]).tolist() == [1]


def _replaced(name: str, line: int, text: str) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        lines = (place / name).read_text().splitlines()
        lines[line - 1] = text
        write(place / name, "\n".join(lines) + "\n")

    return change


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "mask": (_replaced("groundtruth.txt", 3, "m1,2,3,4,99"), r"groundtruth\.txt, line 3: run lengths"),
    "binary": (lambda p: (p / "groundtruth.txt").write_bytes(b"\xff\xfe\0\1\2"), r"groundtruth\.txt"),
    "more rows than frames": (
        lambda p: write(p / "groundtruth.txt", "1,2,3,4\n" * 13),
        r"groundtruth\.txt has 13 rows.* 12 frames",
    ),
    "absent at the start": (_replaced("groundtruth.txt", 1, "0"), r"groundtruth\.txt, line 1: no target"),
    "absent at an anchor": (_replaced("groundtruth.txt", 12, "nan,1,1,1"), r"line 12: no target"),
    "no anchor": (lambda p: write(p / "anchor.value", "0\n"), r"anchor\.value: no anchor"),
    "anchor that is no number": (_replaced("anchor.value", 2, "yes"), r"anchor\.value, line 2: 'yes' is no number"),
    "too many anchors": (lambda p: write(p / "anchor.value", "1\n" * 13), r"anchor\.value, line 13"),
    "no anchors' file": (lambda p: (p / "anchor.value").unlink(), r"anchor\.value is missing"),
    "tag": (_replaced("camera_motion.tag", 4, "?"), r"camera_motion\.tag, line 4"),
    "frame missing": (lambda p: (p / "color" / "00000007.jpg").unlink(), r"12 rows, but .*color has 11 frames"),
    "leads out": (lambda p: write(p / "sequence", "channels.color=../x/%08d.jpg\n"), r"channels\.color is '\.\.'"),
    "pattern": (lambda p: write(p / "sequence", "channels.color=color/%s.jpg\n"), r"channels\.color="),
    "fps": (lambda p: write(p / "sequence", "fps=-3\n"), r"sequence: fps='-3'"),
    "several targets": (lambda p: write(p / "groundtruth_2.txt", "0\n"), r"groundtruth_2\.txt: several targets"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_one_line(kind: str, tmp_path: Path) -> None:
    make_vot(tmp_path, sequences=1, frames=12)
    damage, message = DAMAGES[kind]
    damage(tmp_path / "sequences" / "seq0")
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        vot2020(tmp_path, complete=False)
    assert "\n" not in str(caught.value)


def test_problems_are_collected(tmp_path: Path) -> None:
    make_vot(tmp_path, sequences=2, frames=12)
    (tmp_path / "sequences" / "seq1" / "anchor.value").unlink()
    problems = Problems()
    assert vot2020(tmp_path, complete=False, problems=problems).names == ["seq0"]
    assert [(one.kind, one.sequence) for one in problems.findings] == [("missing", "seq1")]


def test_the_index_follows_the_annotation(tmp_path: Path) -> None:
    make_vot(tmp_path / "set", sequences=1, frames=12)
    first = vot2020(tmp_path / "set", complete=False, cache=tmp_path / "cache")
    assert vot2020(tmp_path / "set", complete=False, cache=tmp_path / "cache").hash == first.hash
    write(tmp_path / "set" / "sequences" / "seq0" / "size_change.tag", "1\n")
    again = vot2020(tmp_path / "set", complete=False, cache=tmp_path / "cache")
    assert again[0].meta["attributes"] == ("camera_motion", "size_change")
