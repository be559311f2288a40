"""Result folders in the layouts people have them."""

from pathlib import Path

import pytest

from seqtrack_lit.evaluation.results import find_trackers

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
    found = find_trackers(tmp_path / "root", benchmark, SEQUENCES)
    assert set(found.trackers) == trackers
    assert all(folder.is_dir() for folder in found.trackers.values())


def test_folders_beside_the_benchmark_s_are_not_lost_silently(tmp_path: Path):
    for file in ("ours/lasot/bird-2.txt", "raw/other/bird-2.txt"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("1,2,3,4\n")
    found = find_trackers(tmp_path, "lasot", SEQUENCES)
    assert set(found.trackers) == {"ours"}
    assert found.passed_over == [tmp_path / "raw" / "other"]


def test_nothing_there(tmp_path: Path):
    (tmp_path / "other.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"holds no results of lasot: none of airplane-1\.txt, bird-2\.txt"):
        find_trackers(tmp_path, "lasot", SEQUENCES)
    with pytest.raises(FileNotFoundError, match="no folder"):
        find_trackers(tmp_path / "none", "lasot", SEQUENCES)
