"""Every convention equals the toolkit it is named after, on every recorded case, to 1e-9."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqtrack_lit.evaluation import ope as overlap
from seqtrack_lit.evaluation import toolkits
from seqtrack_lit.evaluation.metrics import CONVENTIONS, mean_curves, values_of
from seqtrack_lit.evaluation.ope import GroundTruth, Rules

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
RULES: dict[str, Rules] = {"lasot": "lasot", "lasot_extension_subset": "lasot_ext", "uav": "uav", "tnl2k": "tnl2k"}


def load(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / name).read_text())


INPUTS, FAMILY, OTHERS = load("ope_inputs.json"), load("ope_pytracking_family.json"), load("ope_other_toolkits.json")
# ostrack's evaluation is the same code as seqtrack's; its recorded answers are a second witness.
FAMILY_CONVENTION = {"pytracking": "pytracking", "seqtrack": "seqtrack", "ostrack": "seqtrack"}
OTHER_CONVENTION = {
    "got10k_toolkit_otb_style": "got10k_otb",
    "lasot_matlab": "lasot_matlab",
    "pysot": "pysot",
    "trackingnet_devkit": "trackingnet",
    "got10k_ao": "got10k_ao",
}
# names in the recorded files -> (our name, our percent per recorded unit)
VALUES = {
    "got10k_toolkit_otb_style": {
        "success_score": ("AUC", 100),
        "precision_score": ("P", 100),
        "norm_precision_auc": ("PNormAUC", 100),
        "norm_precision_at_0_2": ("PNorm", 100),
        "success_rate": ("OP50", 100),
    },
    "lasot_matlab": {"AUC": ("AUC", 1), "P": ("P", 1), "PNorm": ("PNorm", 1)},
    "pysot": {"AUC": ("AUC", 1), "P": ("P", 1), "PNorm": ("PNorm", 1)},
    "trackingnet_devkit": {
        "success": ("AUC", 1),
        "precision": ("P", 1),
        "norm_precision": ("PNorm", 1),
        "coverage": ("coverage", 1),
    },
    "got10k_ao": {"ao": ("AO", 100), "sr50": ("SR50", 100), "sr75": ("SR75", 100)},
}


def case(name: str) -> tuple[GroundTruth, np.ndarray]:
    x = INPUTS[name]
    optional = {key: None if x[key] is None else np.array(x[key]) for key in ("visible", "cover")}
    return (
        GroundTruth(
            name,
            np.array(x["gt"], dtype=np.float64),
            None if optional["visible"] is None else optional["visible"].astype(bool),
            optional["cover"],
            None if x["resolution"] is None else tuple(x["resolution"]),
            rules=RULES.get(x["dataset"], "other"),
        ),
        np.array(x["pred"], dtype=np.float64),
    )


def equal(actual: Any, recorded: Any) -> None:
    recorded = np.array([np.inf if v is None else v for v in np.atleast_1d(np.array(recorded, dtype=object))], float)
    np.testing.assert_allclose(np.atleast_1d(actual), recorded, rtol=0, atol=1e-9)


FAMILY_CASES = [(toolkit, name) for toolkit, cases in FAMILY.items() for name in cases]
OTHER_CASES = [(t, name) for name, toolkits in OTHERS.items() if not name.startswith("_") for t in toolkits]


def test_no_case_is_left_out():
    assert set(FAMILY) == set(FAMILY_CONVENTION)
    assert all(set(cases) == set(INPUTS) for cases in FAMILY.values())
    assert {toolkit for toolkit, _ in OTHER_CASES} == set(OTHER_CONVENTION)
    assert {name for _, name in OTHER_CASES} == set(INPUTS)
    assert {name for name in OTHERS if name.startswith("_")} == {
        "_got10k_overall",
        "_trackingnet_dataset",
        "_trackingnet_dummy",  # the devkit's own zips: its inputs are not recorded
    }
    assert set(FAMILY_CONVENTION.values()) | set(OTHER_CONVENTION.values()) == set(CONVENTIONS) - {
        "mean_iou"
    }  # of no toolkit
    assert len(FAMILY_CASES) == 48
    assert Counter(toolkit for toolkit, _ in OTHER_CASES) == {
        "got10k_toolkit_otb_style": 16,
        "lasot_matlab": 14,  # not NaN ground truth, not short results
        "pysot": 15,  # not short results
        "trackingnet_devkit": 10,  # not absent targets, not short results
        "got10k_ao": 2,
    }


@pytest.mark.parametrize(("toolkit", "name"), FAMILY_CASES)
def test_pytracking_family(toolkit: str, name: str):
    truth, pred = case(name)
    recorded = FAMILY[toolkit][name]
    errors = overlap.robust_errors(truth, pred, positive="all" if toolkit == "pytracking" else "size")
    for key in ("iou", "center", "norm"):
        equal(getattr(errors, key), recorded[key])
    convention = CONVENTIONS[FAMILY_CONVENTION[toolkit]]
    measurement = convention.measure(truth, pred)
    for key in ("success", "precision", "norm_precision"):
        equal(measurement.curves[key], recorded[key])
    values = values_of(convention, measurement)
    for key in ("AUC", "P", "PNorm", "OP50", "OP75"):
        equal(values[key], recorded[key])
    assert (len(truth.boxes), errors.valid.sum()) == (recorded["n_frames"], recorded["n_valid"])
    equal(errors.iou[errors.valid].mean(), recorded["mean_iou_valid"])
    only_valid = overlap.ope_curves(errors, int(errors.valid.sum()))["success"].mean()
    equal(100 * only_valid, recorded["AUC_excl_invalid"])


@pytest.mark.parametrize(("toolkit", "name"), OTHER_CASES)
def test_other_toolkits(toolkit: str, name: str):
    truth, pred = case(name)
    recorded = dict(OTHERS[name][toolkit])
    convention = CONVENTIONS[OTHER_CONVENTION[toolkit]]
    measurement = convention.measure(truth, pred)
    values = values_of(convention, measurement)
    for key, (ours, unit) in VALUES[toolkit].items():
        equal(values[ours], recorded.pop(key) * unit)
    if toolkit == "got10k_ao":
        equal(toolkits.got10k_ious(truth, pred), recorded.pop("ious"))
        equal(measurement.curves["success"], recorded.pop("succ_curve"))
        assert measurement.weights["overlap"] == recorded.pop("n")
    if "success" in recorded:
        equal(measurement.curves["success"], recorded.pop("success"))
    assert not recorded, "recorded numbers that were not compared"


def test_got10k_pools_frames_of_all_videos():
    """(43 * .526553 + 30 * .393807) / 73 = .471999, not the mean of the two sequences, .460180."""
    recorded = OTHERS["_got10k_overall"]
    convention = CONVENTIONS["got10k_ao"]
    measurements = [convention.measure(*case(name)) for name in ("got_a", "got_b")]
    values = values_of(convention, mean_curves(measurements))
    equal([values["AO"], values["SR50"], values["SR75"]], [100 * recorded[k] for k in ("ao_pooled", "sr50", "sr75")])
    equal(np.mean([m.curves["overlap"][0] for m in measurements]), recorded["mean_of_sequence_ao"])


def test_trackingnet_averages_videos():
    recorded = OTHERS["_trackingnet_dataset"]
    convention = CONVENTIONS["trackingnet"]
    measurements = [convention.measure(*case(name)) for name in ("otb_plain", "otb_perfect", "got_a")]
    values = values_of(convention, mean_curves(measurements))
    for key, (ours, unit) in VALUES["trackingnet_devkit"].items():
        equal(values[ours], recorded[key] * unit)
