"""VOT's measures equal the toolkit's; trajectories in its layout, text and binary."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.vot import make_vot

from seqtrack_lit.data.sets.vot import annotation, vot2020
from seqtrack_lit.data.video.regions import (
    Mask,
    Polygon,
    Rectangle,
    Region,
    Regions,
    Special,
    VotAnnotation,
    format_region,
    parse_region,
)
from seqtrack_lit.evaluation.metrics import convention_of
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.evaluation.vot import RunOverlaps, as_read, counted, is_empty, multistart, overlap, run_overlaps
from seqtrack_lit.evaluation.vot_results import BinaryRegions, done, read_trajectory, runs_of, write_trajectory
from seqtrack_lit.evaluation.vot_scores import score_experiment

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
ORACLE: dict[str, Any] = json.loads((GOLDEN / "vot_multistart.json").read_text())


@pytest.mark.parametrize("tracker", ORACLE)
def test_eao_accuracy_robustness_equal_the_toolkit_s(tracker: str) -> None:
    recorded, result = ORACLE[tracker], ORACLE[tracker]["_result"]
    sequences = [recorded[name] for name in recorded if not name.startswith("_")]
    runs = [
        [RunOverlaps(np.array(run["overlaps"], float), np.array(run["gt_empty"], bool)) for run in of]
        for of in sequences
    ]
    assert [[run.progress for run in of] for of in runs] == [[run["progress"] for run in of] for of in sequences]
    lengths = [max(len(run["overlaps"]) for run in of) for of in sequences]
    found = multistart(runs, lengths, low=result["low"], high=result["high"])
    assert found.eao == pytest.approx(result["EAO"], abs=1e-12, rel=0)
    assert found.accuracy == pytest.approx(result["A"], abs=1e-12, rel=0)
    assert found.robustness == pytest.approx(result["R"], abs=1e-12, rel=0)
    np.testing.assert_allclose(found.curve, result["curve"], rtol=0, atol=1e-12)


def test_overlap_and_emptiness_equal_the_toolkit_s() -> None:
    recorded = json.loads((GOLDEN / "vot_regions.json").read_text())
    width, height = recorded["size"]
    between = 0
    for first, second, value, empty in recorded["cases"]:
        one, two = parse_region(first, "first"), parse_region(second, "second")
        found = overlap(as_read(one), as_read(two), (width, height))
        assert found == pytest.approx(value, abs=1e-15, rel=0), (first, second)
        assert is_empty(two) == empty, second
        between += 0 < value < 1
    assert between > 50


def test_a_run_fails_at_the_first_of_ten_bad_frames() -> None:
    """Frame 0 counts as bad; a frame without target or a good one begins the count anew."""

    def progress(bad: list[int], empty: list[int] = (), length: int = 30) -> int:  # type: ignore[assignment]
        overlaps = np.ones(length)
        overlaps[[0, *bad]] = 0.1
        return RunOverlaps(overlaps, np.isin(np.arange(length), empty)).progress

    assert progress([]) == 30
    assert progress(list(range(1, 10))) == 0  # with frame 0 these are ten
    assert progress(list(range(2, 11))) == 30  # nine
    assert progress(list(range(2, 12))) == 2
    assert progress(list(range(2, 14)), empty=[6]) == 30  # four, then seven
    assert progress(list(range(20, 30))) == 20


def test_the_curve_by_hand() -> None:
    """One whole run of 4 frames, one failed of 12: at j = 2 means of two; at j = 5 the failed one alone, 0.5 / 5."""
    whole = RunOverlaps(np.array([0, 0.8, 0.6, 0.4]), np.zeros(4, bool))
    failed = RunOverlaps(np.array([0, 0.5, *[0.0] * 10]), np.zeros(12, bool))
    curve = multistart([[whole], [failed]], [4, 12], low=2, high=20).curve
    assert failed.progress == 2
    np.testing.assert_allclose(curve[[0, 1, 2, 3]], [0, 0.65, (0.7 + 0.25) / 2, (0.6 + 0.5 / 3) / 2])
    np.testing.assert_allclose(curve[[5, 11, 12, 19]], [0.1, 0.5 / 11, 0.5 / 11, 0.5 / 18])  # j - 1 from its end on


def test_frames_that_count_without_restarts() -> None:
    answers, truths = np.array([1, -1, 0, -1, -1]), np.array([-1, -1, -1, 0, 1])
    assert counted(answers, truths).tolist() == [False, True, False, False, True]
    assert counted(answers, truths, burnin=3).tolist() == [False, False, False, False, True]


def known_of(tmp_path: Path, **options: int) -> Any:
    make_vot(tmp_path / "set", **options)
    index = vot2020(tmp_path / "set", complete=False)
    return [annotation(index.root, name) for name in index.names]


def test_runs_of_a_sequence(tmp_path: Path) -> None:
    known = known_of(tmp_path, sequences=1, frames=24)[0]  # anchors 0, 8 forwards, 16, 23 backwards
    runs = runs_of("baseline", known)
    assert [run.stem for run in runs] == ["seq0_00000000", "seq0_00000008", "seq0_00000016", "seq0_00000023"]
    assert [(run.order[0], run.order[-1], run.frames) for run in runs] == [
        (0, 23, 24),
        (8, 23, 16),
        (16, 0, 17),
        (23, 0, 24),
    ]
    assert [run.stem for run in runs_of("unsupervised", known)] == ["seq0_001"]


def test_trajectories_of_the_truth_score_one(tmp_path: Path) -> None:
    """All overlaps are 1 but the given frame's 0: A = (frames - runs) / frames; the absent frame 5 counts as well."""
    annotations = known_of(tmp_path, sequences=2, frames=24)
    for known in annotations:
        for kind in ("baseline", "unsupervised"):
            for run in runs_of(kind, known):
                ones = np.ones(run.frames)
                write_trajectory(tmp_path / kind, run, [format_region(known.region(i)) for i in run.order], ones, ones)
    found = score_experiment(tmp_path / "baseline", "baseline", annotations, tracker="t", low=2, high=8)
    frames = sum(run.frames for known in annotations for run in runs_of("baseline", known))
    starts = sum(len(runs_of("baseline", known)) for known in annotations)
    assert found.values["R"] == 100
    # of the absent frame only special 0 was written: it overlaps an absent target with 1
    assert found.values["A"] == pytest.approx(100 * (frames - starts) / frames)
    assert found.values["EAO"] == pytest.approx(100)
    assert found.per_attribute["occlusion"]["sequences"] == 1
    assert found.per_attribute["camera_motion"]["sequences"] == 2
    assert found.fps == pytest.approx(1)
    without = score_experiment(tmp_path / "unsupervised", "unsupervised", annotations, tracker="t")
    assert without.values == {"A": 100.0}
    for one in (found, without):
        one.save(tmp_path / "scores.json")
    assert Scores.load(tmp_path / "scores.json", "vot_baseline").curves["eao"][1:] == [100.0] * 7
    digits = json.loads((tmp_path / "baseline" / "analysis.json").read_text())
    assert digits["values"]["A"] == (frames - starts) / frames
    with pytest.raises(ValueError, match="vot_baseline is of VOT"):
        convention_of("vot_baseline")


