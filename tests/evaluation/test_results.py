"""Result files: what is written is read back, a half is never taken for a whole; folders in the layouts of others."""

from pathlib import Path

import numpy as np
import pytest

from seqtrack_lit.evaluation import results

BOXES = np.array([[1.0, 2.0, 30.0, 40.0], [1.23456, -2.0, 30.5, 40.0], [-0.00001, 2.0, 30.0, 41.0]])
TIMES = np.array([0.5, 0.01, 0.02])
CONFIDENCES = np.array([1.0, 0.25, 0.0123456789])


def write(folder: Path, name: str = "bird", **more: int) -> Path:
    return results.write_result(folder, name, BOXES, TIMES, CONFIDENCES, **more)


def test_files_are_as_the_contract_says(tmp_path: Path):
    path = write(tmp_path / "ours" / "toy")
    assert path.read_text() == (
        "1.0000,2.0000,30.0000,40.0000\n1.2346,-2.0000,30.5000,40.0000\n0.0000,2.0000,30.0000,41.0000\n"
    )
    assert path.with_name("bird_time.txt").read_text() == "0.500000\n0.010000\n0.020000\n"
    assert path.with_name("bird_confidence.txt").read_text() == "1\n0.25\n0.0123457\n"
    assert sorted(p.name for p in path.parent.iterdir()) == ["bird.txt", "bird_confidence.txt", "bird_time.txt"]


def test_what_is_written_is_read_back(tmp_path: Path):
    write(tmp_path, "Vögel über See 1", repetition=2)
    assert (tmp_path / "Vögel über See 1_002.txt").is_file()
    result = results.read_result(tmp_path, "Vögel über See 1", repetition=2)
    np.testing.assert_allclose(result.boxes, BOXES, atol=5e-5)
    np.testing.assert_allclose(result.times, TIMES)
    np.testing.assert_allclose(result.confidences, CONFIDENCES, rtol=1e-5)


FORMATS = {
    "tabs and integers (pytracking family)": "10\t20\t30\t40\n11\t21\t31\t41\n",
    "commas": "10,20,30,40\n11,21,31,41\n",
    "commas and blanks": "10, 20, 30, 40\n11, 21, 31, 41\n",
    "blanks in columns": "  10  20  30  40\n  11  21  31  41\n",
    "semicolons": "10;20;30;40\n11;21;31;41\n",
    "exponents": "1e1,2.0e+01,30,40\n1.1e1,21,31,41\n",
    "carriage returns": "10,20,30,40\r\n11,21,31,41\r\n",
    "byte order mark, no last newline": "\ufeff10,20,30,40\n11,21,31,41",
    "blank lines at the end": "10,20,30,40\n11,21,31,41\n\n\n",
}


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS.keys())
def test_raw_results_of_other_trackers(tmp_path: Path, text: str):
    (tmp_path / "a.txt").write_bytes(text.encode())
    np.testing.assert_array_equal(results.read_boxes(tmp_path / "a.txt"), [[10, 20, 30, 40], [11, 21, 31, 41]])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_text_of_windows_programs(tmp_path: Path, encoding: str):
    (tmp_path / "a.txt").write_bytes("10\t20\t30\t40\r\n11\t21\t31\t41\r\n".encode(encoding))
    np.testing.assert_array_equal(results.read_boxes(tmp_path / "a.txt"), [[10, 20, 30, 40], [11, 21, 31, 41]])


def test_one_row_and_nan(tmp_path: Path):
    (tmp_path / "a.txt").write_text("1,2,NaN,4\n")
    np.testing.assert_array_equal(results.read_boxes(tmp_path / "a.txt"), [[1, 2, np.nan, 4]])


