"""Scores: means over sequences, attributes, repetitions; written and read; result folders of anybody."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from seqtrack_lit.evaluation.metrics import mean_curves
from seqtrack_lit.evaluation.ope import GroundTruth, SequenceCurves
from seqtrack_lit.evaluation.results import write_result
from seqtrack_lit.evaluation.scores import Scores, ground_truth, score_folder, score_sequences


def write(folder: Path, name: str, boxes: np.ndarray, repetition: int = 1) -> None:
    times = np.array([5.0] + [0.02] * (len(boxes) - 1))
    write_result(folder, name, boxes, times, np.ones(len(boxes)), repetition=repetition)


@pytest.fixture
def truths(made_truth) -> list[GroundTruth]:
    attributes = {"a": ("IV", "SV"), "bb": ("SV",), "ccc": ()}
    return [made_truth(name, 20 + 5 * len(name), attributes=attributes[name]) for name in attributes]


def test_sequences_weigh_the_same_and_attributes_are_their_means(truths, made_result):
    result = score_sequences(truths, {t.name: made_result(t) for t in truths}, tracker="x", benchmark="toy")
    of = {name: value["AUC"] for name, value in result.per_sequence.items()}
    assert result.values["AUC"] == pytest.approx(np.mean(list(of.values())))
    assert result.per_attribute["SV"]["AUC"] == pytest.approx((of["a"] + of["bb"]) / 2)
    assert result.per_attribute["IV"]["AUC"] == pytest.approx(of["a"])
    assert result.per_attribute["SV"]["sequences"] == 2
    assert result.values["AUC"] == pytest.approx(np.mean(result.curves["success"]))
    assert (result.sequences, result.convention) == (3, "seqtrack")


def test_the_matlab_kit_drops_sequences_without_any_success(made_truth):
    """The success curve of b is zero everywhere (no first frame: all its frames are absent), so AUC is a's."""
    a = made_truth("a", rules="lasot", visible=np.ones(30, dtype=bool))
    b = made_truth("b", rules="lasot", visible=np.zeros(30, dtype=bool))
    boxes = {"a": a.boxes, "b": b.boxes}
    assert score_sequences([a, b], boxes, convention="lasot_matlab").values["AUC"] == pytest.approx(2000 / 21)
    assert score_sequences([a, b], boxes, convention="seqtrack").values["AUC"] == pytest.approx(1000 / 21)


def test_two_corners_are_told_from_sizes(tmp_path: Path, truths, made_result, caplog):
    """Scored as sizes they would only look like a bad tracker."""
    for truth in truths:
        boxes = made_result(truth)
        write(tmp_path / "corners", truth.name, np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1))
        boxes[:, 2:] *= 2.5  # a bad tracker, not refused
        write(tmp_path / "bad", truth.name, boxes)
    score_folder(tmp_path / "bad", truths)
    assert not caplog.records
    score_folder(tmp_path / "corners", truths)
    assert re.search(r"corners: are its boxes two corners .* by 0\.\d\d, as x,y,w,h by 0\.\d\d", caplog.text)


def test_a_box_that_cannot_be_scored_names_its_folder(tmp_path: Path, truths, made_result):
    for truth in truths:
        boxes = made_result(truth)
        boxes[5, 2] = -3
        write(tmp_path, truth.name, boxes)
    with pytest.raises(ValueError, match=rf"^{tmp_path}: x on toy, a: line 6 of the result is .*-3"):
        score_folder(tmp_path, truths, tracker="x", benchmark="toy")


def test_a_curve_without_weight_is_zero():
    blank = SequenceCurves({"success": np.ones(3)}, {"success": 0.0})
    np.testing.assert_array_equal(mean_curves([blank, blank]).curves["success"], np.zeros(3))


def test_saved_and_loaded_keyed_by_convention(tmp_path: Path, truths, made_result):
    path = tmp_path / "scores.json"
    results = {t.name: made_result(t) for t in truths}
    for convention in ("seqtrack", "trackingnet", "seqtrack"):
        score_sequences(truths, results, convention=convention, tracker="x", benchmark="toy").save(path)
    assert list(json.loads(path.read_text())) == ["seqtrack", "trackingnet"]
    loaded = Scores.load(path)
    exact = score_sequences(truths, results, tracker="x", benchmark="toy")
    assert loaded.values == {name: round(value, 1) for name, value in exact.values.items()}
    assert loaded.per_attribute["SV"]["sequences"] == 2
    loaded.save(path)
    assert Scores.load(path) == loaded
    with pytest.raises(ValueError, match="no scores by the convention 'pysot', only seqtrack, trackingnet"):
        Scores.load(path, "pysot")


