"""Scores by tracker and seed, from kept results and from the folders of runs; the paper's rows beside them."""

import json
import re
from pathlib import Path

import pytest

from seqtrack_lit.cli.data import training_sets
from seqtrack_lit.cli.hydra.runtime import config_folder
from seqtrack_lit.evaluation.tables import paper_ablations
from seqtrack_lit.runs.compare import kept_values, run_values, spread

EXPERIMENTS = config_folder().parent / "experiments"


def test_kept_results() -> None:
    values = kept_values(EXPERIMENTS / "tab4_ablations/scores.json")
    assert values["baseline"] == [51.8, 53.6, 50.2]
    assert spread(values["baseline"]) == pytest.approx((51.9, 1.7), abs=0.04)
    assert spread([3.0]) == (3.0, 0.0)


def test_run_folders(tmp_path: Path) -> None:
    """Three seeds of one setting, one of which did not end, and one run of another; none was evaluated."""
    runs = [(16, 0, 40.0, "finished"), (16, 1, 42.0, "finished"), (16, 2, 9.0, "failed"), (32, 0, 50.0, "finished")]
    for bins, seed, best, status in runs:
        folder = tmp_path / f"bins-{bins}__seed-{seed}"
        folder.mkdir()
        (folder / "config.yaml").write_text(f"seed: {seed}\ntokenizer: {{bins: {bins}}}\n")
        (folder / "run.json").write_text(json.dumps({"status": status, "best": best}))
    assert run_values(tmp_path) == {"bins-16": [40.0, 42.0], "bins-32__seed-0": [50.0]}


def test_the_paper_s_rows_are_those_of_the_experiment() -> None:
    text = (EXPERIMENTS / "tab4_ablations/README.md").read_text()
    rows = re.findall(r"^\| \d+ \| `(\w+)`.*\| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    ours = [(row["ablation"], str(row["lasot AUC"]), str(row["got10k_test AO"])) for row in paper_ablations()]
    assert ours == rows


def test_training_sets_that_are_there(make_dataset, tmp_path: Path) -> None:
    made = make_dataset("lasot")
    (tmp_path / "sets").mkdir(exist_ok=True)
    (tmp_path / "sets/lasot").symlink_to(made.root)
    found, missing = training_sets(tmp_path / "sets")
    assert set(found) == {"generated", "lasot"}
    assert set(missing) == {"coco", "got10k", "trackingnet"}
    assert all("no folder" in reason for reason in missing.values())
