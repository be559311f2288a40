"""Annotation files: odd but clear ones are read, broken ones are named with file and line, never misread."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from seqtrack_lit.data.sets.annotations import has_area, read_boxes, read_flags, read_meta, read_vatic


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,4\n5,6,7,8\n",
        "1,2,3,4\r\n5,6,7,8",
        "1\t2\t3\t4\n5\t6\t7\t8\n\n\n",
        " 1  2 3 4 \n5 6 7 8",
        "1, 2, 3, 4\n5,\t6,\t7,\t8",
        "1,2,3,4\n5 6 7 8",
        "1 2 3 4\n5,6,7,8",
        "1;2;3;4\n5;6;7;8",
        "1,2,3,4,\n5,6,7,8,",
        "\ufeff1,2,3,4\n5,6,7,8",
        "1.0,2e0,+3,4.\n5,6,7,8",
    ],
)
def test_boxes_in_many_forms(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text, encoding="utf-8", newline="")
    np.testing.assert_array_equal(read_boxes(tmp_path / "a.txt"), [[1, 2, 3, 4], [5, 6, 7, 8]])


def test_nan_and_negative_stay(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("NaN,NaN,NaN,NaN\n-1,0,-3.5,0\n")
    boxes = read_boxes(tmp_path / "a.txt")
    np.testing.assert_array_equal(boxes, [[np.nan] * 4, [-1, 0, -3.5, 0]])
    assert has_area(np.array([[0, 0, 1, 1], [0, 0, 0, 1], [0, 0, -1, 1], [np.nan] * 4])).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.txt is empty"),
        ("\n \n", "a.txt is empty"),
        ("1,2,3,4\n\n5,6,7,8", "line 2: "),
        ("1,2,3,4\n5,6,7\n", "line 2: 3 numbers, expected 4"),
        ("1,2,3,4\n5,6,7,8,9\n", "line 2: 5 numbers, expected 4"),
        ("1,2,3\n5,6,7,8,9\n", "line 1: 3 numbers"),
        ("1,2,3,4\n5,,7,8\n", "line 2: '' is not a number"),
        ("1,2,x,4\n", "line 1: 'x' is not a number"),
        ("1,2,1_0,4\n", "line 1: '1_0' is not a number"),
        ("1,2,0x10,4\n", "line 1: '0x10' is not a number"),
        ("1,2,3,4\n1,2,inf,4\n", "line 2: box 1,2,inf,4 lies beyond any picture"),
        ("1,2,3,4\n1e9,1e9,5,5\n", "line 2: box 1e+09,1e+09,5,5 lies beyond any picture"),
        ("<html>\n", "line 1: '<html>' is not a number"),
        ("1,2,3,4 # comment\n", "line 1: '#' is not a number"),
        ("10,5 20,5\n", "line 1: commas beside blanks"),  # two numbers with decimal commas, not four
    ],
)
def test_broken_boxes_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=r"a\.txt") as error:
        read_boxes(tmp_path / "a.txt")
    assert message in str(error.value)


def test_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"1,2,3,4\n\xff\xfe")
    with pytest.raises(ValueError, match=r"a\.txt is not a text file \(byte 8\)"):
        read_boxes(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError, match=r"b\.txt is missing; see docs/datasets\.md"):
        read_boxes(tmp_path / "b.txt")
    with pytest.raises(ValueError, match="is no regular file but a folder, a pipe or a device"):
        read_boxes(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_text_of_other_systems(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("1,2,3,4\r\n5,6,7,8\r\n".encode(encoding))
    assert read_boxes(tmp_path / "a.txt").tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert read_flags_of(tmp_path / "b.txt", "0,1\r\n".encode(encoding)) == [0, 1]


def read_flags_of(path: Path, content: bytes) -> list[int]:
    path.write_bytes(content)
    return read_flags(path, 2).tolist()


def test_what_is_no_text_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("1,2,3,4\n".encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"a\.txt holds zero bytes, as UTF-16 without its mark does; save it as UTF-8"):
        read_boxes(tmp_path / "a.txt")
    (tmp_path / "odd.txt").write_bytes(b"\xff\xfe1,2")  # UTF-16 cut in the middle of a letter
    with pytest.raises(ValueError, match=r"odd\.txt is not a text file"):
        read_boxes(tmp_path / "odd.txt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.timeout(30)
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "device.txt").symlink_to("/dev/zero")
    for name in ("pipe.txt", "device.txt"):
        with pytest.raises(ValueError, match="is no regular file"):
            read_boxes(tmp_path / name)


number = st.floats(-1e5, 1e5).map(repr) | st.integers(-9, 9999).map(str) | st.just("NaN")
line = st.tuples(number, number, number, number)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(line, min_size=1, max_size=6), separator=st.sampled_from([",", "\t", " ", ", ", ";"]))
def test_what_is_written_is_read(tmp_path: Path, rows: list[tuple[str, ...]], separator: str) -> None:
    (tmp_path / "a.txt").write_text("\n".join(separator.join(row) for row in rows))
    expected = np.array([[float(value) for value in row] for row in rows])
    np.testing.assert_array_equal(read_boxes(tmp_path / "a.txt"), expected)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    rows=st.lists(line, min_size=2, max_size=5),
    place=st.integers(0, 60),
    cut=st.integers(0, 3),
    put=st.sampled_from(["", "\n", ",", " ", "x", "\t,", "nan", '"', "\0", "--", ",,", "1e"]),
)
def test_a_broken_file_is_never_misread(
    tmp_path: Path, rows: list[tuple[str, ...]], place: int, cut: int, put: str
) -> None:
    """One place of the text is damaged: an error, or the numbers that stand on each line, none shifted or merged."""
    text = "\n".join(",".join(row) for row in rows)
    place = min(place, len(text))
    broken = text[:place] + put + text[place + cut :]
    assume(broken != text)
    (tmp_path / "a.txt").write_text(broken, newline="")
    try:
        boxes = read_boxes(tmp_path / "a.txt")
    except ValueError:
        return
    lines = broken.rstrip().split("\n")
    assert len(boxes) == len(lines)
    for row, written in zip(boxes, lines, strict=True):
        assert [f"{value:g}" for value in row] == [
            f"{float(value):g}"
            for value in written.strip().rstrip(",").replace("\t", ",").replace(" ", ",").split(",")
            if value
        ]


@pytest.mark.parametrize("text", ["0,1,0", "0\n1\n0\n", "0 1 0", "0,1,0,\n", "0.0,1.0,0.0"])
def test_flags_on_one_line_or_many(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert read_flags(tmp_path / "a.txt", 3).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1", "2 flags, but 3 boxes"),
        ("", "0 flags, but 3 boxes"),
        ("0,1,2", "flag 3: '2', expected a whole number from 0 to 1"),
        ("0,x,0", "flag 2: 'x'"),
        ("0,0.5,0", "flag 2: '0.5'"),
        ("0,-1,0", "flag 2: '-1'"),
        ("0,nan,0", "flag 2: 'nan'"),
    ],
)
def test_broken_flags_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=r"a\.txt") as error:
        read_flags(tmp_path / "a.txt", 3)
    assert message in str(error.value)


@pytest.mark.parametrize("first", [0, 1])
def test_vatic_corners(tmp_path: Path, first: int) -> None:
    rows = f'0 10 20 30 60 {first} 0 0 0 "a b"\n0 11 21 31 61 {first + 1} 1 1 1 "a b"\n'
    (tmp_path / "a.txt").write_text(rows)
    assert read_vatic(tmp_path / "a.txt").tolist() == [[10, 20, 20, 40], [11, 21, 20, 40]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("0 10 20 30 60 1 0 0\n", "line 1: 8 numbers, expected 9"),
        ('0 10 20 30 60 1 0 0 0 "a"\n1 10 20 30 60 2 0 0 0 "a"\n', "line 2: a second target"),
        ('0 10 20 30 60 1 0 0 0 "a"\n0 10 20 30 60 1 0 0 0 "a"\n', "line 2: frame 1 after frame 1"),
        ('0 10 20 30 60 0 0 0 0 "a"\n0 10 20 30 60 2 0 0 0 "a"\n', "line 2: frame 2 after frame 0"),  # a lost row
        ('0 10 20 30 60 1.5 0 0 0 "a"\n', "line 1: frame 1.5 first"),
        ('0 10 20 30 60 nan 0 0 0 "a"\n', "line 1: frame nan first"),
        ('0 10 20 30 60 7 0 0 0 "a"\n', "line 1: frame 7 first"),
        ('0 10 20 inf 60 1 0 0 0 "a"\n', "line 1: box 10,20,inf,40 lies beyond any picture"),
    ],
)
def test_broken_vatic(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError) as error:
        read_vatic(tmp_path / "a.txt")
    assert message in str(error.value)


def test_meta_by_key(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text("[METAINFO]\nurl: https://a.b/c?d\nresolution: (1920, 1080)\nmotion: \n")
    assert read_meta(tmp_path / "a.ini") == {"url": "https://a.b/c?d", "resolution": "(1920, 1080)"}