BROKEN = {
    "three numbers": ("1,2,3,4\n1,2,3\n1,2,3,4\n", r"line 2.*four numbers"),
    "cut last line": ("1,2,3,4\n1,2,", r"line 2.*half-written"),
    "eight numbers": ("1,2,3,4,5,6,7,8\n", r"line 1.*four numbers x,y,w,h; likely a polygon"),
    "word": ("1,2,3,4\n1,2,x,4\n", r"line 2.*four numbers"),
    "header": ("x,y,w,h\n1,2,3,4\n", r"line 1.*headers"),
    "blank line inside": ("1,2,3,4\n\n1,2,3,4\n", r"line 2.*blank line: delete it"),
    "a score": ("1,2,3,4,0.9\n", r"line 1.*a score behind the box or a frame number in front: leave it out"),
    "a frame number": ("1 83.2,47.8,251.1,204.5\n", r"line 1.*a frame number in front: leave it out"),
    "one decimal comma": ("83,279;47;251;204\n", r"line 1.*decimal commas: write points"),
    "UTF-16 without a mark": ("1\0,\x002\0,\x003\0,\x004\0\n\0", r"UTF-16 without its mark"),
    "decimal commas": ("1,5;2,5;3,5;4,5\n", r"line 1.*decimal commas: write points"),
    "infinite": ("1,2,3,4\n1,inf,3,4\n", r"line 2: .*beyond any image"),
    "huge": ("1,2,3,4\n1,1e300,3,4\n", r"line 2: .*beyond any image"),
    "empty": ("", r"empty"),
    "not text": ("\x00\xff\x00", r"line 1"),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_files_name_file_and_line(tmp_path: Path, text: str, message: str):
    (tmp_path / "seq-1.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"seq-1\.txt.*{message}"):
        results.read_boxes(tmp_path / "seq-1.txt")


NAMES = {
    "plain": ("boat3", "boat3.txt"),
    "prefix added": ("boat3", "uav_boat3.txt"),
    "prefix left out": ("nfs_Gymnastics", "Gymnastics.txt"),
    "GOT-10k": ("GOT-10k_Val_000001", "GOT-10k_Val_000001/GOT-10k_Val_000001_001.txt"),
    "folder per video": ("AwVdVzh1Eh0_0", "AwVdVzh1Eh0_0/AwVdVzh1Eh0_0.txt"),
}


@pytest.mark.parametrize(("name", "file"), NAMES.values(), ids=NAMES.keys())
def test_file_names_of_other_trackers(tmp_path: Path, name: str, file: str):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("1,2,3,4\n")
    assert results.find_boxes(tmp_path, name) == path
    assert results.find_boxes(tmp_path, "another") is None
    assert results.read_result(tmp_path, name).times is None


def test_column_of_another_length(tmp_path: Path):
    write(tmp_path)
    (tmp_path / "bird_time.txt").write_text("0.1\n")
    with pytest.raises(ValueError, match=r"1 lines of time, but bird\.txt has 3"):
        results.read_result(tmp_path, "bird")


def test_times_of_the_got10k_toolkit_are_columns(tmp_path: Path):
    folder = tmp_path / "bird"
    folder.mkdir()
    for repetition in (1, 2, 3):
        (folder / f"bird_{repetition:03d}.txt").write_text("1,2,3,4\n1,2,3,4\n")
    (folder / "bird_time.txt").write_text("0.1,0.2\n0.3,0.4\n")
    times = [results.read_result(tmp_path, "bird", repetition).times for repetition in (1, 2, 3)]
    np.testing.assert_array_equal(times[:2], [[0.1, 0.3], [0.2, 0.4]])
    assert times[2] is None


def test_only_whole_results_are_done(tmp_path: Path):
    frames = {"bird": 3, "longer": 4, "cut": 3, "absent": 3}
    write(tmp_path)
    write(tmp_path, "longer")  # 3 rows where 4 are wanted
    (tmp_path / "cut.txt").write_text("1,2,3,4\n1,2,3,4\n1,2")  # not written by us
    assert results.list_done(tmp_path, frames) == ["bird"]
    assert results.list_done(tmp_path / "not there", frames) == []


def test_boxes_are_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[str] = []
    monkeypatch.setattr(results, "write_atomic", lambda path, content: written.append(path.name))
    write(tmp_path)
    assert written[-1] == "bird.txt"
    assert len(written) == 3


def test_boxes_that_are_no_numbers_are_not_written(tmp_path: Path):
    boxes = BOXES.copy()
    boxes[1, 2] = np.nan
    with pytest.raises(ValueError, match="bird: the tracker's box in frame 1"):
        results.write_result(tmp_path, "bird", boxes, TIMES, CONFIDENCES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["times", "confidences"])
def test_columns_that_are_no_numbers_are_not_written(tmp_path: Path, kind: str):
    values = {"times": TIMES, "confidences": CONFIDENCES}
    values[kind] = np.array([1.0, np.nan, 0.5])
    with pytest.raises(ValueError, match=rf"bird: the tracker's {kind[:-1]} in frame 1 is nan; nothing was written"):
        results.write_result(tmp_path, "bird", BOXES, **values)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", ["lap_time", "lap_confidence", "lap_002", "lap_002_time", "lap_1234_confidence"])
def test_names_whose_result_files_would_be_one_are_refused(other: str):
    with pytest.raises(ValueError, match=rf"two sequences are called 'lap' and '{other}': a result file {other}\.txt"):
        results.require_own_files([other, "rest", "lap"])
    results.require_own_files([other, "rest", "lap2", "lap_2", "lap_time_2"])


SEQUENCES = ["airplane-1", "bird-2"]

LAYOUTS = {
    "ours": (["ours/lasot/airplane-1.txt", "kcf/lasot/bird-2.txt"], "lasot", {"ours", "kcf"}),
    "one tracker": (["lasot/airplane-1.txt", "uav123/airplane-1.txt"], "lasot", {"root"}),
    "files alone": (["airplane-1.txt", "airplane-1_time.txt"], "lasot", {"root"}),
    "pytracking family": (
        ["seqtrack/seqtrack_b256/lasot/airplane-1.txt", "seqtrack/seqtrack_b256/uav/airplane-1.txt"],
        "lasot",
        {"seqtrack_b256"},
    ),
    "repetitions of the family": (
        ["dimp/dimp50_000/lasot/bird-2.txt", "dimp/super/_001/lasot/bird-2.txt"],
        "lasot",
        {"dimp50_000", "super_001"},
    ),
    "MATLAB kit": (["SiamFC_tracking_result/bird-2.txt", "ECO_tracking_result/bird-2.txt"], "lasot", {"SiamFC", "ECO"}),
    "official name of the extension": (["t/lasot_extension_subset/bird-2.txt"], "lasot_ext", {"t"}),
    "prefix": (["t/uav/uav_bird-2.txt"], "uav123", {"t"}),
    "GOT-10k": (["t/bird-2/bird-2_001.txt", "t/bird-2/bird-2_time.txt"], "got10k_val", {"t"}),
    "other benchmarks with the same sequence": (["t/otb/bird-2.txt", "t/uav/bird-2.txt"], "uav123", {"t"}),
    "a tracker called as another benchmark": (
        ["baseline/lasot/bird-2.txt", "baseline/uav/bird-2.txt"],
        "lasot",
        {"baseline"},
    ),
    "same name twice": (["a/x/lasot/bird-2.txt", "b/x/lasot/bird-2.txt"], "lasot", {"a/x/lasot", "b/x/lasot"}),
    "own benchmark": (["t/mine/bird-2.txt"], "mine", {"t"}),
    "a folder per sequence": (["t/bird-2/bird-2.txt", "t/airplane-1/airplane-1.txt"], "trackingnet", {"t"}),
    "a benchmark called as its sequence": (["t/bird-2/bird-2.txt", "t/bird-2/airplane-1.txt"], "bird-2", {"t"}),
}


@pytest.mark.parametrize(("files", "benchmark", "trackers"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layouts(tmp_path: Path, files: list[str], benchmark: str, trackers: set[str]):
    for file in files:
        path = tmp_path / "root" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1,2,3,4\n")
    found = results.find_trackers(tmp_path / "root", benchmark, SEQUENCES)
    assert set(found.trackers) == trackers
    assert all(folder.is_dir() for folder in found.trackers.values())


def test_folders_beside_the_benchmark_s_are_not_lost_silently(tmp_path: Path):
    for file in ("ours/lasot/bird-2.txt", "raw/other/bird-2.txt"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("1,2,3,4\n")
    found = results.find_trackers(tmp_path, "lasot", SEQUENCES)
    assert set(found.trackers) == {"ours"}
    assert found.passed_over == [tmp_path / "raw" / "other"]


def test_nothing_there(tmp_path: Path):
    (tmp_path / "other.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"holds no results of lasot: none of airplane-1\.txt, bird-2\.txt"):
        results.find_trackers(tmp_path, "lasot", SEQUENCES)
    with pytest.raises(FileNotFoundError, match="no folder"):
        results.find_trackers(tmp_path / "none", "lasot", SEQUENCES)