@pytest.mark.parametrize("text", ["{", "[]", '{"AUC": 3}', "", '{"seqtrack": 3}', '{"seqtrack": {"tracker": "x"}}'])
def test_files_that_are_no_scores(tmp_path: Path, text: str):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(ValueError, match=r"scores\.json.*score again"):
        Scores.load(tmp_path / "scores.json")
    with pytest.raises(FileNotFoundError, match="evaluate the tracker first"):
        Scores.load(tmp_path / "none.json")


def test_a_folder_of_result_files(tmp_path: Path, truths, made_result):
    for truth in truths:
        write(tmp_path, truth.name, made_result(truth))
    result = score_folder(tmp_path, truths, tracker="x", benchmark="toy")
    exact = score_sequences(truths, {t.name: np.round(made_result(t), 4) for t in truths})
    assert result.values == pytest.approx(exact.values)
    assert result.fps == pytest.approx(50)  # 0.02 s a frame; the first, 5 s, is initialisation
    assert result.per_sequence.keys() == {"a", "bb", "ccc"}


def test_repetitions_are_averaged_as_far_as_all_have_them(tmp_path: Path, truths, made_result):
    for repetition in (1, 2):
        for truth in truths:
            write(tmp_path, truth.name, made_result(truth, seed=repetition), repetition)
    write(tmp_path, "a", made_result(truths[0], seed=3), 3)
    runs = [score_sequences(truths, {t.name: np.round(made_result(t, seed=r), 4) for t in truths}) for r in (1, 2)]
    result = score_folder(tmp_path, truths)
    assert result.values["AUC"] == pytest.approx((runs[0].values["AUC"] + runs[1].values["AUC"]) / 2)
    assert result.per_sequence["a"]["P"] == pytest.approx(np.mean([run.per_sequence["a"]["P"] for run in runs]))
    assert len(result.curves["success"]) == 21


def test_missing_results_are_named(tmp_path: Path, truths, made_result):
    write(tmp_path, "bb", made_result(truths[1]))
    with pytest.raises(FileNotFoundError, match="2 of 3 sequences of toy have no result, first a, ccc"):
        score_folder(tmp_path, truths, benchmark="toy")
    assert score_folder(tmp_path, truths, partial=True).sequences == 1
    with pytest.raises(FileNotFoundError, match="3 of 3"):
        score_folder(tmp_path / "not there", truths, partial=True)


def test_errors_name_the_tracker(truths):
    boxes = {t.name: t.boxes.copy() for t in truths}
    boxes["bb"][4, 2] = np.nan
    with pytest.raises(ValueError, match="x on toy, bb: line 5 of the result is"):
        score_sequences(truths, boxes, tracker="x", benchmark="toy")


def test_short_results_are_counted_and_unreadable_times_cost_the_speed_only(tmp_path: Path, truths, made_result):
    for truth in truths:
        write(tmp_path, truth.name, made_result(truth)[: -5 if truth.name == "bb" else None])
        (tmp_path / f"{truth.name}_time.txt").write_text("fast\n")
    result = score_folder(tmp_path, truths)
    assert (result.short, result.fps) == (1, None)


def test_unknown_convention(truths):
    with pytest.raises(ValueError, match="unknown convention 'auc'; one of seqtrack, pytracking"):
        score_sequences(truths, {t.name: t.boxes for t in truths}, convention="auc")


@pytest.mark.parametrize(
    ("benchmark", "rules"),
    [
        ("lasot", "lasot"),
        ("lasot_ext", "lasot_ext"),
        ("lasot_extension_subset", "lasot_ext"),
        ("uav123", "uav"),
        ("tnl2k", "tnl2k"),
        ("nfs", "other"),
        ("lasot_of_mine", "other"),
        ("generated", "other"),
    ],
)
def test_benchmarks_bring_their_rules(benchmark: str, rules: str):
    boxes = np.ones((3, 4))
    meta = {"cover": [8, 8, 0], "resolution": (64, 48), "attributes": ["IV"]}
    truth = ground_truth("a", boxes, None, meta, benchmark=benchmark)
    assert (truth.rules, truth.resolution, truth.attributes) == (rules, (64, 48), ("IV",))
    assert truth.cover.tolist() == [8, 8, 0]