def _binary(regions: list[Region]) -> bytes:
    """The toolkit's binary form, written by hand."""
    out = struct.pack("<hI", 1, len(regions))
    for region in regions:
        if isinstance(region, Special):
            out += struct.pack("<BI", 0, region.code)
        elif isinstance(region, Rectangle):
            out += struct.pack("<Bffff", 1, region.x, region.y, region.w, region.h)
        elif isinstance(region, Polygon):
            values = region.points.ravel().tolist()
            out += struct.pack(f"<BH{len(values)}f", 2, len(values) // 2, *values)
        else:
            runs = [int(part) for part in format_region(region).split(",")[4:]]
            height, width = region.pixels.shape
            out += struct.pack(f"<BhhHHH{len(runs)}H", 3, region.x, region.y, width, height, len(runs), *runs)
    return out


REGIONS: list[Region] = [
    Special(1),
    Rectangle(1.5, 2.0, 3.0, 4.25),
    Polygon(np.array([[0, 0], [4, 0], [4, 3.5]])),
    Mask(np.array([[0, 1, 1], [1, 0, 0]], bool), 10, -2),
]


def _read_binary(path: Path) -> BinaryRegions:
    return BinaryRegions(path, path.read_bytes())


def test_binary_trajectories(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(_binary(REGIONS))
    regions = _read_binary(tmp_path / "a.bin")
    assert [format_region(region) for region in regions] == [format_region(region) for region in REGIONS]


def test_a_mask_of_one_column(tmp_path: Path) -> None:
    """Recorded: beside a target of two columns the toolkit computes 0.5 from a .bin and 0 from text."""
    thin = Mask(np.ones((4, 1), bool), 10, 20)
    (tmp_path / "a.bin").write_bytes(_binary([Special(1), thin]))
    text = [Special(1), parse_region("m10,20,1,4,0,4", "")]
    truth = Regions(tmp_path, ["m10,20,2,4,0,8"] * 2)
    known = VotAnnotation("a", truth, np.array([1, 0]), {}, (40, 30), 30.0)
    found = run_overlaps(known, [range(2), range(2)], [_read_binary(tmp_path / "a.bin"), text])
    assert [run.overlaps.tolist() for run in found] == [[0, 0.5], [0, 0]]


@pytest.mark.parametrize("cut", [1, 5, 8, 20, 35, -1])
def test_binary_trajectories_that_are_cut_off(cut: int, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(_binary(REGIONS)[:cut])
    with pytest.raises(ValueError, match=r"a\.bin"):
        list(_read_binary(tmp_path / "a.bin"))


def test_binary_trajectories_that_lie(tmp_path: Path) -> None:
    for data in (
        _binary(REGIONS) + b"x",
        struct.pack("<hI", 1, 2**32 - 1),
        struct.pack("<hIB", 1, 1, 9),
        b"12,3\n" * 9,
    ):
        (tmp_path / "a.bin").write_bytes(data)
        with pytest.raises(ValueError, match=r"a\.bin"):
            list(_read_binary(tmp_path / "a.bin"))


def test_what_is_done(tmp_path: Path) -> None:
    known = known_of(tmp_path, sequences=1, frames=12)[0]
    runs = runs_of("baseline", known)
    ones = np.ones(runs[0].frames)
    path = write_trajectory(tmp_path / "out", runs[0], ["1"] * runs[0].frames, ones, ones)
    assert done(tmp_path / "out", runs) == [runs[0]]
    path.write_text("1\n0\n")
    assert done(tmp_path / "out", runs) == []
    with pytest.raises(ValueError, match="has 2 rows; this run has 12 frames"):
        read_trajectory(tmp_path / "out", runs[0])
    with pytest.raises(FileNotFoundError, match="no trajectory"):
        read_trajectory(tmp_path / "out", runs[1])
